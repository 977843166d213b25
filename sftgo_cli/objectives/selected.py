"""Train only the tokens of some groups: static Rho-1 (arXiv 2404.07965), STM (2501.14315), Token Cleaning (2502.01968).

    loss = sum over tokens of the chosen groups of r w l / sum over the same tokens of r w

Both sums run over the whole optimizer step. A step without such a token has loss 0 and gradient 0.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.objectives.group_losses import (
    LocalTerms,
    Step,
    SupervisedTokens,
    cross_entropy_share,
    weighted_nll,
    worst_group_share,
)
from sftgo_cli.recipe.options import MethodOptions

SOURCE = "arXiv 2404.07965 with a static selection; arXiv 2501.14315; arXiv 2502.01968"


class Options(MethodOptions):
    """Recipe options of `objective: {name: selected}`."""

    groups: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: [1],
        min_length=1,
        description="Groups whose tokens are trained; 0 is the least important",
    )


def check(options: Options, num_groups: int) -> None:
    """Raises UserError when a group does not exist."""
    for group in options.groups:
        if group >= num_groups:
            raise UserError(
                f"there is no group {group}: grouping makes {num_groups}",
                "objective.groups",
                f"name groups from 0 to {num_groups - 1}",
            )


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share; the kept weight is known from the labels."""
    import torch

    kept = torch.tensor(sorted(set(options.groups)), device=tokens.group_ids_N.device)
    kept_weight = step.totals.group_weight_G[kept.to(step.totals.group_weight_G.device)].sum()
    kept_N = torch.isin(tokens.group_ids_N, kept)
    kept_sum = torch.where(kept_N, weighted_nll(tokens), 0.0).sum()
    return LocalTerms(
        loss=kept_sum / torch.where(kept_weight > 0, kept_weight, 1.0),
        ce_loss=cross_entropy_share(tokens, step.totals).detach(),
        worst_group_loss=worst_group_share(tokens, step.totals).detach(),
    )
