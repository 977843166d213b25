"""A full or failing disk: exit 3 naming path and bytes, the checkpoints before intact, nothing half-written in sight."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sftgo_cli import durable
from tests.faults.runs import assert_same_run, train
from tests.faults.sabotage import Sabotage


@pytest.mark.parametrize(("action", "count"), [("enospc", 2), ("eio", 16)])
def test_a_failing_save(recipe: str, whole_run: Path, tmp_path: Path, action: str, count: int) -> None:
    outcome = train(tmp_path, [recipe], Sabotage("storage", action, step=8, count=count))
    assert outcome.code == 3, outcome.text
    run = tmp_path / "run"
    assert str(run) in outcome.text
    assert "checkpoint-8 needs about" in outcome.text
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-4"]
    assert durable.manifest_faults(run / "checkpoint-4") == []
    assert [path.name for path in run.glob(".*") if path.name != ".lock"] == []
    assert train(tmp_path, [recipe]).code == 0
    assert_same_run(run, whole_run)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_every_storage_call_of_a_save_fails(recipe: str, whole_run: Path, tmp_path: Path, action: str) -> None:
    for count in range(1, 200):
        folder = tmp_path / str(count)
        folder.mkdir()
        outcome = train(folder, [recipe], Sabotage("storage", action, step=12, count=count))
        if outcome.code == 0 and count > 60:
            break
        assert outcome.code in (0, 3), outcome.text  # 0: deleting what is no longer needed failed, and is tried again
        whole = [path for path in (folder / "run").glob("checkpoint-*") if not durable.manifest_faults(path)]
        assert len(whole) >= 2, f"at call {count}"
        assert train(folder, [recipe]).code == 0
        shutil.rmtree(folder)
    assert count < 199


SIZE_LIMIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from sftgo_cli.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def limited(cwd: Path, num_bytes: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """A run whose files may not grow beyond a size."""
    command = [sys.executable, "-c", SIZE_LIMIT, str(num_bytes), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_file_size_limit(recipe: str, finished: Path) -> None:
    """safetensors reports it in a way of its own, which is no OSError."""
    shutil.rmtree(finished)
    done = limited(finished.parent, 30_000, ["train", recipe])  # the toy's weights are larger
    assert done.returncode == 3, done.stderr
    assert "storage failed: File too large" in done.stderr
    assert str(finished / "checkpoint-4") in done.stderr
    assert list(finished.glob("checkpoint-*")) == []


@pytest.mark.slow
def test_a_full_disk(recipe: str, whole_run: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1100k", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        outcome = train(tmp_path, [recipe, f"training.output_dir={disk}/run"])
        assert outcome.code == 3, outcome.text
        assert "No space left on device" in outcome.text
        assert all(not durable.manifest_faults(path) for path in (disk / "run").glob("checkpoint-*"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert train(tmp_path, [recipe, f"training.output_dir={disk}/run"]).code == 0
        assert_same_run(disk / "run", whole_run)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
