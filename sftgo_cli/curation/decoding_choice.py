"""Which token comes next, greedily or sampled, with a random stream per row; and whether it was a close call.

    greedy:   argmax_v z_v
    sampled:  argmax_{v kept} z_v / temperature - log E_v,    E_v ~ Exp(1), one draw per token of the vocabulary and step

The second is a draw from softmax(z / temperature) over the kept tokens (Gumbel-max). Its noise depends on the row's seed
and the number of the step alone, and rounding changes the winner only where two sums nearly tie - a cumulative
distribution, the other way to draw, would have a border between every two tokens. Kept are, as in transformers, the
`top_k` largest, and of these the fewest whose probabilities before them add up to less than `top_p`.

A step is a near tie [R] when logits that differ by up to tolerance = TOLERANCE[dtype] * max(1, |z_winner|) could give
another winner: another token's sum is that near, or the winner is that near to being cut off by `top_k` or `top_p`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}
FIRST_LOOK = 1024  # so many of the largest logits are sorted for top_p; all, where they do not hold enough


@dataclass(frozen=True)
class Sampling:
    """How to choose; temperature 0 is greedy."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0


def random_stream(seed: int, device: torch.device) -> torch.Generator:
    """The stream of one row. The seed is hashed, for the CPU's generator reads only 32 bits of it."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little"))


@torch.inference_mode()
def choose(
    logits_RV: Tensor, streams: Sequence[torch.Generator | None], sampling: Sampling, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(int64[R], bool[R]): the chosen tokens, and where that was a near tie.

    Args:
        logits_RV: float32, at temperature 1.
        streams: one per row, advanced by one step; None: the row's choice is not needed. Not read when greedy.
        dtype: the model's compute type, in which its logits were rounded.
    """
    tolerance = TOLERANCE[dtype]
    if sampling.temperature == 0:
        best_R, tokens_R = logits_RV.max(dim=-1)
        close_R = tolerance * best_R.abs().clamp(min=1)
        return tokens_R, (logits_RV >= (best_R - close_R)[:, None]).sum(-1) > 1
    scaled_RV = logits_RV / sampling.temperature
    noise_RV = torch.ones_like(scaled_RV)
    for noise_V, stream in zip(noise_RV, streams, strict=True):
        if stream is not None:
            noise_V.exponential_(generator=stream)
    sums_RV = scaled_RV - noise_RV.log_()
    close_R = tolerance * logits_RV.amax(-1).abs().clamp(min=1) / sampling.temperature
    borders = _borders(scaled_RV, close_R, sampling)
    if borders is None:
        best_R, tokens_R = sums_RV.max(dim=-1)
        return tokens_R, (sums_RV >= (best_R - close_R)[:, None]).sum(-1) > 1
    exact_R1, loose_R1, strict_R1 = borders
    best_R, tokens_R = sums_RV.masked_fill(scaled_RV < exact_R1, -torch.inf).max(dim=-1)
    rivals_RV = (sums_RV >= (best_R - close_R)[:, None]) & (scaled_RV >= loose_R1)
    unsure_R1 = scaled_RV.gather(-1, tokens_R[:, None]) < strict_R1
    return tokens_R, (rivals_RV.sum(-1) > 1) | unsure_R1[:, 0]


def _borders(scaled_RV: Tensor, close_R: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor] | None:
    """The smallest logit that is kept, that might be kept, and that is kept for certain, [R, 1] each; None: all are."""
    vocabulary = scaled_RV.shape[-1]
    top_k = None if sampling.top_k is None or sampling.top_k >= vocabulary else sampling.top_k
    close_R1 = close_R[:, None]
    if sampling.top_p >= 1:
        if top_k is None:
            return None
        sorted_RN = scaled_RV.topk(top_k + 1).values
        return sorted_RN[:, -2:-1], sorted_RN[:, -2:-1] - close_R1, sorted_RN[:, -1:] + close_R1
    if top_k is None:
        total_R1 = scaled_RV.double().logsumexp(-1, keepdim=True)
        sorted_RN = scaled_RV.topk(min(FIRST_LOOK, vocabulary)).values
        covered = bool(((sorted_RN.double() - total_R1).exp().sum(-1) >= sampling.top_p + close_R).all())
        if not covered:
            sorted_RN = scaled_RV.sort(descending=True).values
        next_R1 = torch.full_like(close_R1, -torch.inf)
    else:
        largest_RN = scaled_RV.topk(top_k + 1).values
        sorted_RN, next_R1 = largest_RN[:, :-1], largest_RN[:, -1:]
        total_R1 = sorted_RN.double().logsumexp(-1, keepdim=True)
    shares_RN = (sorted_RN.double() - total_R1).exp()
    before_RN = shares_RN.cumsum(-1) - shares_RN

    def smallest(limit_R1: Tensor | float) -> Tensor:
        kept_R1 = (before_RN < limit_R1).sum(-1, keepdim=True).clamp(min=1)  # the most likely token always is
        return sorted_RN.gather(-1, kept_R1 - 1)

    loose_R1 = smallest(sampling.top_p + close_R1) - close_R1
    strict_R1 = torch.maximum(smallest(sampling.top_p - close_R1), next_R1 + close_R1)
    return smallest(sampling.top_p), loose_R1, strict_R1
