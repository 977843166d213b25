"""Focal loss (Lin et al. 2017, arXiv 1708.02002) for tokens: easy tokens weigh little, differentiated through the weight.

    loss = sum of r w (1 - p)^gamma l / sum of r w        1 - p = -expm1(-l)

gamma = 0 is cross-entropy. Between 0 and 1 the slope at p = 1 is infinite, so these values are refused.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 1708.02002, equation 4, per token"


class Options(MethodOptions):
    """Recipe options of `objective: {name: focal}`."""

    gamma: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        2.0, description="How much easy tokens lose: 0 (cross-entropy), or 1 and more"
    )

    @field_validator("gamma")
    @classmethod
    def _finite_slope(cls, value: float) -> float:
        if 0.0 < value < 1.0:
            raise ValueError("must be 0, or at least 1 (between them the slope at p = 1 is infinite)")
        return value


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; the denominator is that of cross-entropy."""
    import torch

    nll_N = tokens.nll_N.double()
    if options.gamma == 0.0:
        return mean_over_tokens(tokens, step, nll_N)
    return mean_over_tokens(tokens, step, (-torch.expm1(-nll_N)).clamp(min=0.0) ** options.gamma * nll_N)
