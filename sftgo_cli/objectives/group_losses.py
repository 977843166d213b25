"""What every objective works on: a micro-batch's supervised tokens, the step's totals, and losses per sample and group.

Shapes: N supervised tokens of the micro-batch, S samples, G groups. Sums are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class StepTotals:
    """Sums over the whole optimizer step: every micro-batch and every rank. float64 scalars, and [G]."""

    weight: Tensor  # sum of row weight x token weight over supervised tokens
    row_weight: Tensor  # sum of row weights over samples
    num_samples: Tensor
    num_tokens: Tensor  # non-padding tokens, supervised or not
    group_weight_G: Tensor  # `weight` per group


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
    weights_N = tokens.token_weights_N * tokens.row_weights_S[tokens.sample_N]
    return weights_N * tokens.nll_N.double()


def cross_entropy_share(tokens: SupervisedTokens, totals: StepTotals) -> Tensor:
    """This micro-batch's share of CE = sum(r w l) / sum(r w), both sums over the whole step."""
    return weighted_nll(tokens).sum() / totals.weight


def group_losses(tokens: SupervisedTokens) -> Tensor:
    """L_k(x) = sum over S_k of w l / sum over S_k of w, float64[S, G]; -inf where a sample has no token of group k."""
    import torch

    num_samples = tokens.row_weights_S.shape[0]
    cell_N = tokens.sample_N * tokens.num_groups + tokens.group_ids_N
    size = num_samples * tokens.num_groups
    zeros = torch.zeros(size, dtype=torch.float64, device=tokens.nll_N.device)
    sum_C = zeros.index_add(0, cell_N, tokens.token_weights_N * tokens.nll_N.double())
    weight_C = zeros.index_add(0, cell_N, tokens.token_weights_N)
    filled_C = weight_C > 0
    loss_C = torch.where(filled_C, sum_C / torch.where(filled_C, weight_C, 1.0), -torch.inf)
    return loss_C.view(num_samples, tokens.num_groups)


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
        zeros_G = torch.zeros(tokens.num_groups, dtype=torch.float64, device=losses_SG.device)
        return GroupStatistics(
            worst_share_G=share_SG.sum(dim=0) / totals.num_samples,
            tied_share=(num_worst_S > 1).sum().double() / totals.num_samples,
            loss_sum_G=zeros_G.index_add(0, tokens.group_ids_N, weighted_nll(tokens).detach()),
            num_tokens_G=zeros_G.index_add(
                0, tokens.group_ids_N, torch.ones_like(tokens.group_ids_N, dtype=torch.float64)
            ),
        )
