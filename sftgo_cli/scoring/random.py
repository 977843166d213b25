"""Uniform random scores: a control whose groups have the same sizes as a real scorer's but no meaning.

The scores of a row are drawn from a generator seeded with a hash of (seed, the source's name, the row's id), so they
depend on neither chunking nor process count, and rows of different sources and sets differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenTable

VERSION = 2
SOURCE = "control asked for by the reviewers of arXiv 2506.15021"


class Options(MethodOptions):
    """Recipe options of `scoring: {name: random}`."""

    seed: int = Field(0, ge=0, description="Another seed gives other groups")


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that `score` reads."""
    return ("labels",), ("row_id", "source")


def score(rows: TokenTable, fit_on: TokenTable, options: Options) -> Iterator[npt.NDArray[np.float32]]:
    """Scores of each chunk of `rows`: float32[N] in [0, 1), NaN where not supervised."""
    import numpy as np

    for chunk in rows.chunks():
        scores_N = np.empty(int(chunk.row_offsets[-1]), dtype=np.float32)
        for row in range(chunk.num_rows):
            name = f"{options.seed}\0{chunk.columns['source'][row]}\0{chunk.columns['row_id'][row]}"
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
            generator = np.random.default_rng(seed)
            start, stop = chunk.row_offsets[row], chunk.row_offsets[row + 1]
            scores_N[start:stop] = generator.random(int(stop - start), dtype=np.float32)
        scores_N[~chunk.supervised] = np.nan
        yield scores_N
