"""Several processes that share one long work: each opens its worker once and pulls one item at a time; results come back.

    open_worker(job) -> work            a function of a module's top level, called once in every process
    work(items) -> iterator of results  takes its next item from the iterator `items` whenever it has room for one, and
                                        yields what is finished as soon as it is

The same two functions work in this process. A process is started afresh (spawn), so that it shares no thread or device
state with this one. It ignores SIGINT and SIGTERM, which reach whole process groups: this process decides, and a kill at
any moment costs nothing that was reported. When this process dies, its worker processes end themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from sftgo_cli import errors
from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserErrors

SECONDS_TO_END = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
OPENED, NEXT, RESULT, FAILED, ENDED = range(5)  # what a process says

Job = TypeVar("Job")
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Iterator[Item]], Iterator[Result]]


@dataclass(frozen=True)
class Crew(Generic[Job, Item, Result]):
    """Who does the work: `kind` names it in messages (`scoring`: "a scoring process was killed")."""

    kind: str
    open_worker: Callable[[Job], Work[Item, Result]]  # sent to the processes by its name
    job: Job  # sent to them as data
    num_processes: int
    use_cpu: bool = False  # else the processes take the machine's accelerators in turns


def work_through(
    crew: Crew[Job, Item, Result],
    items: Sequence[Item],
    report: Callable[[Result], None],
    opened: Callable[[], None] = lambda: None,
) -> None:
    """Do all items, in `crew.num_processes` processes or, with one, in this one; `report` gets every result here.

    Args:
        items: dealt in this order; which process gets which is not determined.
        opened: called whenever a worker has been opened: what that takes says nothing about its speed.

    Raises:
        SftgoError: the first that a worker met.
        EnvironmentProblem: a worker process was killed.
        RuntimeError: any other error of a worker process, its traceback as a note.
    """
    if not items:
        return
    if crew.num_processes > 1:
        _work_in_processes(crew, items, report, opened)
        return
    work: Any = None
    try:
        work = crew.open_worker(crew.job)
        opened()
        for result in work(iter(items)):
            report(result)
    finally:
        work = None  # the model goes before what follows needs the memory
        _release_memory()


def _release_memory() -> None:
    """Give an accelerator's memory back to the processes that come next."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Worker:
    process: Any
    connection: Connection


def _work_in_processes(
    crew: Crew[Job, Item, Result],
    items: Sequence[Item],
    report: Callable[[Result], None],
    opened: Callable[[], None],
) -> None:
    workers: list[_Worker] = []
    try:
        with settings_for_children(crew.num_processes):
            for number in range(min(crew.num_processes, len(items))):
                workers.append(_start(crew, number))
        _deal(crew.kind, workers, items, report, opened)
        for worker in workers:
            worker.process.join(SECONDS_TO_END)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def _start(crew: Crew[Job, Item, Result], number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    device = None if crew.use_cpu else _device(number)
    arguments = (crew.open_worker, crew.job, device, theirs)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    theirs.close()  # so that a dead process is seen as an end of file
    return _Worker(process, ours)


def _device(number: int) -> int | None:
    """The accelerator of the process: they take turns."""
    import torch

    return number % torch.cuda.device_count() if torch.cuda.is_available() else None


@contextmanager
def settings_for_children(num_processes: int) -> Iterator[None]:
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


def _deal(
    kind: str,
    workers: Sequence[_Worker],
    items: Sequence[Item],
    report: Callable[[Result], None],
    opened: Callable[[], None],
) -> None:
    """An item to every process that asks, None when there is none left; until all of them have ended."""
    waiting = iter(items)
    by_connection = {worker.connection: worker for worker in workers}
    while by_connection:
        for ready in connection.wait(list(by_connection)):
            assert isinstance(ready, Connection)
            try:
                said, content = ready.recv()
                if said == NEXT:
                    ready.send(next(waiting, None))
            except (EOFError, ConnectionError):
                raise _death(kind, by_connection[ready]) from None
            if said == FAILED:
                raise _rebuilt(kind, *content)
            if said == OPENED:
                opened()
            elif said == RESULT:
                report(content)
            elif said == ENDED:
                del by_connection[ready]


def _death(kind: str, worker: _Worker) -> EnvironmentProblem:
    worker.process.join()
    code = worker.process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    fix = "if memory ran out, use fewer processes (-n); the same command continues"
    return EnvironmentProblem(f"a {kind} process {how}", f"process {worker.process.pid}", fix)


def _serve(open_worker: Callable[[Any], Work[Any, Any]], job: Any, device: int | None, parent: Connection) -> None:
    """A worker process."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        if device is not None:
            import torch

            os.environ["LOCAL_RANK"] = str(device)
            torch.cuda.set_device(device)  # what "cuda" means from here on
        work = open_worker(job)
        _tell(parent, OPENED, None)
        for result in work(_items(parent)):
            _tell(parent, RESULT, result)
        _tell(parent, ENDED, None)
    except Exception as error:
        _tell(parent, FAILED, _described(error))


def _items(parent: Connection) -> Iterator[Any]:
    """What the parent deals to this process."""
    while True:
        _tell(parent, NEXT, None)
        try:
            item = parent.recv()
        except (EOFError, ConnectionError):
            os._exit(errors.EXIT_INTERRUPTED)  # the parent is gone
        if item is None:
            return
        yield item


def _tell(parent: Connection, said: int, content: Any) -> None:
    try:
        parent.send((said, content))
    except ConnectionError:
        os._exit(errors.EXIT_INTERRUPTED)  # the parent is gone


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


def _rebuilt(kind: str, name: str, lines: list[tuple[str, str, str]], text: str) -> Exception:
    known = getattr(errors, name, None)
    if name == UserErrors.__name__:
        error: Exception = UserErrors([errors.UserError(*line) for line in lines])
    elif known is not None:
        error = known(*lines[0])
    else:
        error = RuntimeError(f"{name} in a {kind} process: {lines[0][0]}")
    error.add_note(text)
    return error
