"""How far groupings of the same rows agree: overlap of what they hold most important, and correlation of their ranks.

For two scorers, over the ranked tokens of all samples (those whose scores decide; see `grouping.ranked_tokens`), with
the most important groups A and B:

    overlap          = |A and B| / |A or B|                       Jaccard, pooled over all samples
    chance           = E / (|A| + |B| - E),  E = sum over samples of a b / n
                       what random groups of the same sizes would give: a, b tokens of n in each sample
    rank correlation = mean over samples of the correlation of the two scorers' mid-ranks (Spearman's rho, ties included)

Samples with fewer than three ranked tokens, or with equal scores throughout, have no rank correlation; they are left
out of its mean. Data are read chunk by chunk, so that a data set larger than memory is no obstacle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftgo_cli.columns import GROUP_IDS, LABELS, PINNED, TOKEN_SCORES
from sftgo_cli.data.rows import TokenTable
from sftgo_cli.grouping import SpecialTokens, ranked_tokens
from sftgo_cli.scoring.ranks import mid_ranks

if TYPE_CHECKING:
    from datasets import Dataset

MIN_RANKED = 3  # ranked tokens of a sample whose rank correlation says anything


@dataclass(frozen=True)
class PairAgreement:
    """Two scorers over all samples; None where nothing is defined."""

    first: str
    second: str
    overlap: float | None
    chance: float | None
    rank_correlation: float | None
    num_correlated: int  # samples that the correlation is the mean of


@dataclass(frozen=True)
class RowAgreement:
    """One sample: its number in the rows, and the overlap of every pair (1 where both groups are empty)."""

    row: int
    num_ranked: int
    overlaps: tuple[float, ...]

    @property
    def overlap(self) -> float:
        """The mean over the pairs."""
        return sum(self.overlaps) / len(self.overlaps)


@dataclass(frozen=True)
class Agreement:
    """All pairs in the order of the scorers, and the samples in which they agree least, the worst first."""

    num_rows: int
    num_ranked: int
    pairs: tuple[PairAgreement, ...]
    least: tuple[RowAgreement, ...]


@dataclass(frozen=True)
class _View:
    """A chunk of R samples with M ranked tokens as one scorer sees it."""

    top_M: npt.NDArray[np.bool_]  # in the most important group
    size_R: npt.NDArray[np.float64]  # its tokens
    centered_M: npt.NDArray[np.float64]  # mid-rank less the sample's mean
    spread_R: npt.NDArray[np.float64]  # sum of their squares


@dataclass
class _Sums:
    """Of one pair, over the chunks so far."""

    both: float = 0.0
    either: float = 0.0
    chance: float = 0.0
    correlation: float = 0.0
    num_correlated: int = 0


def agreement(
    views: Mapping[str, Sequence[Dataset]], num_groups: int, special_tokens: SpecialTokens, num_least: int = 5
) -> Agreement:
    """Compare every two of the scorers.

    Args:
        views: scorer -> the scored and grouped data sets; row r is the same row for all scorers.
        num_least: how many of the samples that agree least to name; of equal ones the longest come first.
    """
    pairs = list(combinations(views, 2))
    sums = [_Sums() for _ in pairs]
    num_rows = num_ranked = 0
    least: list[RowAgreement] = []
    for first_row, num_ranked_R, seen in _chunks(views, num_groups, special_tokens):
        row_M = np.repeat(np.arange(len(num_ranked_R)), num_ranked_R)
        overlaps = [
            _add(total, seen[first], seen[second], num_ranked_R, row_M)
            for total, (first, second) in zip(sums, pairs, strict=True)
        ]
        least = _least([*least, *_worst(first_row, num_ranked_R, np.stack(overlaps), num_least)], num_least)
        num_rows += len(num_ranked_R)
        num_ranked += int(num_ranked_R.sum())
    found = tuple(_pair(*names, total) for names, total in zip(pairs, sums, strict=True))
    return Agreement(num_rows, num_ranked, found, tuple(least))


def _chunks(
    views: Mapping[str, Sequence[Dataset]], num_groups: int, special_tokens: SpecialTokens
) -> Iterator[tuple[int, npt.NDArray[np.int64], dict[str, _View]]]:
    """First row, ranked tokens of every row, and the views of each chunk; chunks are those of the first scorer."""
    names = (LABELS, PINNED, TOKEN_SCORES, GROUP_IDS)
    tables = {label: TokenTable(datasets, names) for label, datasets in views.items()}
    lengths = {len(table) for table in tables.values()}
    if len(lengths) != 1:
        raise ValueError(f"the scorers have different numbers of rows: {sorted(lengths)}")
    for chunk in next(iter(tables.values())).chunks():
        ranked_N = ranked_tokens(chunk.supervised, chunk.columns[PINNED], special_tokens)
        before = np.concatenate([[0], np.cumsum(ranked_N, dtype=np.int64)])[chunk.row_offsets]
        num_ranked_R = np.diff(before)
        seen = {}
        for label, table in tables.items():
            columns = table.slice(chunk.first_row, chunk.first_row + chunk.num_rows).columns
            top_M = columns[GROUP_IDS][ranked_N] == num_groups - 1
            seen[label] = _view(columns[TOKEN_SCORES][ranked_N], top_M, num_ranked_R)
        yield chunk.first_row, num_ranked_R, seen


def _view(scores_M: npt.NDArray[np.float32], top_M: npt.NDArray[np.bool_], num_R: npt.NDArray[np.int64]) -> _View:
    row_M = np.repeat(np.arange(len(num_R)), num_R)
    centered_M = mid_ranks(scores_M, num_R) - np.repeat((num_R - 1) / 2.0, num_R)
    return _View(
        top_M=top_M,
        size_R=_row_sums(row_M, top_M, len(num_R)),
        centered_M=centered_M,
        spread_R=_row_sums(row_M, centered_M * centered_M, len(num_R)),
    )


def _row_sums(row_M: npt.NDArray[np.int64], values_M: npt.NDArray[Any], num_rows: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.bincount(row_M, weights=values_M, minlength=num_rows), dtype=np.float64)


def _add(
    total: _Sums, first: _View, second: _View, num_R: npt.NDArray[np.int64], row_M: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Add a chunk to a pair's sums; returns the overlap in every sample, float64[R]."""
    both_R = _row_sums(row_M, first.top_M & second.top_M, len(num_R))
    either_R = first.size_R + second.size_R - both_R
    total.both += float(both_R.sum())
    total.either += float(either_R.sum())
    total.chance += float((first.size_R * second.size_R / np.maximum(num_R, 1)).sum())
    product_R = _row_sums(row_M, first.centered_M * second.centered_M, len(num_R))
    spread_R = first.spread_R * second.spread_R
    defined_R = (num_R >= MIN_RANKED) & (spread_R > 0)
    total.correlation += float((product_R[defined_R] / np.sqrt(spread_R[defined_R])).sum())
    total.num_correlated += int(np.count_nonzero(defined_R))
    return np.where(either_R > 0, both_R / np.maximum(either_R, 1), 1.0)


def _worst(
    first_row: int, num_R: npt.NDArray[np.int64], overlaps_PR: npt.NDArray[np.float64], num_least: int
) -> list[RowAgreement]:
    order = np.lexsort((-num_R, overlaps_PR.mean(axis=0)))[:num_least]
    return [RowAgreement(first_row + int(r), int(num_R[r]), tuple(overlaps_PR[:, r].tolist())) for r in order]


def _least(rows: list[RowAgreement], num_least: int) -> list[RowAgreement]:
    return sorted(rows, key=lambda row: (row.overlap, -row.num_ranked, row.row))[:num_least]


def _pair(first: str, second: str, total: _Sums) -> PairAgreement:
    sizes = total.both + total.either  # |A| + |B|
    return PairAgreement(
        first=first,
        second=second,
        overlap=total.both / total.either if total.either else None,
        chance=total.chance / (sizes - total.chance) if sizes else None,
        rank_correlation=total.correlation / total.num_correlated if total.num_correlated else None,
        num_correlated=total.num_correlated,
    )
