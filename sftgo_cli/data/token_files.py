"""Prepared rows as an Arrow file of token columns: its features, one table per batch, and the file opened again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import columns
from sftgo_cli.data.tokenization import TokenRow

if TYPE_CHECKING:
    from datasets import Dataset, Features

ALWAYS = (
    columns.ROW_ID,
    columns.SOURCE,
    columns.TEXT,
    columns.INPUT_IDS,
    columns.LABELS,
    columns.OFFSETS,
    columns.PINNED,
    columns.ROW_KEY,
    columns.PROMPT_KEY,
)
WEIGHTS = (columns.TOKEN_WEIGHTS, columns.LOSS_WEIGHT)


@dataclass(frozen=True)
class Layout:
    """The columns of a prepared source: `keep_columns` are the user's own, one number per token; `keep_row_columns` one
    per row; `with_groups` whether the rows give groups themselves."""

    source: str
    keep_columns: tuple[str, ...]
    keep_row_columns: tuple[str, ...]
    with_groups: bool

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The user's columns, per token and per row."""
        return self.keep_columns + self.keep_row_columns


def token_features(layout: Layout) -> Features:
    """The Arrow types of a source's columns."""
    from datasets import Features, List, Value

    own: dict[str, Any] = {name: List(Value("float32")) for name in layout.keep_columns}
    own |= {name: Value("float32") for name in layout.keep_row_columns}
    given = [columns.GIVEN_GROUPS] if layout.with_groups else []
    return Features({**columns.features([*ALWAYS, *WEIGHTS, *given]), **own})


def token_table(rows: list[TokenRow], layout: Layout) -> Any:
    """One Arrow table of a batch: flat numpy values with row offsets, no Python loop per token."""
    import numpy as np
    import pyarrow as pa

    from sftgo_cli.data.rows import list_array

    starts = np.cumsum([0, *(len(row.input_ids) for row in rows)])

    def lists(per_row: list[Any]) -> Any:
        return list_array(np.concatenate(per_row), starts)

    flat_offsets = np.concatenate([row.offsets for row in rows]).reshape(-1)
    pairs = pa.FixedSizeListArray.from_arrays(pa.array(flat_offsets), 2)
    cells: dict[str, Any] = {
        columns.ROW_ID: pa.array([_encodable(row.row_id) for row in rows]),
        columns.SOURCE: pa.array([layout.source] * len(rows)),
        columns.TEXT: pa.array([row.text for row in rows]),
        columns.INPUT_IDS: lists([row.input_ids for row in rows]),
        columns.LABELS: lists([row.labels for row in rows]),
        columns.OFFSETS: pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), pairs),
        columns.PINNED: lists([row.pinned for row in rows]),
        columns.ROW_KEY: pa.array([row.row_key for row in rows], pa.int64()),
        columns.PROMPT_KEY: pa.array([row.prompt_key for row in rows], pa.int64()),
        columns.TOKEN_WEIGHTS: lists([row.token_weights for row in rows]),
        columns.LOSS_WEIGHT: pa.array(np.array([row.loss_weight for row in rows], dtype=np.float32)),
    }
    if layout.with_groups:
        cells[columns.GIVEN_GROUPS] = lists([row.columns[columns.GIVEN_GROUPS] for row in rows])
    cells |= {name: lists([row.columns[name] for row in rows]) for name in layout.keep_columns}
    for name in layout.keep_row_columns:
        cells[name] = pa.array(np.array([row.row_columns[name] for row in rows], dtype=np.float32))
    return pa.table(cells).cast(token_features(layout).arrow_schema)


def _encodable(text: str) -> str:
    """The text without lone surrogates, which Arrow cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8")


def open_rows(out_file: Path, weighted: set[str]) -> Dataset:
    """The written file, memory-mapped, without the weight columns that are 1 everywhere."""
    from datasets import Dataset

    dataset = Dataset.from_file(str(out_file))
    return dataset.remove_columns([name for name in WEIGHTS if name not in weighted])
