"""Standard supervised fine-tuning: the token-mean cross-entropy over the whole optimizer step.

    CE = sum of r w l / sum of r w        r row weight, w token weight, l = -log p(token | before) in nats

The worst group's loss is computed for the log only.
"""

from __future__ import annotations

from sftgo_cli.objectives.group_losses import (
    LocalTerms,
    StepTotals,
    SupervisedTokens,
    cross_entropy_share,
    group_losses,
    worst_group,
)
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "token-mean cross-entropy, as in every fine-tuning tool"


class Options(MethodOptions):
    """Recipe options of `objective: {name: cross_entropy}`: none."""


def mixing_weight(options: Options, progress: float) -> float:
    """Always 0: no part of the loss is the worst group's."""
    return 0.0


def local_loss(tokens: SupervisedTokens, totals: StepTotals, options: Options, progress: float) -> LocalTerms:
    """This micro-batch's share of CE; the shares of all micro-batches and ranks add up to CE."""
    ce = cross_entropy_share(tokens, totals)
    worst = (tokens.row_weights_S * worst_group(group_losses(tokens)).detach()).sum() / totals.row_weight
    return LocalTerms(loss=ce, ce_loss=ce.detach(), worst_group_loss=worst.detach())
