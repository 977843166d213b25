"""Uniform random scores: a control whose groups have the same sizes as a real scorer's but no meaning.

The score of token i of row r is drawn from a generator seeded with (seed, r's position in its set), so it depends on
neither chunking nor process count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenTable

VERSION = 1
SOURCE = "control asked for by the reviewers of arXiv 2506.15021"


class Options(MethodOptions):
    """Recipe options of `scoring: {name: random}`."""

    seed: int = Field(0, ge=0, description="Another seed gives other groups")


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that `score` reads."""
    return ("labels",), ()


def score(rows: TokenTable, fit_on: TokenTable, options: Options) -> Iterator[npt.NDArray[np.float32]]:
    """Scores of each chunk of `rows`: float32[N] in [0, 1), NaN where not supervised."""
    import numpy as np

    for chunk in rows.chunks():
        scores_N = np.empty(int(chunk.row_offsets[-1]), dtype=np.float32)
        for row in range(chunk.num_rows):
            generator = np.random.default_rng([options.seed, chunk.first_row + row])
            start, stop = chunk.row_offsets[row], chunk.row_offsets[row + 1]
            scores_N[start:stop] = generator.random(int(stop - start), dtype=np.float32)
        scores_N[~chunk.supervised] = np.nan
        yield scores_N
