"""Read access to tokenized rows in Arrow files as numpy slices: no copy, no Python loop per token.

`TokenTable` is what scorers iterate over in chunks and what the training loader indexes by row. List columns stay
memory-mapped; a row is a view into the column's flat values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sftgo_cli.columns import GROUP_IDS, IGNORE_INDEX, INPUT_IDS, LABELS, LOSS_WEIGHT, ROW_ID, TOKEN_WEIGHTS

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TokenChunk:
    """Consecutive rows laid out flat: token columns of N tokens, `row_offsets` int64[R + 1], first row's number."""

    first_row: int
    row_offsets: npt.NDArray[np.int64]
    columns: dict[str, Any]  # numpy arrays of N values; lists of R values for row columns

    @property
    def num_rows(self) -> int:
        """R, the number of rows of this chunk."""
        return len(self.row_offsets) - 1

    @property
    def supervised(self) -> npt.NDArray[np.bool_]:
        """bool[N]: where `labels` is not -100."""
        return np.asarray(self.columns[LABELS] != IGNORE_INDEX)


def flat_values(array: pa.Array) -> npt.NDArray[Any]:
    """A list array's values as numpy [N] (or [N, k] for lists of k), cut to the array's own slice."""
    values = array.flatten()
    if pa.types.is_fixed_size_list(values.type):
        return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(-1, values.type.list_size)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def list_offsets(array: pa.Array) -> npt.NDArray[np.int64]:
    """int64[R + 1] offsets of a list array, starting at 0."""
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray(offsets - offsets[0])


Chunk = tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]], dict[str, list[Any]]]


class TokenTable:
    """Rows of one or more tokenized data sets after each other (no index mapping), column by column.

    A data set need not have every column: one that says nothing (weights that are all 1) is left out when it is written.
    """

    def __init__(
        self, datasets: Sequence[Dataset], token_columns: Sequence[str], row_columns: Sequence[str] = ()
    ) -> None:
        self._chunks: list[Chunk] = []
        for dataset in datasets:
            if dataset._indices is not None:
                raise ValueError(
                    "TokenTable reads contiguous rows; call flatten_indices() on a selected data set first"
                )
            tokens = [name for name in token_columns if name in dataset.column_names]
            plain = [name for name in row_columns if name in dataset.column_names]
            # One selection for all columns, so that chunk boundaries agree between them.
            batches = dataset.data.table.select([*tokens, *plain]).to_batches()
            self._chunks += [_read_chunk(batch, tokens, plain) for batch in batches if batch.num_rows]
        counts = [len(offsets) - 1 for offsets, _, _ in self._chunks]
        self._starts = np.cumsum([0, *counts])
        self.lengths: npt.NDArray[np.int64] = np.concatenate(
            [np.zeros(0, dtype=np.int64), *(np.diff(offsets) for offsets, _, _ in self._chunks)]
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> dict[str, Any]:
        """One row: numpy views per token column, plain values per row column."""
        chunk_index = int(self._starts.searchsorted(index, side="right")) - 1
        offsets, flat, plain = self._chunks[chunk_index]
        local = index - int(self._starts[chunk_index])
        start, stop = int(offsets[local]), int(offsets[local + 1])
        row: dict[str, Any] = {name: values[start:stop] for name, values in flat.items()}
        for name, cells in plain.items():
            row[name] = cells[local]
        return row

    def __getitem__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of one bin, in its order (one row when not packing)."""
        return [self.row(int(index)) for index in rows]

    def __getitems__(self, bins: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
        """The bins of one micro-batch; torch's DataLoader calls this once per micro-batch."""
        return [self[rows] for rows in bins]

    def chunks(self) -> Iterator[TokenChunk]:
        """The table's chunks in row order."""
        for start, (offsets, flat, plain) in zip(self._starts, self._chunks, strict=False):
            yield TokenChunk(int(start), offsets, {**flat, **plain})


def loss_table(datasets: Sequence[Dataset]) -> TokenTable:
    """The columns that a loss needs, for training and evaluation."""
    return TokenTable(datasets, (INPUT_IDS, LABELS, GROUP_IDS, TOKEN_WEIGHTS), (ROW_ID, LOSS_WEIGHT))


def _read_chunk(batch: pa.RecordBatch, tokens: Sequence[str], plain: Sequence[str]) -> Chunk:
    offsets = list_offsets(batch.column(tokens[0]))
    flat = {name: flat_values(batch.column(name)) for name in tokens}
    for name, values in flat.items():
        if len(values) != offsets[-1]:
            raise ValueError(f"column {name} has {len(values)} tokens, {tokens[0]} has {offsets[-1]}")
    return offsets, flat, {name: batch.column(name).to_pylist() for name in plain}


def list_array(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> pa.ListArray:
    """A list column from flat values and int64[R + 1] offsets starting at 0."""
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
