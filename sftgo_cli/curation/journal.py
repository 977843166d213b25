"""Results of a long step, each durable as soon as it is there: a file of JSON lines that is only ever appended to.

A line is `[number, value]`. What a killed process left torn at the end is cut off, so a kill costs at most what had not
been appended, and the same command asks for nothing twice. The journal goes when its step's result is published.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from sftgo_cli import durable
from sftgo_cli.cache import cache_root

FOLDER = "curation_journal"


class Journal:
    """The results so far of the step with a key, by number.

    Raises:
        EnvironmentProblem: the file cannot be read or written.
    """

    def __init__(self, key: str) -> None:
        self.path = cache_root() / FOLDER / f"{key}.jsonl"
        self.results: dict[int, Any] = {}
        with durable.storage_faults(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = self.path.read_bytes() if self.path.is_file() else b""
            whole = 0
            for line in content.splitlines(keepends=True):
                entry = _entry(line)
                if entry is None:
                    break
                self.results[entry[0]] = entry[1]
                whole += len(line)
            if whole < len(content):
                os.truncate(self.path, whole)

    def append(self, results: Sequence[tuple[int, Any]]) -> None:
        """Keep these; they are on the disk when this returns."""
        lines = "".join(json.dumps([number, value], ensure_ascii=True) + "\n" for number, value in results)
        with durable.storage_faults(self.path, len(lines)), self.path.open("ab") as file:
            file.write(lines.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        self.results.update(results)

    def remove(self) -> None:
        """The step is done."""
        self.path.unlink(missing_ok=True)


def _entry(line: bytes) -> tuple[int, Any] | None:
    """What a whole line holds; None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        number, value = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (number, value) if isinstance(number, int) else None
