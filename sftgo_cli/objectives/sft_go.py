"""SFT-GO (arXiv 2506.15021): train the worst token group of each sample together with cross-entropy.

    L_k(x) = sum over S_k of w l / sum over S_k of w          l = -log p(token | before), nats
    W(x)   = max over non-empty k of L_k(x)                   exact ties share the gradient equally
    CE     = sum of r w l / sum of r w                        over the whole optimizer step
    L      = (1 - m) CE + m (sum of r W(x) / sum of r)        m = mixing_weight

The paper: two groups, m = 0.9, hard max, an optional decay of m. Ours [R]: a group's loss is the mean over its tokens (a
max of sums would pick the larger group), the max is per sample, and both normalizers run over the whole optimizer step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sftgo_cli.objectives.group_losses import (
    LocalTerms,
    StepTotals,
    SupervisedTokens,
    cross_entropy_share,
    group_losses,
    worst_group,
)
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv 2506.15021, equations 3-5; group mean and per-sample max [R]"


class Options(MethodOptions):
    """Recipe options of `objective: {name: sft_go}`."""

    mixing_weight: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.9, description="The paper's lambda: weight of the worst group's loss; 0 is plain SFT"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="How the mixing weight moves")
    mixing_weight_end: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0, description="Mixing weight of the last step, for linear and cosine; may be above the first"
    )


def mixing_weight(options: Options, progress: float) -> float:
    """The mixing weight at `progress` = completed steps / max(1, max_steps - 1), in [0, 1].

    linear: m0 + (m1 - m0) p; cosine: m1 + (m0 - m1) (1 + cos(pi p)) / 2.
    """
    start, end = options.mixing_weight, options.mixing_weight_end
    if options.schedule == "constant":
        return start
    if options.schedule == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def local_loss(tokens: SupervisedTokens, totals: StepTotals, options: Options, progress: float) -> LocalTerms:
    """This micro-batch's share of L; the shares of all micro-batches and ranks add up to L."""
    mixing = mixing_weight(options, progress)
    ce = cross_entropy_share(tokens, totals)
    worst = worst_group_share(tokens, totals)
    return LocalTerms(loss=(1.0 - mixing) * ce + mixing * worst, ce_loss=ce.detach(), worst_group_loss=worst.detach())


def worst_group_share(tokens: SupervisedTokens, totals: StepTotals) -> Tensor:
    """sum of r W(x) over this micro-batch / sum of r over the step, float64 scalar."""
    return (tokens.row_weights_S * worst_group(group_losses(tokens))).sum() / totals.row_weight
