"""kill -9 at the N-th system call of every kind that a save makes, from outside, by strace."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sftgo_cli import durable
from tests.faults.runs import assert_same_run, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir", "unlink,unlinkat,rmdir", "write,pwrite64"])
def test_killed_at_the_nth_system_call(recipe: str, whole_run: Path, tmp_path: Path, call: str) -> None:
    """The counts are spread over the run: every one of them would take hours, and the saves repeat."""
    step = 40 if call.startswith("write") else 9
    for number in range(3, 2000, step):
        folder = tmp_path / str(number)
        folder.mkdir()
        inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        inject += ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
        done = subprocess.run(
            [*inject, sys.executable, "-m", "sftgo_cli", "train", recipe], cwd=folder, capture_output=True, check=False
        )
        if done.returncode == 0:
            break
        partial = [path for path in (folder / "run").glob("checkpoint-*") if durable.manifest_faults(path)]
        assert partial == []
        assert train(folder, [recipe]).code == 0
        assert_same_run(folder / "run", whole_run)
        shutil.rmtree(folder)
