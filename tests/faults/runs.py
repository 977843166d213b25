"""Trainings in processes of their own, forked from a server that has imported everything: about a second each.

A real process can be killed and its kernel locks die with it; a simulated kill would run `finally` blocks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.sabotage import Sabotage, apply

KILLED = -9
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faults.preload"])


@dataclass(frozen=True)
class Outcome:
    """How a run ended (minus the signal's number when one killed it), and what it printed."""

    code: int
    text: str


def _child(cwd: str, arguments: list[str], log: str, sabotage: Sabotage | None) -> None:
    from sftgo_cli.cli.main import main

    os.chdir(cwd)
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = open(1, "w", buffering=1, closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    if sabotage is not None:
        apply(sabotage)
    sys.exit(main(arguments))


class Run:
    """One training in a folder; `finish` waits for it."""

    def __init__(self, cwd: Path, arguments: Sequence[str], sabotage: Sabotage | None = None) -> None:
        self.log = cwd / f"log-{len(list(cwd.glob('log-*')))}.txt"
        self.log.touch()
        self.process = FORKS.Process(target=_child, args=(str(cwd), list(arguments), str(self.log), sabotage))
        self.process.start()

    def finish(self, seconds: float = 60) -> Outcome:
        """Wait; a run that hangs is killed and fails the test."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s: {self.log.read_text()}")
        return Outcome(int(self.process.exitcode), self.log.read_text())


def train(cwd: Path, arguments: Sequence[str], sabotage: Sabotage | None = None) -> Outcome:
    """`sftgo train ARGUMENTS` in `cwd`, to its end."""
    return Run(cwd, ["train", *arguments], sabotage).finish()


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def state(run: Path) -> dict[str, bytes]:
    """Bytes of the published model and of the newest checkpoint's model, optimizer, scheduler and random states."""
    newest = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    found = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    for path in newest.iterdir():
        if path.suffix == ".safetensors" or path.name in ("optimizer.json", "scheduler.json"):
            found[f"{newest.name}/{path.name}"] = path.read_bytes()
    return found


def assert_same_run(run: Path, reference: Path) -> None:
    """Weights, optimizer, schedule, random states and metrics are bit-identical, and nothing half-written is left."""
    assert metrics(run) == metrics(reference)
    ours, theirs = state(run), state(reference)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert [path.name for path in run.glob(".*") if path.name != ".lock"] == []
