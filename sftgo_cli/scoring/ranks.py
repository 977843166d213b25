"""Ranks of scores within each row: what scores of different scales have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sftgo_cli.grouping import ordered_bits


def mid_ranks(scores_M: npt.NDArray[np.float32], lengths_R: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The rank of each score in its row, from 0 (the lowest); equal scores share the mean of their ranks.

    Args:
        scores_M: finite scores of R rows, one row after the other.
        lengths_R: int64[R], scores of every row.

    Returns:
        float64[M] in 0 .. length of the row - 1; their mean over a row is (length - 1) / 2.
    """
    starts_R = np.cumsum(lengths_R) - lengths_R
    row_M = np.repeat(np.arange(len(lengths_R), dtype=np.uint64), lengths_R)
    keys_M = (row_M << np.uint64(32)) | ordered_bits(scores_M)
    order_M = np.argsort(keys_M)
    sorted_M = keys_M[order_M]
    first_K = np.flatnonzero(np.concatenate([[True], sorted_M[1:] != sorted_M[:-1]])[: len(sorted_M)])
    ties_K = np.diff(np.append(first_K, len(sorted_M)))
    row_K = (sorted_M[first_K] >> np.uint64(32)).astype(np.int64)
    ranks_M = np.empty(len(sorted_M))
    ranks_M[order_M] = np.repeat(first_K - starts_R[row_K] + (ties_K - 1) / 2.0, ties_K)
    return ranks_M
