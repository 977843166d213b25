"""Several scoring processes: each opens the scorer once and is dealt one shard at a time; what goes wrong comes back.

A process is started afresh (spawn), so that it shares no thread or device state with this one. It ignores SIGINT and
SIGTERM, which reach whole process groups: this process decides, and a kill at any moment costs no finished shard. When
this process dies, its scoring processes end themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from sftgo_cli import errors
from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserErrors
from sftgo_cli.scoring.shards import Report, ScoringJob, Shard, opened, portable

SECONDS_TO_END = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class _Worker:
    process: Any
    connection: Connection


def compute_in_processes(job: ScoringJob, todo: Sequence[Shard], report: Report) -> None:
    """Compute the shards in `job.context.num_processes` processes; `report` is told about each.

    Raises:
        SftgoError: the first that a scoring process met.
        EnvironmentProblem: a scoring process was killed.
        RuntimeError: any other error of a scoring process, its traceback as a note.
    """
    num_processes = job.context.num_processes
    workers: list[_Worker] = []
    try:
        with _settings_for_children(num_processes):
            for number in range(min(num_processes, len(todo))):
                workers.append(_start(portable(job), number))
        _deal(workers, todo, report)
        for worker in workers:
            worker.process.join(SECONDS_TO_END)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def _start(job: ScoringJob, number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, _device(number), theirs), daemon=True)
    process.start()
    theirs.close()  # so that a dead process is seen as an end of file
    return _Worker(process, ours)


def _device(number: int) -> int | None:
    """The accelerator of the process: they take turns."""
    import torch

    return number % torch.cuda.device_count() if torch.cuda.is_available() else None


@contextmanager
def _settings_for_children(num_processes: int) -> Iterator[None]:
    """What a process inherits when it is started: an equal part of the cores, blocked signals, quiet libraries."""
    settings = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num_processes)),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
    added = [name for name in settings if name not in os.environ]
    resource_tracker.ensure_running()  # starting it unblocks the signals
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.environ.update({name: settings[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _deal(workers: Sequence[_Worker], todo: Sequence[Shard], report: Report) -> None:
    """A shard to every process that asks; None, the end, when there is none left."""
    waiting = iter(todo)
    by_connection = {worker.connection: worker for worker in workers}
    while by_connection:
        for ready in connection.wait(list(by_connection)):
            assert isinstance(ready, Connection)
            try:
                kind, content = ready.recv()
            except (EOFError, ConnectionResetError):
                raise _death(by_connection[ready]) from None
            if kind == "failed":
                raise _rebuilt(*content)
            report(content)
            following = next(waiting, None)
            ready.send(following)
            if following is None:
                del by_connection[ready]


def _death(worker: _Worker) -> EnvironmentProblem:
    worker.process.join()
    code = worker.process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    fix = "if memory ran out, use fewer processes (-n); the same command continues"
    return EnvironmentProblem(f"a scoring process {how}", f"process {worker.process.pid}", fix)


def _work(job: ScoringJob, device: int | None, parent: Connection) -> None:
    """A scoring process."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        if device is not None:
            import torch

            os.environ["LOCAL_RANK"] = str(device)
            torch.cuda.set_device(device)  # what "cuda" means from here on
        compute = opened(job)
        shard = _next(parent, "ready", None)
        while shard is not None:
            compute(shard)
            shard = _next(parent, "finished", shard)
    except Exception as error:
        parent.send(("failed", _described(error)))


def _next(parent: Connection, kind: str, shard: Shard | None) -> Shard | None:
    """Report to the parent and wait for the next shard; None is the end."""
    try:
        parent.send((kind, shard))
        following: Shard | None = parent.recv()
    except (EOFError, ConnectionError):
        os._exit(errors.EXIT_INTERRUPTED)  # the parent is gone
    return following


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(errors.EXIT_INTERRUPTED)  # whatever is half-written has a name of its own


def _described(error: Exception) -> tuple[str, list[tuple[str, str, str]], str]:
    """An error as plain data: its class, its lines, its traceback."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, SftgoError):
        parts = error.errors if isinstance(error, UserErrors) else [error]
        name = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return name, [(part.what, part.where, part.fix) for part in parts], text
    return type(error).__name__, [(str(error), "", "")], text


def _rebuilt(name: str, lines: list[tuple[str, str, str]], text: str) -> Exception:
    kind = getattr(errors, name, None)
    if name == UserErrors.__name__:
        error: Exception = UserErrors([errors.UserError(*line) for line in lines])
    elif kind is not None:
        error = kind(*lines[0])
    else:
        error = RuntimeError(f"{name} in a scoring process: {lines[0][0]}")
    error.add_note(text)
    return error
