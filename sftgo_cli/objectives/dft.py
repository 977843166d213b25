"""DFT, dynamic fine-tuning (arXiv 2508.05629): every token weighted by its own probability.

    loss = sum of r w sg(p) l / sum of r w        l = -log p(token | before), p = exp(-l), sg = stop-gradient

The gradient is that of -p: tokens that the model finds impossible no longer dominate it.
"""

from __future__ import annotations

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 2508.05629"


class Options(MethodOptions):
    """Recipe options of `objective: {name: dft}`: none."""


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; the denominator is that of cross-entropy."""
    nll_N = tokens.nll_N.double()
    return mean_over_tokens(tokens, step, (-nll_N).exp().detach() * nll_N)
