"""Standard supervised fine-tuning: the token-mean cross-entropy over the whole optimizer step.

    CE = sum of r w l / sum of r w        r row weight, w token weight, l = -log p(token | before) in nats

The worst group's loss is computed for the log only.
"""

from __future__ import annotations

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "token-mean cross-entropy, as in every fine-tuning tool"


class Options(MethodOptions):
    """Recipe options of `objective: {name: cross_entropy}`: none."""


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share of CE; the shares of all micro-batches and ranks add up to CE."""
    return mean_over_tokens(tokens, step, tokens.nll_N)
