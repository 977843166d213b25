"""token_scores -> group_ids: the grouping rule that every scorer shares.

Per sample, with n ranked tokens and a cumulative fraction f from the top, the threshold is the k-th largest score,
k = max(1, ceil(f n - 1e-9)); a token is above the cut when score >= threshold, ties included. A token's group is the
number of cuts it is above: 0 = least important, G-1 = most important. Pinned tokens (special tokens, tokens without
characters, the end of turn) take a fixed group and are left out of n, unless `special_tokens` is "scored".
"""

from __future__ import annotations

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
    ranked_N = supervised_N if special_tokens == "scored" else supervised_N & ~pinned_N
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
    groups_N = np.full(len(scores_N), NO_GROUP, dtype=np.int8)
    groups_N[ranked_N] = above_M
    if special_tokens != "scored":
        groups_N[supervised_N & pinned_N] = len(cuts) if special_tokens == "important" else 0
    return groups_N
