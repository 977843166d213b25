"""Two processes: one is killed and the other must not stay; a stop is agreed on; both resume bit-identically."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.runs import assert_same_run

pytestmark = pytest.mark.slow


def start(cwd: Path, recipe: str) -> subprocess.Popen[bytes]:
    """A run of two processes on the CPU."""
    cwd.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "sftgo_cli", "train", recipe, "-n", "2", "training.num_train_epochs=40"]
    with (cwd / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)


def ranks(launcher: int) -> list[int]:
    """Process ids of the ranks: the launcher's grandchildren that have RANK set."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            if b"RANK=0" in environment or b"RANK=1" in environment:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                grandparent = int(Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1])
                if grandparent == launcher:
                    found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def wait_for_checkpoint(cwd: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if list(cwd.glob("run/checkpoint-*")):
            return
        assert process.poll() is None, (cwd / "log.txt").read_text()
        time.sleep(0.1)
    raise AssertionError((cwd / "log.txt").read_text())


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_one_of_two_ranks_is_killed_or_both_are_stopped(recipe: str, tmp_path: Path) -> None:
    whole = start(tmp_path / "whole", recipe)
    assert whole.wait(300) == 0, (tmp_path / "whole/log.txt").read_text()

    broken = tmp_path / "broken"
    process = start(broken, recipe)
    wait_for_checkpoint(broken, process)
    members = ranks(process.pid)
    assert len(members) == 2
    os.kill(members[1], signal.SIGKILL)
    assert process.wait(30) != 0
    assert all(not Path(f"/proc/{member}").exists() for member in members)

    process = start(broken, recipe)
    time.sleep(8)
    process.terminate()
    assert process.wait(60) in (75, 0), (broken / "log.txt").read_text()
    assert start(broken, recipe).wait(300) == 0
    assert_same_run(broken / "run", tmp_path / "whole/run")
