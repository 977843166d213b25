"""metrics.jsonl: one JSON object per logging step (`event: train`) and per evaluation (`event: eval`).

Only rank 0 writes. On resume, lines after the checkpoint's step and a torn last line are removed, so that no step stands
twice and none is missing. Non-finite numbers never get here; undefined is null.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from sftgo_cli import durable

FILE_NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line; a torn or damaged one is left out, a missing file is empty."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def keep_until(path: Path, step: int) -> None:
    """Drop everything after `step` (0 keeps nothing): what a killed run logged behind its last checkpoint."""
    kept = [line for line in read_metrics(path) if step > 0 and line["step"] <= step]
    durable.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def append(path: Path, line: dict[str, Any]) -> None:
    """Add one line and flush it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
