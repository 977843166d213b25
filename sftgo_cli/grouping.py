"""token_scores -> group_ids: the grouping rules that every scorer shares.

With n ranked tokens and a cumulative fraction f from the top, the threshold is the k-th largest score,
k = max(1, ceil(f n - 1e-9)); a token is above the cut when score >= threshold, ties included. A token's group is the
number of cuts it is above: 0 = least important, G-1 = most important. Pinned tokens (special tokens, tokens without
characters, the end of turn) take a fixed group and are left out of n, unless `special_tokens` is "scored". The n tokens
are those of one sample (`group_tokens`) or of all training rows (`global_thresholds`); a threshold may also be a score
that the user gives (`score_bits`). Thresholds are compared as `ordered_bits`, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from sftgo_cli.columns import NO_GROUP

SpecialTokens = Literal["important", "unimportant", "scored"]


def ordered_bits(scores_N: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Map float32 to uint32 so that unsigned order equals numeric order (IEEE 754 sign-magnitude); -0.0 equals 0.0."""
    bits_N = (scores_N.astype(np.float32) + np.float32(0.0)).view(np.uint32)
    flip_N = np.where(bits_N >> np.uint32(31), np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return bits_N ^ flip_N


def num_above(cut: float, num_ranked_R: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """k = max(1, ceil(f n - 1e-9)) per row, in float64."""
    return np.maximum(1, np.ceil(cut * num_ranked_R.astype(np.float64) - 1e-9)).astype(np.int64)


def group_tokens(
    scores_N: npt.NDArray[np.float32],
    row_offsets: npt.NDArray[np.int64],
    supervised_N: npt.NDArray[np.bool_],
    pinned_N: npt.NDArray[np.bool_],
    cuts: list[float],
    special_tokens: SpecialTokens = "important",
    invert: bool = False,
) -> npt.NDArray[np.int8]:
    """Group ids of R rows laid out flat.

    Args:
        scores_N: importance, finite where supervised; anything (NaN) elsewhere.
        row_offsets: int64[R + 1], row r is tokens `row_offsets[r]:row_offsets[r + 1]`.
        supervised_N: tokens that have a group at all; the others get -1.
        pinned_N: tokens that `special_tokens` decides.
        cuts: cumulative fractions from the top, strictly increasing; G = len(cuts) + 1.
        invert: rank by the negated score (pinned tokens keep their group).

    Returns:
        int8[N] in -1..G-1. METHODS: SFT-GO (arXiv 2506.15021) section 3; the tie rule is ours [R].
    """
    num_rows = len(row_offsets) - 1
    row_N = np.repeat(np.arange(num_rows, dtype=np.uint64), np.diff(row_offsets))
    ranked_N = ranked_tokens(supervised_N, pinned_N, special_tokens)
    signed_N = -scores_N if invert else scores_N
    keys_M = (row_N[ranked_N] << np.uint64(32)) | ordered_bits(signed_N[ranked_N])
    num_ranked_R = np.bincount(row_N[ranked_N].astype(np.int64), minlength=num_rows)
    ends_R = np.cumsum(num_ranked_R)
    sorted_M = np.sort(keys_M)
    above_M = np.zeros(len(keys_M), dtype=np.int8)
    for cut in cuts:
        filled_R = num_ranked_R > 0
        threshold_R = np.zeros(num_rows, dtype=np.uint64)
        threshold_R[filled_R] = sorted_M[(ends_R - num_above(cut, num_ranked_R))[filled_R]]
        above_M += keys_M >= np.repeat(threshold_R, num_ranked_R)
    return _with_pinned(above_M, ranked_N, supervised_N & pinned_N, len(cuts), special_tokens)


def ranked_tokens(
    supervised_N: npt.NDArray[np.bool_], pinned_N: npt.NDArray[np.bool_], special_tokens: SpecialTokens
) -> npt.NDArray[np.bool_]:
    """bool[N]: the tokens whose scores decide: all supervised ones, without the pinned unless these are scored."""
    return supervised_N if special_tokens == "scored" else supervised_N & ~pinned_N


def group_by_thresholds(
    scores_N: npt.NDArray[np.float32],
    supervised_N: npt.NDArray[np.bool_],
    pinned_N: npt.NDArray[np.bool_],
    thresholds: Sequence[int],
    special_tokens: SpecialTokens = "important",
    invert: bool = False,
) -> npt.NDArray[np.int8]:
    """Group ids int8[N] in -1..G-1 where every sample has the same thresholds.

    group = number of thresholds t with ordered_bits(score) >= t, of the negated score when `invert`.

    Args:
        scores_N, supervised_N, pinned_N, special_tokens, invert: as in `group_tokens`.
        thresholds: `ordered_bits` of G-1 scores, in any order.
    """
    ranked_N = ranked_tokens(supervised_N, pinned_N, special_tokens)
    signed_M = -scores_N[ranked_N] if invert else scores_N[ranked_N]
    bits_M = ordered_bits(signed_M)
    above_M = np.zeros(len(bits_M), dtype=np.int8)
    for threshold in thresholds:
        above_M += bits_M >= np.uint32(threshold)
    return _with_pinned(above_M, ranked_N, supervised_N & pinned_N, len(thresholds), special_tokens)


def _with_pinned(
    above_M: npt.NDArray[np.int8],
    ranked_N: npt.NDArray[np.bool_],
    pinned_N: npt.NDArray[np.bool_],
    num_cuts: int,
    special_tokens: SpecialTokens,
) -> npt.NDArray[np.int8]:
    """int8[N]: the ranked tokens' groups, and the fixed one of the (supervised) pinned tokens."""
    groups_N = np.full(len(ranked_N), NO_GROUP, dtype=np.int8)
    groups_N[ranked_N] = above_M
    if special_tokens != "scored":
        groups_N[pinned_N] = num_cuts if special_tokens == "important" else 0
    return groups_N


def score_bits(threshold: float) -> int:
    """`ordered_bits` of a score that the user wrote: rounded to float32, as scores are, so 0.7 reaches 0.7."""
    with np.errstate(over="ignore"):  # beyond float32 it is infinite, which no finite score reaches
        return int(ordered_bits(np.array([threshold], dtype=np.float64).astype(np.float32))[0])


def score_of_bits(bits: int) -> float:
    """The score whose `ordered_bits` these are; NaN for bits that no score has."""
    plain = bits ^ 0x80000000 if bits & 0x80000000 else bits ^ 0xFFFFFFFF
    return float(np.array([plain], dtype=np.uint32).view(np.float32)[0])


def global_thresholds(chunks: Callable[[], Iterator[npt.NDArray[np.float32]]], cuts: Sequence[float]) -> list[int]:
    """`ordered_bits` of the k-th largest of all n scores for every cut, k = max(1, ceil(f n - 1e-9)).

    A radix selection: one pass counts the upper 16 bits of every score, a second one the lower 16 bits of the scores
    that share their upper bits with a threshold. Exact; memory is 512 KiB per cut and does not grow with n.

    Args:
        chunks: gives all ranked scores, finite and negated where they are inverted, in chunks; called twice.
        cuts: cumulative fractions from the top. Without any score (n = 0) the thresholds are above every score.
    """
    high_counts = np.zeros(1 << 16, dtype=np.int64)
    for scores in chunks():
        high_counts += np.bincount(ordered_bits(scores) >> np.uint32(16), minlength=1 << 16)
    num_ranked = int(high_counts.sum())
    if not num_ranked:
        return [0xFFFFFFFF] * len(cuts)
    ranks = [int(num_above(cut, np.array([num_ranked]))[0]) for cut in cuts]
    found = [_from_top(high_counts, rank) for rank in ranks]
    low_counts = {high: np.zeros(1 << 16, dtype=np.int64) for high, _ in found}
    for scores in chunks():
        bits = ordered_bits(scores)
        for high, counts in low_counts.items():
            low = bits[bits >> np.uint32(16) == high] & np.uint32(0xFFFF)
            counts += np.bincount(low, minlength=1 << 16)
    return [(high << 16) | _from_top(low_counts[high], rank)[0] for high, rank in found]


def _from_top(counts: npt.NDArray[np.int64], rank: int) -> tuple[int, int]:
    """The bin that holds the `rank`-th largest value, and the value's rank from the top within this bin."""
    above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(above, rank, side="left"))
    before = int(above[place - 1]) if place else 0
    return len(counts) - 1 - place, rank - before
