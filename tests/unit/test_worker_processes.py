"""Work that several processes share: every item once, results as they come, errors and deaths as one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.worker_processes import Crew, Work, settings_for_children, work_through


def open_squares(job: dict[str, Any]) -> Work[int, list[int] | str]:
    """Squares in groups of `size`, which a worker pulls before it gives any; 13 is bad, 14 deadly."""

    def work(numbers: Iterator[int]) -> Iterator[list[int] | str]:
        group: list[int] = []
        for number in numbers:
            if number == 13:
                raise job["error"]
            if number == 14:
                os.kill(os.getpid(), signal.SIGKILL)
            group.append(number * number)
            if len(group) == job["size"]:
                yield group
                group = []
        yield group
        yield f"worker {os.getpid()}"

    return work


def worked(num_processes: int, numbers: list[int], size: int = 3, error: Exception | None = None) -> list[Any]:
    got: list[Any] = []
    job = {"size": size, "error": error}
    opened: list[int] = []
    crew = Crew("squaring", open_squares, job, num_processes, use_cpu=True)
    work_through(crew, numbers, got.append, lambda: opened.append(1))
    assert len(opened) == min(num_processes, len(numbers))
    return got


@pytest.mark.parametrize("num_processes", [1, 2])
def test_every_item_is_done_once(num_processes: int) -> None:
    got = worked(num_processes, list(range(12)))
    assert sorted(square for part in got if isinstance(part, list) for square in part) == [n * n for n in range(12)]
    workers = {part for part in got if isinstance(part, str)}
    assert len(workers) == num_processes
    assert (f"worker {os.getpid()}" in workers) == (num_processes == 1)
    assert worked(num_processes, []) == []


@pytest.mark.parametrize("num_processes", [1, 2])
def test_errors_come_back_as_they_are(num_processes: int) -> None:
    with pytest.raises(UserError, match=r"^bad number - row 13 - leave it out"):
        worked(num_processes, [1, 13], error=UserError("bad number", "row 13", "leave it out"))
    with pytest.raises((RuntimeError, ZeroDivisionError), match="by nothing"):
        worked(num_processes, [1, 13], error=ZeroDivisionError("by nothing"))


def test_a_killed_process_is_named_and_the_others_end() -> None:
    with pytest.raises(EnvironmentProblem, match=r"a squaring process was killed by SIGKILL - process \d+ - .*-n"):
        worked(2, [1, 2, 14])
    assert multiprocessing.active_children() == []


def test_a_report_that_fails_ends_the_processes() -> None:
    def report(result: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_through(Crew("squaring", open_squares, {"size": 1}, 2, use_cpu=True), list(range(9)), report)
    assert multiprocessing.active_children() == []


def test_processes_share_the_cores_and_start_with_blocked_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS")
    with settings_for_children(2):
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert "OMP_NUM_THREADS" not in os.environ
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
