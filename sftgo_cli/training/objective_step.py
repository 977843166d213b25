"""The chosen objective while it trains: its state, and the optimizer step under way.

Most objectives know each token's weight from the step's totals. One that needs the whole step (`needs_step`) gets the
statistics of all micro-batches of all ranks: gathered between the head's forward and the backward pass when a step is
one micro-batch, and from a pass without gradients over the step's micro-batches otherwise (the trainer runs it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.errors import StateError
from sftgo_cli.losses.fused_head import Weighing
from sftgo_cli.objectives.group_losses import (
    LocalTerms,
    Step,
    StepStatistics,
    StepTotals,
    SupervisedTokens,
    mean_where_filled,
    per_group,
    weighted_nll,
)
from sftgo_cli.objectives.micro_batch import part_of, supervised_tokens
from sftgo_cli.objectives.training_facts import TrainingFacts
from sftgo_cli.recipe.options import MethodOptions


def asked(module: ModuleType, function: str, options: MethodOptions) -> tuple[str, ...]:
    """What an objective's optional function names, or nothing where it has none."""
    return tuple(getattr(module, function)(options)) if hasattr(module, function) else ()


class StepObjective:
    """Module, options and state of the objective; `begin` opens a step, `micro_batch` takes it on."""

    def __init__(
        self, module: ModuleType, options: MethodOptions, num_groups: int, facts: TrainingFacts, reference: Any = None
    ) -> None:
        self.module = module
        self.options = options
        self.num_groups = num_groups
        self.reference = reference  # a frozen model with its loss head attached, or None
        self.compile_tiles = False
        self.head_terms = asked(module, "head_terms", options)
        self.token_columns = asked(module, "token_columns", options)
        self.row_columns = asked(module, "source_row_columns", options)
        self.state: dict[str, Tensor] = {}
        if hasattr(module, "initial_state"):
            self.state = module.initial_state(options, num_groups, facts)
        self._needs_step = bool(hasattr(module, "needs_step") and module.needs_step(options))
        self._at_once = self._needs_step or bool(
            hasattr(module, "needs_micro_batch") and module.needs_micro_batch(options)
        )
        self._own: list[Tensor] = []
        self._parts: tuple[Tensor, ...] = ()

    def begin(self, totals: StepTotals, progress: float, num_micro_batches: int) -> None:
        """Open a step of so many micro-batches on this rank (the same number on every rank)."""
        self._totals, self._progress, self._left = totals, progress, num_micro_batches
        self._own, self._parts, self._done = [], (), 0
        self._group_sum_G = torch.zeros(self.num_groups, dtype=torch.float64, device=totals.weight.device)

    @property
    def at_once(self) -> bool:
        """Whether all losses of a micro-batch are needed before any token's weight is known."""
        return self._at_once

    @property
    def needs_pre_pass(self) -> bool:
        """Whether the step under way must be passed over without gradients first."""
        return self._needs_step and self._left > 1

    def tokens(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> SupervisedTokens:
        """The micro-batch as the objective sees it."""
        return supervised_tokens(outputs, batch, self.num_groups, self.token_columns, self.row_columns)

    def observe(self, tokens: SupervisedTokens) -> None:
        """Take a micro-batch's statistics, in order."""
        with torch.no_grad():
            self._own.append(self.module.local_statistics(tokens, self.options).double())

    def share_statistics(self) -> None:
        """Exchange the statistics of all micro-batches observed so far between the ranks."""
        self._parts = gathered(self._own)

    def micro_batch(self, batch: Mapping[str, Any], scale: float = 1.0) -> MicroBatch:
        """The step's next micro-batch, to be handed to the loss head."""
        nothing = torch.empty(0, device=batch["labels"].device)
        return MicroBatch(self, self.tokens({"nll": nothing}, batch), batch["sample_ends"], scale)

    def local_loss(self, tokens: SupervisedTokens) -> LocalTerms:
        """The share of some samples of the micro-batch under way; all of them where the whole step is needed."""
        if self._needs_step and not self._parts:
            self.observe(tokens)
            self.share_statistics()
        statistics = StepStatistics(self._own[self._done], self._parts) if self._needs_step else None
        terms: LocalTerms = self.module.local_loss(
            tokens, Step(self._totals, self._progress, self.state, statistics), self.options
        )
        return terms

    def finish_micro_batch(self, tokens: SupervisedTokens, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """After the step's last micro-batch the objective's state moves on."""
        self._done += 1
        self._left -= 1
        if self.state and hasattr(self.module, "next_state"):
            self._group_sum_G += per_group(tokens, weighted_nll(tokens)).detach()
            if self._left == 0:
                losses_G = mean_where_filled(all_reduce(self._group_sum_G), self._totals.group_weight_G).cpu()
                self.state = self.module.next_state(self.state, losses_G, self.options)

    def mixing_weight(self, progress: float) -> float:
        """For the log; 0 for objectives that mix nothing."""
        if not hasattr(self.module, "mixing_weight"):
            return 0.0
        return float(self.module.mixing_weight(self.options, progress))

    def saved_state(self) -> dict[str, list[float]]:
        """JSON; float64 survives exactly."""
        return {name: value.tolist() for name, value in self.state.items()}

    def load_state(self, saved: Mapping[str, Sequence[float]]) -> None:
        """Restore `saved_state()`.

        Raises:
            StateError: it is not the state of this objective.
        """
        if saved.keys() != self.state.keys():
            raise StateError(
                f"the checkpoint has the objective's {', '.join(saved) or 'nothing'}, this one keeps "
                f"{', '.join(self.state) or 'nothing'}",
                "objective",
                "continue with the version of sftgo that wrote it, or start a new run",
            )
        self.state = {name: torch.tensor(value, dtype=torch.float64) for name, value in saved.items()}


class MicroBatch:
    """One micro-batch on its way through the loss head: the weighing that the head asks, and what that added up to."""

    def __init__(self, objective: StepObjective, tokens: SupervisedTokens, ends: Sequence[int], scale: float) -> None:
        self._objective = objective
        self._tokens = tokens  # without losses
        self._ends = ends
        self._parts: list[LocalTerms] = []
        self.weighing = Weighing(
            ends=ends,
            loss_of=self._loss_of,
            at_once=objective.at_once,
            scale=scale,
            terms=objective.head_terms,
            compile_tiles=objective.compile_tiles,
        )

    def _loss_of(self, start: int, stop: int, terms: Mapping[str, Tensor]) -> Tensor:
        part = self._objective.local_loss(part_of(self._tokens, self._ends, start, stop, terms))
        self._parts.append(replace(part, loss=part.loss.detach()))
        return part.loss

    def terms(self) -> LocalTerms:
        """The sums over the parts, without a graph."""
        zero = torch.zeros((), dtype=torch.float64, device=self._tokens.token_weights_N.device)
        sums = {field.name: zero for field in fields(LocalTerms)}
        for part in self._parts:
            sums = {name: total + getattr(part, name) for name, total in sums.items()}
        return LocalTerms(**sums)

    def tokens(self, nll_N: Tensor) -> SupervisedTokens:
        """All tokens of the micro-batch with their losses."""
        return replace(self._tokens, nll_N=nll_N)


def gathered(own: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The float64 vectors of every rank, ranks first; their number is the same on every rank, their lengths are not."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return tuple(own)
    world = torch.distributed.get_world_size()
    sizes = torch.tensor([part.numel() for part in own], device=own[0].device)
    all_sizes = [torch.empty_like(sizes) for _ in range(world)]
    torch.distributed.all_gather(all_sizes, sizes)
    longest = max(int(sizes_R.sum()) for sizes_R in all_sizes)
    padded = torch.zeros(longest, dtype=torch.float64, device=own[0].device)
    flat = torch.cat([part.flatten() for part in own])
    padded[: flat.numel()] = flat
    everything = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(everything, padded)
    return tuple(
        part
        for values, sizes_R in zip(everything, all_sizes, strict=True)
        for part in torch.split(values[: int(sizes_R.sum())], sizes_R.tolist())
    )
