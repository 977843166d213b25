"""UAL, uncertainty-aware learning (arXiv 2406.04854): label smoothing that grows with a sample's uncertainty.

    v    = min(s U / mean U, (V - 1) / V)                    s = 0.1; U >= 0, one number per row of the data [R]
    loss = sum of r w ((1 - e) l + e u) / sum of r w         e = v V / (V - 1),  u = logsumexp(z) - mean(z)

which is cross-entropy against 1 - v on the token and v / (V - 1) on each of the V - 1 others. mean U is that of the
training rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.objectives.group_losses import LocalTerms, Step, SupervisedTokens, mean_over_tokens
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    from torch import Tensor

    from sftgo_cli.objectives.training_facts import TrainingFacts

SOURCE = "arXiv 2406.04854; scale and cap of the smoothing [R]"


class Options(MethodOptions):
    """Recipe options of `objective: {name: ual}`."""

    column: str = Field("uncertainty", description="Column of the data with one number >= 0 per row")
    smoothing: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.1, description="Smoothing of a row of average uncertainty; 0 is cross-entropy"
    )


def head_terms(options: Options) -> tuple[str, ...]:
    """The loss against the uniform distribution."""
    return ("uniform_nll",)


def source_row_columns(options: Options) -> tuple[str, ...]:
    """The column of the data with the rows' uncertainty."""
    return (options.column,)


def initial_state(options: Options, num_groups: int, facts: TrainingFacts) -> dict[str, Tensor]:
    """What does not change: the mean uncertainty and the vocabulary's size.

    Raises:
        UserError: an uncertainty is negative.
    """
    import torch

    values_R = facts.row_values(options.column)
    if len(values_R) and float(values_R.min()) < 0.0:
        raise UserError(
            f"an uncertainty is negative ({values_R.min():g})", f"column {options.column}", "give numbers of 0 and more"
        )
    mean = float(values_R.mean()) if len(values_R) else 0.0
    return {"mean": torch.tensor([mean], dtype=torch.float64), "size": torch.tensor([float(facts.vocab_size)]).double()}


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; the denominator is that of cross-entropy."""
    nll_N, uniform_N = tokens.nll_N.double(), tokens.terms["uniform_nll"].double()
    mean, size = float(step.state["mean"]), float(step.state["size"])
    relative_S = tokens.row_columns[options.column] / mean if mean > 0.0 else tokens.row_columns[options.column]
    smoothing_S = (options.smoothing * relative_S).clamp(max=(size - 1.0) / size) * size / (size - 1.0)
    share_N = smoothing_S[tokens.sample_N]
    return mean_over_tokens(tokens, step, (1.0 - share_N) * nll_N + share_N * uniform_N)
