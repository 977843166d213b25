"""Curated rows as a data set of its own: the rows in their format, and beside each answer where it is from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftgo_cli.curation.stage import PROVENANCE, ROWS, SUMMARY


def notes(folder: Path) -> list[str]:
    """What a person must know about a curated source: rows that a method dropped or added."""
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return [str(note) for note in summary["notes"]]


def save_curated(folders: Mapping[str, Path], output: Path) -> int:
    """Write the curated rows of all sources, by label, for `datasets.load_from_disk`; returns how many.

    A column that Arrow cannot hold because its cells differ in kind is written as JSON text.
    """
    from datasets import Dataset

    rows: list[dict[str, Any]] = []
    for label, folder in folders.items():
        for values, facts in zip(_lines(folder / ROWS), _lines(folder / PROVENANCE), strict=True):
            others = facts.pop("others")
            rows.append({**others, **facts, **values, "source": label})
    names = list(dict.fromkeys(name for row in rows for name in row))
    Dataset.from_dict({name: _cells([row.get(name) for row in rows]) for name in names}).save_to_disk(str(output))
    return len(rows)


def _cells(cells: list[Any]) -> list[Any]:
    import pyarrow as pa

    try:
        pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return [None if cell is None else json.dumps(cell) for cell in cells]
    except UnicodeEncodeError:  # a lone surrogate
        return [json.loads(json.dumps(cell, ensure_ascii=False).encode("utf-8", "replace")) for cell in cells]
    return cells


def _lines(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="ascii") as lines:
        return [json.loads(line) for line in lines]
