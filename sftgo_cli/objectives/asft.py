"""ASFT, anchored supervised fine-tuning (arXiv 2509.23753): DFT held to the base model by a KL divergence.

    loss = sum of r w (sg(p) l + c KL(reference || model)) / sum of r w
    KL   = sum over the vocabulary of p_ref (log p_ref - log p)        per token, nats, c = 0.1

The reference is a frozen model with the same vocabulary: by default the base model before training. It runs beside the
trained one, at the cost of a forward pass and of its weights in memory.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 2509.23753"


class Options(MethodOptions):
    """Recipe options of `objective: {name: asft}`."""

    kl_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        0.1, description="Weight of the divergence from the reference; 0 is DFT"
    )
    reference: str | None = Field(None, description="Hub id, folder, run or recipe of a run; null: the base model")


def head_terms(options: Options) -> tuple[str, ...]:
    """The divergence from the reference model."""
    return ("reference_kl",)


def reference(options: Options) -> str | None:
    """The frozen model; None is the base model."""
    return options.reference


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; one denominator for both parts, that of cross-entropy."""
    nll_N = tokens.nll_N.double()
    kl_N = tokens.terms["reference_kl"].double()
    return mean_over_tokens(tokens, step, (-nll_N).exp().detach() * nll_N + options.kl_weight * kl_N)
