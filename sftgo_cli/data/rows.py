"""Read access to tokenized rows in Arrow files as numpy slices: no copy, no Python loop per token.

`TokenTable` is what scorers iterate over in chunks and what the training loader indexes by row. List columns stay
memory-mapped; a row is a view into the column's flat values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
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


@dataclass(frozen=True)
class _Batch:
    """A record batch as it lies in its file: nothing is copied before it is asked for."""

    offsets: npt.NDArray[np.int32]  # [R + 1], beginning anywhere
    tokens: dict[str, Any]  # numpy views of the flat values; an Arrow array where numpy would need a copy (bits)
    plain: dict[str, pa.Array]  # one cell per row

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    def columns(self, start: int, stop: int) -> dict[str, Any]:
        """The columns of the rows from `start` up to `stop`, as in TokenChunk."""
        first, last = (int(self.offsets[row]) - int(self.offsets[0]) for row in (start, stop))
        values: dict[str, Any] = {name: _as_numpy(flat[first:last]) for name, flat in self.tokens.items()}
        for name, cells in self.plain.items():
            values[name] = cells[start:stop].to_pylist()
        return values


class TokenTable:
    """Rows of one or more tokenized data sets after each other (no index mapping), column by column.

    A data set need not have every column: one that says nothing (weights that are all 1) is left out when it is written.
    The columns stay in their memory-mapped files, so that a table of data larger than memory is small.
    """

    def __init__(
        self, datasets: Sequence[Dataset], token_columns: Sequence[str], row_columns: Sequence[str] = ()
    ) -> None:
        self._batches: list[_Batch] = []
        for dataset in datasets:
            if dataset._indices is not None:
                raise ValueError(
                    "TokenTable reads contiguous rows; call flatten_indices() on a selected data set first"
                )
            tokens = [name for name in token_columns if name in dataset.column_names]
            plain = [name for name in row_columns if name in dataset.column_names]
            # One selection for all columns, so that chunk boundaries agree between them.
            batches = dataset.data.table.select([*tokens, *plain]).to_batches()
            self._batches += [_read_batch(batch, tokens, plain) for batch in batches if batch.num_rows]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64[R]: tokens of every row."""
        lengths = [np.diff(batch.offsets).astype(np.int64) for batch in self._batches]
        return np.concatenate([np.zeros(0, dtype=np.int64), *lengths])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, index: int) -> dict[str, Any]:
        """One row: numpy views per token column, plain values per row column."""
        batch_index = int(self._starts.searchsorted(index, side="right")) - 1
        batch = self._batches[batch_index]
        local = index - int(self._starts[batch_index])
        base = int(batch.offsets[0])
        start, stop = int(batch.offsets[local]) - base, int(batch.offsets[local + 1]) - base
        row: dict[str, Any] = {name: _as_numpy(flat[start:stop]) for name, flat in batch.tokens.items()}
        for name, cells in batch.plain.items():
            row[name] = cells[local].as_py()
        return row

    def __getitem__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of one bin, in its order (one row when not packing)."""
        return [self.row(int(index)) for index in rows]

    def __getitems__(self, bins: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
        """The bins of one micro-batch; torch's DataLoader calls this once per micro-batch."""
        return [self[rows] for rows in bins]

    def chunks(self) -> Iterator[TokenChunk]:
        """The table's chunks in row order."""
        for start, batch in zip(self._starts, self._batches, strict=False):
            yield TokenChunk(int(start), list_offsets(batch.offsets), batch.columns(0, batch.num_rows))

    def slice(self, start: int, stop: int) -> TokenChunk:
        """The rows from `start` up to `stop` as one chunk, copied where they cross the file's own batches."""
        first = int(self._starts.searchsorted(start, side="right")) - 1
        last = int(self._starts.searchsorted(stop, side="left"))
        parts: list[dict[str, Any]] = []
        lengths = []
        for number in range(first, last):
            batch, begin = self._batches[number], int(self._starts[number])
            inside = max(start - begin, 0), min(stop - begin, batch.num_rows)
            parts.append(batch.columns(*inside))
            lengths.append(np.diff(batch.offsets[inside[0] : inside[1] + 1]))
        return TokenChunk(start, np.cumsum([0, *np.concatenate(lengths)], dtype=np.int64), _joined(parts))


def list_offsets(offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """int64[R + 1] offsets starting at 0."""
    return offsets.astype(np.int64) - int(offsets[0])


def _as_numpy(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        joined[name] = np.concatenate(values) if isinstance(first, np.ndarray) else [*chain.from_iterable(values)]
    return joined


def loss_table(
    datasets: Sequence[Dataset], token_columns: Sequence[str] = (), row_columns: Sequence[str] = ()
) -> TokenTable:
    """The columns that a loss needs, for training and evaluation, and those that the objective asks for besides."""
    plain = (INPUT_IDS, LABELS, GROUP_IDS, TOKEN_WEIGHTS)
    return TokenTable(datasets, (*plain, *token_columns), (ROW_ID, LOSS_WEIGHT, *row_columns))


def _read_batch(batch: pa.RecordBatch, tokens: Sequence[str], plain: Sequence[str]) -> _Batch:
    offsets = batch.column(tokens[0]).offsets.to_numpy()
    flat = {name: _flat_values(batch.column(name)) for name in tokens}
    for name, values in flat.items():
        if len(values) != int(offsets[-1]) - int(offsets[0]):
            raise ValueError(f"column {name} has {len(values)} tokens, {tokens[0]} has {offsets[-1] - offsets[0]}")
    return _Batch(offsets, flat, {name: batch.column(name) for name in plain})


def _flat_values(array: pa.Array) -> Any:
    """A list array's values: a numpy view [N] (or [N, k] for lists of k), or Arrow's own where that would be a copy."""
    values = array.flatten()
    if pa.types.is_fixed_size_list(values.type):
        return np.asarray(values.flatten().to_numpy()).reshape(-1, values.type.list_size)
    if pa.types.is_boolean(values.type) or values.null_count:
        return values
    return np.asarray(values.to_numpy())


def list_array(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> pa.ListArray:
    """A list column from flat values and int64[R + 1] offsets starting at 0."""
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
