"""Data that is larger than memory: what a table, scoring and grouping keep in memory does not grow with the rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from sftgo_cli.data.rows import TokenTable
from sftgo_cli.data.stages import Rows
from tests.scoring.engine import score, write_rows

MIB = 1 << 20


def anonymous_bytes() -> int:
    """Memory that is not a file's: RssAnon of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@contextmanager
def peak_growth() -> Iterator[Callable[[], int]]:
    """How much more anonymous memory there was at most than at the beginning."""
    start = anonymous_bytes()
    peak, over = start, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, anonymous_bytes())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: peak - start
    finally:
        over.set()
        watcher.join()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of about 115 MiB."""
    path = tmp_path_factory.mktemp("large") / "rows.arrow"
    write_rows(path, 0, 400_000, 1000)
    assert path.stat().st_size > 100 * MIB
    return path


def test_memory_of_scoring_does_not_grow_with_the_rows(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    score(Rows([write_rows(tmp_path / "small.arrow", 1, 5000, 1000)], ["small"]))  # what is loaded once
    with peak_growth() as growth:
        dataset = Dataset.from_file(str(large))
        table = TokenTable([dataset], ("input_ids", "labels", "pinned"), ("row_id",))
        assert sum(chunk.num_rows for chunk in table.chunks()) == 400_000
        score(Rows([dataset], ["large"]))
    written = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.arrow"))
    assert written > 100 * MIB
    assert growth() < 24 * MIB


def test_a_slice_is_the_rows_wherever_batches_end(tmp_path: Path) -> None:
    datasets = [write_rows(tmp_path / f"{size}.arrow", size, 50, size) for size in (7, 50)]
    table = TokenTable(datasets, ("input_ids", "labels", "pinned"), ("row_id",))
    plain = [row for dataset in datasets for row in dataset]
    for start, stop in [(0, 1), (0, 7), (6, 8), (13, 49), (44, 63), (0, 100), (99, 100)]:
        part = table.slice(start, stop)
        assert part.first_row == start
        assert part.columns["row_id"] == [row["row_id"] for row in plain[start:stop]]
        for name in ("input_ids", "labels", "pinned"):
            assert part.columns[name].tolist() == [value for row in plain[start:stop] for value in row[name]]
        assert np.diff(part.row_offsets).tolist() == [len(row["labels"]) for row in plain[start:stop]]
        assert part.row_offsets[0] == 0
    for index in (0, 6, 7, 49, 50, 99):
        row = table.row(index)
        assert row["row_id"] == plain[index]["row_id"]
        assert row["pinned"].tolist() == plain[index]["pinned"]
    assert table.lengths.tolist() == [len(row["labels"]) for row in plain]
