"""ProFit (arXiv 2601.09195): only tokens that the model already finds possible are trained.

    loss = sum of r w 1[p >= threshold] l / sum of r w        the indicator has no gradient

Masked tokens stay in the denominator, which is that of cross-entropy.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 2601.09195; threshold on the token's probability"


class Options(MethodOptions):
    """Recipe options of `objective: {name: profit}`."""

    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.1, description="Least probability of a token that is trained; 0 is cross-entropy"
    )


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share."""
    import torch

    nll_N = tokens.nll_N.double()
    return mean_over_tokens(tokens, step, torch.where((-nll_N.detach()).exp() >= options.threshold, nll_N, 0.0))
