"""Weighted ranks of several scorers: a token is important where they, taken together, say so.

    r_i(t)   = mid_rank_i(t) / (n - 1)                       n ranked tokens of the sample; 1/2 where n = 1
    score(t) = sum over i of w_i r_i(t) / sum over i of w_i  in [0, 1]

mid_rank_i is the place of t among the sample's ranked tokens (supervised, not pinned) by scorer i, 0 for the lowest;
equal scores share the mean of their places. So scores of any scale and of heavy tails weigh the same: a scorer's say is
its weight alone. A pinned token, which the grouping as a rule does not rank, gets the same formula with its place among
all supervised tokens of the sample. The paper (SFT-GO, arXiv 2506.15021) uses one scorer at a time; the combination is
the Borda count of the scorers' rankings with weights [R].

Every part is scored and cached as if a recipe named it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from sftgo_cli.columns import LABELS, PINNED
from sftgo_cli.recipe.options import MethodOptions, MethodPart

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk

VERSION = 1
SOURCE = "Borda count over scorers, with weights; ours [R]"
PART_OPTIONS = ("scorers",)


class Options(MethodOptions):
    """Recipe options of `scoring: {name: combine}`."""

    scorers: list[MethodPart] = Field(
        min_length=2, description="Scorers with their options and a weight: [{name: tfidf, weight: 2.0}, ...]"
    )


def parts(options: Options) -> list[MethodPart]:
    """The scorers whose scores are combined."""
    return options.scorers


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that `combine` reads besides the parts' scores."""
    return (LABELS, PINNED), ()


def combine(
    chunk: TokenChunk, part_scores: Sequence[npt.NDArray[np.float32]], options: Options
) -> npt.NDArray[np.float32]:
    """The combined scores of a chunk, float32[N] in [0, 1], NaN where not supervised; sums in float64.

    Args:
        part_scores: float32[N] of every part, in the order of `parts`; finite where supervised.
    """
    import numpy as np

    supervised_N = chunk.supervised
    ranked_N = supervised_N & ~chunk.columns[PINNED]
    sums_N = np.where(supervised_N, 0.0, np.nan)
    for part, scores_N in zip(options.scorers, part_scores, strict=True):
        places_N = scaled_ranks(scores_N, supervised_N, chunk.row_offsets)
        places_N[ranked_N] = scaled_ranks(scores_N, ranked_N, chunk.row_offsets)[ranked_N]
        sums_N += part.weight * places_N
    return np.asarray(sums_N / sum(part.weight for part in options.scorers), dtype=np.float32)


def scaled_ranks(
    scores_N: npt.NDArray[np.float32], chosen_N: npt.NDArray[np.bool_], row_offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """float64[N] in [0, 1]: the mid-rank among the chosen tokens of the row over their number less one; NaN elsewhere."""
    import numpy as np

    from sftgo_cli.scoring.ranks import mid_ranks

    before = np.concatenate([[0], np.cumsum(chosen_N, dtype=np.int64)])[row_offsets]
    lengths_R = np.diff(before)
    span_M = np.repeat(lengths_R - 1, lengths_R)
    ranks_M = mid_ranks(scores_N[chosen_N], lengths_R)
    scaled_N = np.full(len(scores_N), np.nan)
    scaled_N[chosen_N] = np.where(span_M > 0, ranks_M / np.maximum(span_M, 1), 0.5)
    return scaled_N
