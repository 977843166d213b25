"""What every objective works on: a micro-batch's supervised tokens, the step's totals, and losses per sample and group.

Shapes: N supervised tokens of the micro-batch, S samples, G groups. Sums are float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SupervisedTokens:
    """The supervised tokens of one micro-batch, laid out flat."""

    nll_N: Tensor  # -log p(token), nats, float32 or float64; carries the graph
    group_ids_N: Tensor  # int64 in 0..G-1
    token_weights_N: Tensor  # float64, > 0
    sample_N: Tensor  # int64 in 0..S-1: which sample a token belongs to
    row_weights_S: Tensor  # float64, > 0
    num_groups: int
    terms: Mapping[str, Tensor] = field(default_factory=dict)  # [N] by name: the objective's `head_terms`
    columns: Mapping[str, Tensor] = field(default_factory=dict)  # [N] by name: the objective's `token_columns`
    row_columns: Mapping[str, Tensor] = field(default_factory=dict)  # [S] by name: its `row_columns`


@dataclass(frozen=True)
class StepTotals:
    """Sums over the whole optimizer step: every micro-batch and every rank. float64 scalars, and [G]."""

    weight: Tensor  # sum of row weight x token weight over supervised tokens
    row_weight: Tensor  # sum of row weights over samples
    num_samples: Tensor
    num_tokens: Tensor  # non-padding tokens, supervised or not
    group_weight_G: Tensor  # `weight` per group


@dataclass(frozen=True)
class StepStatistics:
    """What an objective's `local_statistics` found, before any token of the step has its weight. float64, no graph."""

    own: Tensor  # of this micro-batch
    parts: tuple[Tensor, ...]  # of every micro-batch of every rank, ranks first: the same on all ranks


@dataclass(frozen=True)
class Step:
    """What a micro-batch's loss knows of its optimizer step."""

    totals: StepTotals
    progress: float = 0.0  # completed steps / max(1, max_steps - 1), in [0, 1]
    state: Mapping[str, Tensor] = field(default_factory=dict)  # of the objective, as the step before left it
    statistics: StepStatistics | None = None  # where the objective needs the whole step


@dataclass(frozen=True)
class LocalTerms:
    """This micro-batch's share of the step's loss and of what is logged about it; shares add up over the step."""

    loss: Tensor  # float64 scalar with the graph: the sum over micro-batches and ranks is the objective
    ce_loss: Tensor  # detached share of the token-mean cross-entropy
    worst_group_loss: Tensor  # detached share of sum r W / sum r


@dataclass(frozen=True)
class GroupStatistics:
    """Counts and sums for the log, detached, of one micro-batch."""

    worst_share_G: Tensor  # samples whose worst group is k, ties split, over the step's samples
    tied_share: Tensor  # samples with more than one worst group, over the step's samples
    loss_sum_G: Tensor  # sum of weight x nll per group
    num_tokens_G: Tensor  # supervised tokens per group


def weighted_nll(tokens: SupervisedTokens) -> Tensor:
    """row weight x token weight x nll per token, float64[N]."""
    return token_weights(tokens) * tokens.nll_N.double()


def token_weights(tokens: SupervisedTokens) -> Tensor:
    """row weight x token weight, float64[N]."""
    return tokens.token_weights_N * tokens.row_weights_S[tokens.sample_N]


def cross_entropy_share(tokens: SupervisedTokens, totals: StepTotals) -> Tensor:
    """This micro-batch's share of CE = sum(r w l) / sum(r w), both sums over the whole step."""
    return weighted_nll(tokens).sum() / totals.weight


def worst_group_share(tokens: SupervisedTokens, totals: StepTotals) -> Tensor:
    """sum of r max_k L_k(x) over this micro-batch / sum of r over the step, float64 scalar."""
    return (tokens.row_weights_S * worst_group(group_losses(tokens))).sum() / totals.row_weight


def mean_over_tokens(tokens: SupervisedTokens, step: Step, loss_N: Tensor) -> LocalTerms:
    """sum of r w f / sum of r w with f = `loss_N`: how every objective ends whose tokens do not know of each other.

    The denominator is that of cross-entropy: no weight that depends on the model enters it.
    """
    loss = (token_weights(tokens) * loss_N.double()).sum() / step.totals.weight
    ce = cross_entropy_share(tokens, step.totals).detach()
    return LocalTerms(loss=loss, ce_loss=ce, worst_group_loss=worst_group_share(tokens, step.totals).detach())


def per_cell(tokens: SupervisedTokens, values_N: Tensor) -> Tensor:
    """Sums of the values per sample and group, float64[S, G]."""
    import torch

    num_samples = tokens.row_weights_S.shape[0]
    cell_N = tokens.sample_N * tokens.num_groups + tokens.group_ids_N
    zeros = torch.zeros(num_samples * tokens.num_groups, dtype=torch.float64, device=values_N.device)
    return zeros.index_add(0, cell_N, values_N).view(num_samples, tokens.num_groups)


def mean_where_filled(sum_SG: Tensor, weight_SG: Tensor) -> Tensor:
    """sum / weight, and -inf where the weight is 0: an empty group never enters a maximum."""
    import torch

    filled_SG = weight_SG > 0
    return torch.where(filled_SG, sum_SG / torch.where(filled_SG, weight_SG, 1.0), -torch.inf)


def group_losses(tokens: SupervisedTokens) -> Tensor:
    """L_k(x) = sum over S_k of w l / sum over S_k of w, float64[S, G]; -inf where a sample has no token of group k."""
    sum_SG = per_cell(tokens, tokens.token_weights_N * tokens.nll_N.double())
    return mean_where_filled(sum_SG, per_cell(tokens, tokens.token_weights_N))


def worst_group(losses_SG: Tensor) -> Tensor:
    """W(x) = max over non-empty k of L_k(x), float64[S]; exact ties share the gradient equally; 0 for an empty sample.

    `torch.amax` splits its gradient evenly among equal maxima (its documented difference from `max`).
    """
    import torch

    filled_S = torch.isfinite(losses_SG).any(dim=1)
    return torch.where(filled_S, torch.where(filled_S[:, None], losses_SG, 0.0).amax(dim=1), 0.0)


def statistics(tokens: SupervisedTokens, totals: StepTotals) -> GroupStatistics:
    """What the log says about groups, from the same losses as the objective; no gradient."""
    import torch

    with torch.no_grad():
        losses_SG = group_losses(tokens)
        filled_S = torch.isfinite(losses_SG).any(dim=1)
        worst_SG = (losses_SG == losses_SG.amax(dim=1, keepdim=True)) & filled_S[:, None]
        num_worst_S = worst_SG.sum(dim=1)
        share_SG = worst_SG.double() / num_worst_S.clamp(min=1)[:, None]
        return GroupStatistics(
            worst_share_G=share_SG.sum(dim=0) / totals.num_samples,
            tied_share=(num_worst_S > 1).sum().double() / totals.num_samples,
            loss_sum_G=per_group(tokens, weighted_nll(tokens)),
            num_tokens_G=per_group(tokens, torch.ones_like(tokens.token_weights_N)),
        )


def per_group(tokens: SupervisedTokens, values_N: Tensor) -> Tensor:
    """Sums of the values per group over the whole micro-batch, float64[G]."""
    import torch

    zeros_G = torch.zeros(tokens.num_groups, dtype=torch.float64, device=values_N.device)
    return zeros_G.index_add(0, tokens.group_ids_N, values_N)
