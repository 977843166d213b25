"""A step that would poison the weights: which rows and groups it was."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sftgo_cli.errors import DivergedError
from sftgo_cli.objectives.group_losses import SupervisedTokens

MAX_ROWS = 5


def diverged(norm: float, step: int, micro_batches: Sequence[tuple[list[str], SupervisedTokens]]) -> DivergedError:
    """Names this rank's rows of the step whose loss is not finite; every row of it where only gradients overflowed.

    Args:
        norm: the gradient norm that is not finite.
        micro_batches: row ids and tokens of each micro-batch of the step.
    """
    found = [(row_ids, tokens, ~torch.isfinite(tokens.nll_N)) for row_ids, tokens in micro_batches]
    if not any(bool(bad_N.any()) for _, _, bad_N in found):
        found = [(row_ids, tokens, torch.ones_like(bad_N)) for row_ids, tokens, bad_N in found]
    rows = [
        row_ids[sample] for row_ids, tokens, bad_N in found for sample in sorted(set(tokens.sample_N[bad_N].tolist()))
    ]
    groups = sorted({group for _, tokens, bad_N in found for group in tokens.group_ids_N[bad_N].tolist()})
    more = f" and {len(rows) - MAX_ROWS} more" if len(rows) > MAX_ROWS else ""
    return DivergedError(
        f"the gradient norm became {norm}; the step was not applied",
        f"step {step}, rows {', '.join(rows[:MAX_ROWS])}{more}, groups {', '.join(map(str, groups))}",
        "lower training.learning_rate, add warm-up, or look at those rows with sftgo inspect",
    )
