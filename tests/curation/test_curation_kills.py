"""`sftgo curate` killed at random instants and run again ends with the rows of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "s3ft" / "builtin.yaml"
COMMAND = [sys.executable, "-m", "sftgo_cli", "curate", str(RECIPE), "data.eval={}", "evaluation={}"]


def start(cache: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *more],
        env={**os.environ, "SFTGO_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(cache: Path, *more: str) -> str:
    run = start(cache, *more)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    return said


def rows(cache: Path) -> dict[str, bytes]:
    folder = next(path for path in (cache / "curate").iterdir() if path.is_dir() and not path.name.startswith("."))
    return {name: (folder / name).read_bytes() for name in ("rows.jsonl", "provenance.jsonl")}


def killed_and_rerun(tmp_path: Path, num_kills: int, longest: float, *more: str) -> None:
    finished(tmp_path / "whole", *more)
    expected = rows(tmp_path / "whole")
    rng = random.Random(num_kills)
    cache = tmp_path / "killed"
    for _ in range(num_kills):
        run = start(cache, *more)
        time.sleep(rng.uniform(0.5, longest))
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
    finished(cache, *more)
    assert rows(cache) == expected
    assert not list((cache / "curation_journal").glob("*.jsonl"))
    sources = {json.loads(line)["target_source"] for line in expected["provenance.jsonl"].splitlines()}
    assert sources == {"model", "paraphrase", "gold"}


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_killed_twenty_times(tmp_path: Path, processes: str) -> None:
    more = ["data.train.0.max_samples=160", "-n", processes]
    killed_and_rerun(tmp_path, 20, 9.0, *more)
    assert "answering" not in finished(tmp_path / "killed", *more)
