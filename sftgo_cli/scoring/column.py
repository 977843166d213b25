"""The user's own scores: a float per token, read from a column of the data.

The column holds one list per row, as long as the row's tokens before any cut (`sftgo inspect` prints them); it is cut
with the row. A missing column or a wrong length stops the preparation of the data; a score that is not finite stops here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenTable

VERSION = 1
SOURCE = "your data"


class Options(MethodOptions):
    """Recipe options of `scoring: {name: column}`."""

    column: str = Field("token_scores", description="Column with one score per token")


def source_columns(options: Options) -> tuple[str, ...]:
    """The columns of the data that must reach the tokenized rows."""
    return (options.column,)


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that `score` reads."""
    return ("labels", options.column), ("row_id",)


def score(rows: TokenTable, fit_on: TokenTable, options: Options) -> Iterator[npt.NDArray[np.float32]]:
    """Scores of each chunk of `rows`: float32[N], NaN where not supervised.

    Raises:
        UserError: a supervised token's score is NaN or infinite; names the row and the token.
    """
    import numpy as np

    for chunk in rows.chunks():
        scores_N = chunk.columns[options.column].astype(np.float32)
        bad = np.flatnonzero(chunk.supervised & ~np.isfinite(scores_N))
        if len(bad):
            row = int(np.searchsorted(chunk.row_offsets, bad[0], side="right")) - 1
            raise UserError(
                f"the score of token {int(bad[0] - chunk.row_offsets[row])} is {scores_N[bad[0]]}",
                f"row {rows.row(chunk.first_row + row)['row_id']}, column {options.column}",
                "give every supervised token a finite score",
            )
        yield np.where(chunk.supervised, scores_N, np.float32(np.nan))
