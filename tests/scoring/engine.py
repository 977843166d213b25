"""Rows for the scoring engine's tests, and a scoring run in a process of its own that can be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from sftgo_cli.columns import features
from sftgo_cli.data.rows import list_array
from sftgo_cli.data.stages import Rows
from sftgo_cli.errors import SftgoError
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.scoring import shards
from sftgo_cli.scoring.context import ScoringContext
from sftgo_cli.scoring.stages import scored
from tests.faults.runs import FORKS
from tests.scoring import toy_scorer

SHARD_TOKENS = 500
COLUMNS = ["row_id", "input_ids", "labels", "pinned"]


def write_rows(path: Path, seed: int, num_rows: int, batch_rows: int, name: str = "r") -> Dataset:
    """Random rows of 1 to 60 tokens in an Arrow file whose record batches have `batch_rows` rows."""
    generator = np.random.default_rng(seed)
    schema = features(COLUMNS).arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, num_rows, batch_rows):
            lengths = generator.integers(1, 60, min(batch_rows, num_rows - start))
            offsets = np.cumsum([0, *lengths], dtype=np.int64)
            ids = generator.integers(0, 9999, offsets[-1]).astype(np.int32)
            labels = np.where(generator.random(offsets[-1]) < 0.5, ids, -100).astype(np.int32)
            row_ids = pa.array([f"{name}{start + number}" for number in range(len(lengths))])
            lists = [list_array(values, offsets) for values in (ids, labels, ids % 7 == 0)]
            writer.write_batch(pa.record_batch([row_ids, *lists], schema=schema))
    return Dataset.from_file(str(path))


def two_sources(folder: Path, num_rows: int = 200) -> Rows:
    """Two data sets, one with record batches that are smaller than a shard and one with larger ones."""
    paths = [folder / "a.arrow", folder / "b.arrow"]
    if not paths[1].exists():
        write_rows(paths[0], 1, num_rows, 7, "a")
        write_rows(paths[1], 2, num_rows // 2, 64, "b")
    return Rows([Dataset.from_file(str(path)) for path in paths], [f"key a {num_rows}", f"key b {num_rows}"])


def score(
    rows: Rows, num_processes: int = 1, said: list[str] | None = None, console: Any = None, **options: Any
) -> Rows:
    """Score with the toy scorer."""
    said = [] if said is None else said
    model = ModelSection(name_or_path="none")
    context = ScoringContext(model, Path(), None, same_path, num_processes, said.append, console)
    choice = MethodChoice(name="toy", options=toy_scorer.Options(**options))
    return scored(rows, rows, choice, toy_scorer, context, said.append)


def same_path(path: Path) -> Path:
    """Can be sent to another process."""
    return path


def main(folder: str, num_processes: int, log: str, seconds: float, said: str) -> None:
    """A scoring in a process of its own, which may be killed; exits as the command line does."""
    os.environ["SFTGO_CACHE"] = f"{folder}/cache"
    shards.SHARD_TOKENS = SHARD_TOKENS
    lines: list[str] = []

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    code = 0
    try:
        score(two_sources(Path(folder).parent), num_processes, lines, log=log, seconds=seconds)
    except SftgoError as error:
        lines.append(str(error))
        code = error.exit_code
    Path(said).write_text("\n".join(lines))
    sys.exit(code)


@dataclass(frozen=True)
class Started:
    """A scoring in a process: its log has a line per opened scorer and per shard."""

    process: Any
    folder: Path

    @property
    def log(self) -> list[str]:
        """The scorer's lines of all runs in this folder."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def shards(self) -> list[str]:
        """`shard <first row> <last row>` of every shard that was computed."""
        return [line.split(" ", 1)[1] for line in self.log if " shard " in line]

    def wait_for(self, num_shards: int, seconds: float = 60) -> None:
        """Until so many shards were computed, or the end."""
        until = time.monotonic() + seconds
        while len(self.shards()) < num_shards and self.process.is_alive():
            assert time.monotonic() < until, self.log
            time.sleep(0.005)

    def finish(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code and what was said."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.log
        said = self.folder / "said"
        return int(self.process.exitcode), said.read_text() if said.exists() else ""


def start(folder: Path, num_processes: int, seconds: float = 0.0) -> Started:
    """Start a scoring of `two_sources(folder.parent)` with its cache in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "said").unlink(missing_ok=True)
    two_sources(folder.parent)
    arguments = (str(folder), num_processes, str(folder / "log"), seconds, str(folder / "said"))
    process = FORKS.Process(target=main, args=arguments)
    process.start()
    return Started(process, folder)


def columns_of(folder: Path) -> dict[str, bytes]:
    """The published column files of the cache in `folder`."""
    found = sorted((folder / "cache" / "score").glob("*/*.arrow"))
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}
