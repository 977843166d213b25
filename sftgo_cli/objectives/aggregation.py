"""How the losses of a sample's (or a step's) groups become one worst-group loss W: max, softmax, cvar, given weights.

Arguments: losses_SG float64[S, G], -inf where a group is empty; weight_SG float64[S, G], the groups' weights (their sums
of token weights), 0 where empty. A row is a sample, or the whole step with `scope: step`. Results: float64[S] with the
gradient dW/dL_k >= 0 that sums to 1 over a row's groups; 0 for a row without a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def softmax(losses_SG: Tensor, temperature: float) -> Tensor:
    """W = tau log(mean over non-empty k of exp(L_k / tau)); gradient softmax(L / tau). tau -> 0: max, tau -> inf: mean.

    Computed as M + tau log1p(mean expm1((L_k - M) / tau)) with M = max L: the logarithm of nearly 1 stays exact for
    large tau, and nothing overflows for small tau.
    """
    import torch

    filled_SG = torch.isfinite(losses_SG)
    some_S = filled_SG.any(dim=1)
    top_S = torch.where(some_S, losses_SG.detach().amax(dim=1), 0.0)
    below_SG = torch.where(filled_SG, losses_SG, top_S[:, None]) - top_S[:, None]
    grown_SG = torch.where(filled_SG, torch.expm1(below_SG / temperature), 0.0)
    mean_S = grown_SG.sum(dim=1) / filled_SG.sum(dim=1).clamp(min=1)
    return torch.where(some_S, top_S + temperature * torch.log1p(mean_S), 0.0)


def cvar(losses_SG: Tensor, weight_SG: Tensor, alpha: float, order_SG: Tensor | None = None) -> Tensor:
    """W = sum q_k L_k: q is filled from the largest L_k with q_k <= f_k / alpha until it sums to 1.

    f_k is group k's share of the row's weight; equal losses share in proportion to f. alpha -> 0: max, alpha = 1: the
    token mean. `order_SG` orders the groups instead of the losses themselves. q is a constant for the gradient: W is
    the maximum over all such q, so dW/dL = q (envelope theorem).

        above_k = sum of f_j over L_j > L_k,  tie_k = sum of f_j over L_j = L_k
        q_k = f_k / tie_k * clamp(min(tie_k, alpha - above_k) / alpha, 0, 1)
    """
    import torch

    keys_SG = (losses_SG if order_SG is None else order_SG).detach()
    filled_SG = weight_SG > 0
    share_SG = weight_SG / weight_SG.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight_SG.dtype).tiny)
    mine_SG1, other_S1G = keys_SG[:, :, None], keys_SG[:, None, :]
    above_SG = torch.where(other_S1G > mine_SG1, share_SG[:, None, :], 0.0).sum(dim=2)
    tie_SG = torch.where(other_S1G == mine_SG1, share_SG[:, None, :], 0.0).sum(dim=2)
    filling_SG = (torch.minimum(tie_SG, alpha - above_SG) / alpha).clamp(min=0.0, max=1.0)
    q_SG = torch.where(filled_SG, share_SG / torch.where(filled_SG, tie_SG, 1.0) * filling_SG, 0.0)
    return weighted(losses_SG, q_SG)


def weighted(losses_SG: Tensor, q_SG: Tensor) -> Tensor:
    """W = sum over non-empty k of q_k L_k with constant q."""
    import torch

    return (q_SG * torch.where(torch.isfinite(losses_SG), losses_SG, 0.0)).sum(dim=1)


def grown_weights(q_G: Tensor, losses_G: Tensor, eta: float) -> Tensor:
    """The exponentiated-gradient update of Group DRO (Sagawa et al. 2020): q_k <- q_k exp(eta L_k), renormalized.

    A group without a token (losses_G -inf) keeps its q; the others share what they had together. float64[G]; computed
    in logarithms, so that no loss is too large.
    """
    import torch

    filled_G = torch.isfinite(losses_G)
    if not bool(filled_G.any()):
        return q_G
    grown_G = torch.where(filled_G, q_G.log() + eta * torch.where(filled_G, losses_G, 0.0), -torch.inf)
    mass = torch.where(filled_G, q_G, 0.0).sum()
    return torch.where(filled_G, mass * torch.softmax(grown_G, dim=0), q_G)
