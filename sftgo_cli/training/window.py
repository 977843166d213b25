"""Sums of what is logged between two logging steps, in float64, kept in the checkpoint.

Per-step quantities are this rank's shares (they add up over ranks and micro-batches to the step's value); one all-reduce
per logging step turns them into the window's means. The Trainer's own float32 running loss is not used.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from sftgo_cli.objectives.group_losses import GroupStatistics, LocalTerms, StepTotals

MEANS = ("loss", "ce_loss", "worst_group_loss", "tied_share")


class Window:
    """Running sums of one rank.

    Layout of the float64 vector: the four `MEANS`, then per group worst_group_share, loss sum, token count.
    """

    def __init__(self, num_groups: int, device: Any) -> None:
        import torch

        self.num_groups = num_groups
        self.local = torch.zeros(len(MEANS) + 3 * num_groups, dtype=torch.float64, device=device)
        self.group_weight_G = torch.zeros(num_groups, dtype=torch.float64)  # already summed over ranks
        self.num_steps = 0
        self.samples_seen = 0
        self.tokens_seen = 0
        self._tokens_at_start = 0
        self._started = time.perf_counter()

    def add_step(self, totals: StepTotals) -> None:
        """Count one optimizer step by its totals over all ranks."""
        self.group_weight_G += totals.group_weight_G.cpu()
        self.num_steps += 1
        self.samples_seen += int(totals.num_samples)
        self.tokens_seen += int(totals.num_tokens)

    def add_micro_batch(self, terms: LocalTerms, statistics: GroupStatistics) -> None:
        """Add one micro-batch's shares; stays on the device, no synchronization."""
        import torch

        means = torch.stack(
            [terms.loss.detach(), terms.ce_loss, terms.worst_group_loss, statistics.tied_share.to(terms.loss.dtype)]
        )
        groups = [statistics.worst_share_G, statistics.loss_sum_G, statistics.num_tokens_G]
        self.local += torch.cat([means, *groups])

    def close(self, all_reduce: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """The window's metrics over all ranks, and a new window begun. Undefined values are None."""
        values = all_reduce(self.local.clone()).cpu().tolist()
        groups = self.num_groups
        steps = self.num_steps
        metrics: dict[str, Any] = {
            name: (value / steps if steps else None) for name, value in zip(MEANS, values, strict=False)
        }
        shares, sums, counts = (
            values[len(MEANS) + part * groups : len(MEANS) + (part + 1) * groups] for part in range(3)
        )
        for group in range(groups):
            weight = float(self.group_weight_G[group])
            metrics[f"worst_group_share/{group}"] = shares[group] / steps if steps else None
            metrics[f"group_loss/{group}"] = sums[group] / weight if weight > 0 else None
            metrics[f"group_tokens/{group}"] = int(counts[group])
        seconds = time.perf_counter() - self._started
        metrics["tokens_per_second"] = (self.tokens_seen - self._tokens_at_start) / seconds if seconds > 0 else None
        metrics["samples_seen"], metrics["tokens_seen"] = self.samples_seen, self.tokens_seen
        self._begin()
        return metrics

    def _begin(self) -> None:
        self.local.zero_()
        self.group_weight_G.zero_()
        self.num_steps = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin timing now: after start-up, an evaluation or a checkpoint, which are not training time."""
        self._tokens_at_start = self.tokens_seen
        self._started = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """JSON state of this rank; floats survive JSON exactly."""
        return {
            "local": self.local.cpu().tolist(),
            "group_weight": self.group_weight_G.tolist(),
            "num_steps": self.num_steps,
            "samples_seen": self.samples_seen,
            "tokens_seen": self.tokens_seen,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state()`."""
        import torch

        self.local.copy_(torch.tensor(state["local"], dtype=torch.float64))
        self.group_weight_G.copy_(torch.tensor(state["group_weight"], dtype=torch.float64))
        self.num_steps = state["num_steps"]
        self.samples_seen = state["samples_seen"]
        self.tokens_seen = state["tokens_seen"]
        self.restart_clock()
