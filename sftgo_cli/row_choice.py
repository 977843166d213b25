"""Rows to look at, chosen from prepared data."""

from __future__ import annotations

from typing import Any

from sftgo_cli.errors import UserError, nearest
from sftgo_cli.pipeline import PreparedData


def select_rows(
    data: PreparedData, set_name: str | None, start: int, num_rows: int, row_id: str | None
) -> list[dict[str, Any]]:
    """Rows to look at: some from a position on, or the one with an id, of the training rows or an evaluation set.

    Raises:
        UserError: there is no such set or row.
    """
    import pyarrow.compute
    from datasets import concatenate_datasets

    if set_name is not None and set_name not in data.evaluation:
        close = nearest(set_name, list(data.evaluation))
        hint = f"did you mean {close}?" if close else f"sets: {', '.join(data.evaluation) or 'none'}"
        raise UserError(f"there is no evaluation set {set_name!r}", "--set", hint)
    datasets = (data.train if set_name is None else data.evaluation[set_name]).datasets
    if row_id is not None:
        for dataset in datasets:
            place = pyarrow.compute.index(dataset.data.table.column("row_id"), row_id).as_py()
            if place >= 0:
                return [dataset[place]]
        raise UserError(f"there is no row {row_id!r}", "--row", "ids are the rows' own, or <file>:<number>")
    if len(datasets) > 1:
        shared = [name for name in datasets[0].column_names if all(name in part.column_names for part in datasets)]
        datasets = [dataset.select_columns(shared) for dataset in datasets]
    rows = concatenate_datasets(datasets)
    if start >= len(rows):
        raise UserError(f"there are only {len(rows)} rows", "--start", "give a smaller number")
    return [rows[index] for index in range(start, min(start + num_rows, len(rows)))]
