"""EAFT, entropy-adaptive fine-tuning (arXiv 2601.02151): tokens at which the model is sure of itself weigh little.

    loss = sum of r w sg((H / 3)^alpha) l / sum of r w

H is the entropy in nats over the renormalized 20 likeliest tokens; 3 is about ln 20, its largest value. A confident model
that disagrees with the data (low entropy, high loss) is not forced to give up what it knows.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 2601.02151; top-20 entropy over 3"
LARGEST_ENTROPY = 3.0


class Options(MethodOptions):
    """Recipe options of `objective: {name: eaft}`."""

    alpha: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        1.0, description="Exponent of the relative entropy; 0 is cross-entropy"
    )


def head_terms(options: Options) -> tuple[str, ...]:
    """The entropy over the likeliest tokens."""
    return ("top_entropy",)


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; the denominator is that of cross-entropy."""
    relative_N = tokens.terms["top_entropy"].detach().double().clamp(min=0.0) / LARGEST_ENTROPY
    return mean_over_tokens(tokens, step, relative_N**options.alpha * tokens.nll_N.double())
