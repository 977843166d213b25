"""Rho-1's selective language modeling (arXiv 2404.07965), dynamic: train the tokens with the largest excess loss.

    excess = l - reference_nll                          l live, reference_nll of a frozen reference model, nats
    k      = max(1, ceil(keep_fraction n - 1e-9))       n supervised tokens of the step
    kept   = excess >= the k-th largest excess          ties included
    loss   = sum over kept of r w l / sum over kept of r w

`selection: step` is exact over all micro-batches and ranks; a step of several micro-batches is passed over once without
gradients to know the threshold. `selection: micro_batch` needs no such pass and is approximate: each micro-batch keeps
its own top share, and its mean enters the step by the weight of its tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sftgo_cli.columns import REFERENCE_NLL
from sftgo_cli.objectives.group_losses import (
    LocalTerms,
    Step,
    SupervisedTokens,
    cross_entropy_share,
    token_weights,
    worst_group_share,
)
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv 2404.07965; the whole optimizer step is the batch [R]"


class Options(MethodOptions):
    """Recipe options of `objective: {name: rho1}`."""

    reference: str | None = Field(
        None, description="Hub id, folder, run or recipe of a run; null: the reference that scoring used"
    )
    keep_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.6, description="Share of the step's tokens that is trained; the paper: 0.6 at 1B, 0.7 at 7B"
    )
    selection: Literal["step", "micro_batch"] = Field(
        "step", description="step: exact; micro_batch: approximate, without a second forward pass"
    )


def token_columns(options: Options) -> tuple[str, ...]:
    """The reference model's loss of every token."""
    return (REFERENCE_NLL,)


def reference(options: Options) -> str | None:
    """The model that `reference_nll` comes from; None where scoring computed it."""
    return options.reference


def needs_step(options: Options) -> bool:
    """Whether the threshold is that of the whole step."""
    return options.selection == "step"


def needs_micro_batch(options: Options) -> bool:
    """Whether the threshold is that of the micro-batch, whose losses must then all be there at once."""
    return options.selection == "micro_batch"


def local_statistics(tokens: SupervisedTokens, options: Options) -> Tensor:
    """Excess losses, then weights r w, of the micro-batch's tokens: float64[2 N]."""
    import torch

    excess_N = tokens.nll_N.detach().double() - tokens.columns[REFERENCE_NLL].double()
    return torch.cat([excess_N, token_weights(tokens)])


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share."""
    import torch

    own = local_statistics(tokens, options) if step.statistics is None else step.statistics.own
    parts = (own,) if step.statistics is None else step.statistics.parts
    halves = [part.view(2, -1) for part in parts]
    all_excess_M, all_weight_M = torch.cat(halves, dim=1)
    threshold = _threshold(all_excess_M, options.keep_fraction)
    kept_weight = torch.where(all_excess_M >= threshold, all_weight_M, 0.0).sum()
    kept_N = own.view(2, -1)[0] >= threshold
    kept_sum = torch.where(kept_N, token_weights(tokens) * tokens.nll_N.double(), 0.0).sum()
    share = kept_sum / torch.where(kept_weight > 0, kept_weight, 1.0)
    if step.statistics is None:  # a mean of this micro-batch alone: by its part of the step's weight
        share = share * token_weights(tokens).sum() / step.totals.weight
    return LocalTerms(
        loss=share,
        ce_loss=cross_entropy_share(tokens, step.totals).detach(),
        worst_group_loss=worst_group_share(tokens, step.totals).detach(),
    )


def _threshold(excess_M: Tensor, keep_fraction: float) -> Tensor:
    """The k-th largest value, k = max(1, ceil(f M - 1e-9)); infinity where there is none."""
    import math

    import torch

    number = excess_M.numel()
    if not number:
        return torch.full((), torch.inf, dtype=torch.float64, device=excess_M.device)
    kept = max(1, math.ceil(keep_fraction * number - 1e-9))
    return torch.kthvalue(excess_M, number - kept + 1).values
