"""Runs answers against tests: a pair of sandboxes for each, started ahead, used once, ended in time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from sftgo_cli.curation.sandbox.bubblewrap import WHERE, start
from sftgo_cli.curation.sandbox.inside import FIRST_LINES, job_record, opening
from sftgo_cli.curation.sandbox.wire import READY
from sftgo_cli.errors import EnvironmentProblem

MOST_VERDICT = 65536  # bytes
STARTING_SECONDS = 60.0  # on a busy machine


@dataclass(frozen=True)
class Limits:
    """What one program may take."""

    timeout: float  # seconds of wall time, for the program and its tests together
    memory_mb: int

    def of_process(self) -> dict[str, int]:
        """Resource limits by their names in `resource`."""
        return {
            "RLIMIT_AS": self.memory_mb * 2**20,
            "RLIMIT_CPU": int(self.timeout) + 2,  # the judge's own clock comes first
            "RLIMIT_NOFILE": 32,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NPROC": 0,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }


@dataclass(frozen=True)
class Case:
    """An answer and the tests that it has to pass."""

    answer: str
    tests: str
    entry_point: str | None  # None: found from the assertions
    code_prompt: str | None


@dataclass(frozen=True)
class Outcome:
    """What the tests' process said."""

    accepted: bool
    reason: str
    num_assertions: int  # that held
    seconds: float = 0.0  # until both processes had ended


class Pair:
    """A program's process and its tests' process, waiting for a case; ends with the thread that made it."""

    def __init__(self, bwrap: str, limits: Limits) -> None:
        self.limits = limits
        self.processes: list[subprocess.Popen[bytes]] = []
        calls, answers = os.pipe(), os.pipe()
        try:
            self.program = self._process(bwrap, "program", (calls[0], answers[1]), subprocess.DEVNULL)
            self.tests = self._process(bwrap, "verdicts", (answers[0], calls[1]), subprocess.PIPE)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in (*calls, *answers):
                os.close(fd)

    def _process(self, bwrap: str, role: str, fds: tuple[int, int], stdout: int) -> subprocess.Popen[bytes]:
        try:
            process = start(bwrap, ["-c", FIRST_LINES], fds, subprocess.PIPE, stdout, subprocess.DEVNULL)
        except OSError as problem:
            raise EnvironmentProblem(f"a sandbox does not start: {problem}", WHERE, "") from None
        self.processes.append(process)
        ends = fds if stdout == subprocess.DEVNULL else (*fds, 1)
        _write(process, opening(role, self.limits.of_process(), ends), last=False)
        return process

    def begin(self, case: Case) -> None:
        """Hand over a case."""
        shared = {"code_prompt": case.code_prompt}
        _write(self.program, job_record({"answer": case.answer, **shared}), last=True)
        _write(self.tests, job_record({"tests": case.tests, "entry_point": case.entry_point, **shared}), last=True)

    def outcome(self) -> Outcome:
        """The outcome of the case, within the limits, which count from when both processes have started; the pair is over.

        Raises:
            EnvironmentProblem: a sandbox did not start, for which no program can be blamed.
        """
        try:
            if self._read(len(READY), time.monotonic() + STARTING_SECONDS) != READY:
                fix = (
                    "see whether processes and memory are left, and run the same command again; finished rows are kept"
                )
                raise EnvironmentProblem("a sandbox did not start", WHERE, fix)
            started = time.monotonic()
            text = self._read(MOST_VERDICT, started + self.limits.timeout)
        finally:
            self.close()
        late = Outcome(False, f"not done within {self.limits.timeout:g} s", 0)
        found = late if text is None else _outcome(text)
        return replace(found, seconds=time.monotonic() - started)

    def _read(self, most: int, stop: float) -> bytes | None:
        """What the tests' process writes, until its end or `most` bytes; None where that takes too long."""
        text = b""
        assert self.tests.stdout is not None
        fd = self.tests.stdout.fileno()
        watched = select.poll()  # select() fails for file descriptors from 1,024 on
        watched.register(fd, select.POLLIN)
        while len(text) < most:
            if not watched.poll(max(0.0, stop - time.monotonic()) * 1000):
                return None
            part = os.read(fd, most - len(text))
            if not part:
                break
            text += part
        return text

    def close(self) -> None:
        """End both processes, and with them all that is in their sandboxes."""
        processes, self.processes = self.processes, []
        for process in processes:
            process.kill()
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
            process.wait()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _outcome(text: bytes) -> Outcome:
    """The verdict as the tests' process wrote it; whatever else it wrote is none."""
    try:
        if int.from_bytes(text[:4], "big") != len(text) - 4:
            raise ValueError("cut")
        accepted, reason, held = json.loads(text[4:])
    except ValueError:
        return Outcome(False, "the tests ended without a verdict", 0)
    return Outcome(accepted is True and held > 0, str(reason), int(held))


def _write(process: subprocess.Popen[bytes], data: bytes, last: bool) -> None:
    """To a process's input; one that has ended shows in the verdict."""
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.flush()
    except BrokenPipeError:
        return
    if last:
        _close(process.stdin)


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return


def outcomes(bwrap: str, cases: Sequence[Case], limits: Limits, num_workers: int) -> list[Outcome]:
    """The outcomes of cases, in their order. Each worker has its next pair started before it waits for the present one."""
    results: dict[int, Outcome] = {}
    numbers = iter(range(len(cases)))
    taking, stopped = threading.Lock(), threading.Event()

    def take() -> int | None:
        with taking:
            return None if stopped.is_set() else next(numbers, None)

    def work() -> None:
        # a pair ends with its thread, so each thread starts its own
        number = take()
        with ExitStack() as open_pairs:
            pair = None if number is None else open_pairs.enter_context(Pair(bwrap, limits))
            while number is not None and pair is not None:
                pair.begin(cases[number])
                following = take()
                ahead = None if following is None else open_pairs.enter_context(Pair(bwrap, limits))
                results[number] = pair.outcome()
                number, pair = following, ahead

    with ThreadPoolExecutor(max(1, min(num_workers, len(cases)))) as workers:
        try:
            for done in [workers.submit(work) for _ in range(max(1, min(num_workers, len(cases))))]:
                done.result()
        finally:
            stopped.set()
    return [results[number] for number in range(len(cases))]
