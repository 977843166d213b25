"""Scores by a model, one shard of rows after the other, each durable as soon as it is finished.

A shard is consecutive rows of one data set with about SHARD_TOKENS tokens, whatever the number of processes, and a
scorer's numbers depend on the shard alone: one process and several, a run in one go and one killed and started again
write the same bytes. A shard's file holds its columns one after the other (float32, little endian) and the sha256 of them
and of what the shard is; a file that is cut or altered is computed again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sftgo_cli import durable
from sftgo_cli.columns import LABELS
from sftgo_cli.errors import EnvironmentProblem, InterruptedRun
from sftgo_cli.progress import Work, shown_progress
from sftgo_cli.recipe.options import MethodOptions
from sftgo_cli.scoring.checked_scores import MODEL_NOT_FINITE, check_scores
from sftgo_cli.scoring.context import ScoringContext

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

    from sftgo_cli.data.rows import TokenChunk, TokenTable

    Columns = dict[str, npt.NDArray[np.float32]]

SHARD_TOKENS = 1 << 16  # a few seconds to a minute of work: what a kill costs each process at most
CHECKSUM_BYTES = 32


@dataclass(frozen=True)
class Shard:
    """Rows `start` up to `stop` of one data set."""

    dataset: int
    start: int
    stop: int
    num_tokens: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.dataset}-{self.start}-{self.stop}.shard"


Report = Callable[[Shard | None], None]  # a shard is finished; None: a process has opened the scorer


@dataclass(frozen=True)
class ScoringJob:
    """All that a scoring process needs, as data that can be sent to it."""

    scorer: str
    module: str  # the scorer's module, by its name
    options: MethodOptions
    context: ScoringContext
    datasets: list[Dataset]
    folder: Path  # of the finished shards


def score_in_shards(job: ScoringJob, module: ModuleType) -> list[Shard]:
    """Compute every shard that is not in the job's folder yet; returns all of them, in row order.

    Raises:
        UserError: what the scorer raises.
        EnvironmentProblem: the folder cannot be written, or a scoring process was killed.
        InterruptedRun: a signal arrived; the finished shards stay.
    """
    from sftgo_cli.scoring.processes import compute_shards

    with durable.storage_faults(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        durable.sweep_partial(job.folder)
    shards = [shard for number, table in enumerate(_tables(job, module)) for shard in cut_shards(table.lengths, number)]
    written = module.written(job.options)
    todo = [shard for shard in shards if read_shard(job.folder, shard, written, job.context.say) is None]
    if len(todo) < len(shards):
        job.context.say(f"resuming: {len(shards) - len(todo)} of {len(shards)} shards are done")
    done = len(shards) - len(todo)

    def report(shard: Shard | None) -> None:
        nonlocal done
        done += shard is not None
        advance(shard.num_tokens if shard is not None else 0)

    all_tokens, todo_tokens = (sum(shard.num_tokens for shard in part) for part in (shards, todo))
    try:
        work = Work("scoring", job.scorer, "tokens", all_tokens, todo_tokens)
        with shown_progress(work, job.context.say, job.context.console) as advance:
            compute_shards(job, todo, report)
    except KeyboardInterrupt as error:
        raise InterruptedRun(
            f"interrupted after {done} of {len(shards)} shards",
            f"scoring with {job.scorer}",
            "run the same command to continue",
        ) from error
    return shards


def opened(job: ScoringJob) -> Callable[[Shard], None]:
    """Open the scorer in this process: a function that computes a shard and makes it durable."""
    module = importlib.import_module(job.module)
    tables = _tables(job, module)
    written = module.written(job.options)
    score = module.open_scorer(job.options, job.context)

    def compute(shard: Shard) -> None:
        chunk = tables[shard.dataset].slice(shard.start, shard.stop)
        columns = score(chunk)
        _check_columns(columns, written, chunk, job, shard)
        write_shard(job.folder, shard, columns, written)

    return compute


def _tables(job: ScoringJob, module: ModuleType) -> list[TokenTable]:
    from sftgo_cli.data.rows import TokenTable

    token_columns, row_columns = module.columns(job.options)
    token_columns = tuple(dict.fromkeys((*token_columns, LABELS)))  # by which the scores are checked
    return [TokenTable([dataset], token_columns, row_columns) for dataset in job.datasets]


def cut_shards(lengths: npt.NDArray[np.int64], dataset: int, shard_tokens: int | None = None) -> Iterator[Shard]:
    """Consecutive rows with at most `shard_tokens` (SHARD_TOKENS) tokens together, or one row that is longer.

    Args:
        lengths: int64[R], tokens per row.
    """
    import numpy as np

    limit = SHARD_TOKENS if shard_tokens is None else shard_tokens
    ends = np.cumsum(lengths)
    start, before = 0, 0
    while start < len(lengths):
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield Shard(dataset, start, stop, int(ends[stop - 1]) - before)
        start, before = stop, int(ends[stop - 1])


def _check_columns(columns: Any, written: Sequence[str], chunk: TokenChunk, job: ScoringJob, shard: Shard) -> None:
    """A scorer's promise, kept before anything of it is written. Raises UserError."""
    dataset = job.datasets[shard.dataset]
    for name in written:
        values = columns.get(name) if isinstance(columns, dict) else columns
        check_scores(job.scorer, name, values, chunk, dataset, MODEL_NOT_FINITE)


def write_shard(folder: Path, shard: Shard, columns: Columns, written: Sequence[str]) -> None:
    """Put a finished shard on the disk, whole or not at all. Raises EnvironmentProblem when the disk does not take it."""
    content = b"".join(columns[name].astype("<f4", copy=False).tobytes() for name in written)
    path = folder / shard.name
    with durable.storage_faults(path):
        durable.write_bytes(path, content + _checksum(shard, written, content))


def read_shard(
    folder: Path, shard: Shard, written: Sequence[str], say: Callable[[str], None] = lambda line: None
) -> Columns | None:
    """The columns of a finished shard, or None when it is missing or damaged (said through `say`)."""
    import numpy as np

    try:
        stored = (folder / shard.name).read_bytes()
    except FileNotFoundError:
        return None
    content, checksum = stored[:-CHECKSUM_BYTES], stored[-CHECKSUM_BYTES:]
    if checksum != _checksum(shard, written, content):
        say(f"the finished shard {shard.name} is damaged, computing it again")
        return None
    values = np.frombuffer(content, dtype="<f4").reshape(len(written), shard.num_tokens)
    return dict(zip(written, values, strict=True))


def _checksum(shard: Shard, written: Sequence[str], content: bytes) -> bytes:
    digest = hashlib.sha256(f"{shard} {list(written)}".encode())
    digest.update(content)
    return digest.digest()


def read_back(
    job: ScoringJob, module: ModuleType, shards: Sequence[Shard], dataset: int
) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, Any]]]:
    """(row offsets, columns) of every shard of one data set, in row order, for `write_columns`.

    Raises:
        EnvironmentProblem: a shard that was finished cannot be read back.
    """
    import numpy as np

    lengths = _tables(job, module)[dataset].lengths
    for shard in shards:
        if shard.dataset == dataset:
            columns = read_shard(job.folder, shard, module.written(job.options))
            if columns is None:
                raise EnvironmentProblem(
                    "a finished shard cannot be read back",
                    str(job.folder / shard.name),
                    "check the disk, then run the same command again",
                )
            yield np.cumsum([0, *lengths[shard.start : shard.stop]], dtype=np.int64), columns


def portable(job: ScoringJob) -> ScoringJob:
    """The job without what cannot leave this process."""
    return dataclasses.replace(job, context=dataclasses.replace(job.context, say=_silent, console=None))


def _silent(line: str) -> None:
    """Scoring processes leave speaking to the one that started them."""
