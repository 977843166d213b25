"""Beyond log-likelihood (arXiv 2510.00526): a family between -log p and -p, differentiated through p.

    loss = sum of r w (1 - p^a) / a / sum of r w = sum of r w (-expm1(-a l) / a) / sum of r w

a = 0 is l itself (cross-entropy), a = 1 is 1 - p, whose gradient is DFT's. Written with expm1: 1 - p^a would round to 0
for small l.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 2510.00526"


class Options(MethodOptions):
    """Recipe options of `objective: {name: beyond_ll}`."""

    alpha: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        1.0, description="0 is cross-entropy; 1 trusts the model's own probabilities; above 1 even more"
    )


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; the denominator is that of cross-entropy."""
    import torch

    nll_N = tokens.nll_N.double()
    if options.alpha == 0.0:
        return mean_over_tokens(tokens, step, nll_N)
    return mean_over_tokens(tokens, step, -torch.expm1(-options.alpha * nll_N) / options.alpha)
