"""What a scorer promises about its numbers, checked before anything of them is written.

A score that is NaN would sort above all others and make its token important, unsaid; a wrong length would shift every
score behind it. So every scorer's output, of whatever kind, passes through here: float32, one number per token, finite
where the token is supervised (NaN elsewhere).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sftgo_cli.columns import ROW_ID, TOKEN_SCORES
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

    from sftgo_cli.data.rows import TokenChunk, TokenTable

    Scores = npt.NDArray[np.float32]

NOT_FINITE = "a scorer must give every supervised token a finite number: correct the scorer, or what it reads"
MODEL_NOT_FINITE = "a model's weights or the compute type are at fault: try scoring.dtype: float32"


def checked_chunks(
    scorer: str, outputs: Any, table: TokenTable, dataset: Dataset
) -> Iterator[tuple[npt.NDArray[np.int64], Scores]]:
    """(row offsets, scores) of every chunk of a table with the column `labels`, for `write_column`.

    Args:
        outputs: what the scorer's `score` returned: one array per chunk.
        dataset: the table's rows, for their ids.

    Raises:
        UserError: fewer or more arrays than chunks, or an array that is not what the scorer promised.
    """
    if not isinstance(outputs, Iterable):
        raise UserError(
            f"{scorer} returned {type(outputs).__name__}, not one array per chunk", "its function score", "use yield"
        )
    arrays = iter(outputs)
    num_chunks = 0
    for num_chunks, chunk in enumerate(table.chunks(), 1):
        values = next(arrays, None)
        if values is None:
            raise UserError(
                f"{scorer} gave {num_chunks - 1} arrays and has no scores for the rest",
                f"rows {rows_text(chunk, dataset)}",
                "yield one float32 array for every chunk of rows.chunks()",
            )
        check_scores(scorer, TOKEN_SCORES, values, chunk, dataset, NOT_FINITE)
        yield chunk.row_offsets, values
    if next(arrays, None) is not None:
        raise UserError(
            f"{scorer} gave more than the {num_chunks} arrays that there are chunks of rows",
            "its function score",
            "yield one float32 array for every chunk of rows.chunks()",
        )


def check_scores(scorer: str, name: str, values: Any, chunk: TokenChunk, dataset: Dataset, fix: str) -> None:
    """Raises UserError when `values` are not the numbers of the column `name` for this chunk of N tokens: float32[N],
    finite where supervised. The first bad token is named with its row; `fix` says what to do about it."""
    import numpy as np

    num_tokens = int(chunk.row_offsets[-1])
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != (num_tokens,):
        shape = f"{values.dtype}{list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(
            f"{scorer} gave {shape} as {name}, not float32[{num_tokens}]",
            f"rows {rows_text(chunk, dataset)}",
            "a scorer must give one float32 number per token",
        )
    bad = np.flatnonzero(chunk.supervised & ~np.isfinite(values))
    if len(bad):
        row = int(np.searchsorted(chunk.row_offsets, bad[0], side="right")) - 1
        raise UserError(
            f"{scorer} computed {values[bad[0]]} as {name} of token {int(bad[0] - chunk.row_offsets[row])}",
            f"row {dataset[chunk.first_row + row][ROW_ID]}",
            fix,
        )


def rows_text(chunk: TokenChunk, dataset: Dataset) -> str:
    """The first and the last row of a chunk."""
    first, last = (dataset[row][ROW_ID] for row in (chunk.first_row, chunk.first_row + chunk.num_rows - 1))
    return f"{first} to {last}"
