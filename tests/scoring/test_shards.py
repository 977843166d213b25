"""The engine of model-based scorers: the same bytes whatever the processes and kills, and errors as one line."""

from __future__ import annotations

import io
import os
import random
import re
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sftgo_cli import progress
from sftgo_cli.cache import cache_root, entries
from sftgo_cli.errors import EnvironmentProblem, UserError, UserErrors
from sftgo_cli.scoring import shards
from sftgo_cli.scoring.stages import SHARDS
from tests.scoring import toy_scorer
from tests.scoring.engine import SHARD_TOKENS, columns_of, score, start, two_sources


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "here" / "cache"))
    monkeypatch.setattr(shards, "SHARD_TOKENS", SHARD_TOKENS)


def kept_shards() -> list[Path]:
    return sorted((cache_root() / SHARDS).glob("*/[0-9]*.shard"))


def shards_of(log: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in log.read_text().splitlines() if " shard " in line]


def test_shards_are_consecutive_whole_rows() -> None:
    lengths = np.array([3, 4, 5, 20, 1, 1, 8, 2])
    cut = [(shard.start, shard.stop, shard.num_tokens) for shard in shards.cut_shards(lengths, 0, 10)]
    assert cut == [(0, 2, 7), (2, 3, 5), (3, 4, 20), (4, 7, 10), (7, 8, 2)]  # the longer row stands alone
    assert list(shards.cut_shards(lengths[:0], 0, 10)) == []


def test_every_written_column_stands_beside_its_row(tmp_path: Path) -> None:
    rows = two_sources(tmp_path)
    for dataset in score(rows, factor=2.0).datasets:
        assert dataset.column_names[-3:] == ["token_scores", "base_nll", "reference_nll"]
        for row in dataset:
            ids = np.array(row["input_ids"])
            base = np.sqrt(ids.mean()) + np.array(row["pinned"])
            expected = {"base_nll": base, "reference_nll": 2 * np.log1p(ids)}
            expected["token_scores"] = expected["base_nll"] - expected["reference_nll"]
            for name, values in expected.items():
                masked = np.where(np.array(row["labels"]) != -100, values, np.nan)
                np.testing.assert_allclose(np.array(row[name], dtype=np.float64), masked, rtol=1e-6, atol=1e-6)
    assert not (cache_root() / SHARDS).exists() or not any((cache_root() / SHARDS).iterdir())


def test_a_stage_replaces_columns_of_an_earlier_one(tmp_path: Path) -> None:
    once = score(two_sources(tmp_path))
    twice = score(once, factor=3.0)
    for before, after in zip(once.datasets, twice.datasets, strict=True):
        assert sorted(after.column_names) == sorted(before.column_names)
        assert after[5]["base_nll"] == pytest.approx(before[5]["base_nll"], nan_ok=True)
        ratio = np.array(after[5]["reference_nll"]) / np.array(before[5]["reference_nll"])
        assert ratio[~np.isnan(ratio)] == pytest.approx(3.0, rel=1e-6)


def test_the_key_is_what_the_scores_depend_on(tmp_path: Path) -> None:
    rows = two_sources(tmp_path)
    log = tmp_path / "log"
    first = score(rows, log=str(log)).keys
    num_shards = len(shards_of(log))
    assert score(rows, num_processes=2, log=str(log), seconds=1e-6).keys == first  # neither paths nor processes count
    assert len(shards_of(log)) == num_shards > 10
    assert score(rows, log=str(log), factor=2.0).keys != first
    assert [entry.stage for entry in entries()] == ["score", "score"]


def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    runs = [start(tmp_path / name, number, 0.01) for name, number in (("one", 1), ("two", 2))]
    assert [run.finish()[0] for run in runs] == [0, 0]
    one, two = (columns_of(run.folder) for run in runs)
    assert len(one) == 2
    assert one == two
    openers = {line.split()[0] for line in runs[1].log if line.endswith("open")}
    workers = {line.split()[0] for line in runs[1].log if " shard " in line}
    assert len(openers) == 2
    assert workers <= openers
    assert str(runs[1].process.pid) not in openers
    assert sorted(runs[0].shards()) == sorted(runs[1].shards())


def killed_and_rerun(folder: Path, num_processes: int, kills: int, seed: int) -> list[str]:
    """Kill the run `kills` times at random moments, then let it end; returns the shards of all runs."""
    generator = random.Random(seed)
    total = len([*start_and_finish(folder.parent / "reference", 1)])
    for kill in range(kills):
        run = start(folder, num_processes, 0.01)
        run.wait_for(len(run.shards()) + generator.randint(0, max(1, 2 * total // (kills + 1))))
        time.sleep(generator.uniform(0, 0.03 if kill % 2 else 0.3))
        run.process.kill()
        run.process.join()
    run = start(folder, num_processes)
    code, said = run.finish()
    assert code == 0, said
    assert columns_of(folder) == columns_of(folder.parent / "reference")
    return run.shards()


def start_and_finish(folder: Path, num_processes: int) -> list[str]:
    run = start(folder, num_processes)
    code, said = run.finish()
    assert code == 0, said
    return run.shards()


def test_killed_three_times_and_run_again(tmp_path: Path) -> None:
    computed = killed_and_rerun(tmp_path / "killed", 1, 3, seed=0)
    reference = shards_of(tmp_path / "reference" / "log")
    assert set(computed) == set(reference)
    assert len(computed) <= len(reference) + 3  # a kill costs at most the shard in work


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_twenty_times_and_run_again(tmp_path: Path, num_processes: int) -> None:
    computed = killed_and_rerun(tmp_path / "killed", num_processes, 20, seed=num_processes)
    reference = shards_of(tmp_path / "reference" / "log")
    assert set(computed) == set(reference)
    assert len(computed) <= len(reference) + 20 * num_processes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_finished_shards(tmp_path: Path, number: int) -> None:
    num_processes = 2 if number == signal.SIGTERM else 1
    run = start(tmp_path / "run", num_processes, 0.05)
    run.wait_for(4)
    os.kill(run.process.pid, number)
    code, said = run.finish()
    assert code == 75
    assert "run the same command to continue" in said
    done = len(list((tmp_path / "run/cache" / SHARDS).glob("*/[0-9]*.shard")))
    assert done >= 3
    before = len(run.shards())
    run = start(tmp_path / "run", 1)
    code, said = run.finish()
    total = len(set(run.shards()))
    assert (code, f"resuming: {done} of {total} shards are done" in said) == (0, True), said
    assert len(run.shards()) - before == total - done


def test_a_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    run = start(tmp_path / "run", 2, 0.5)
    workers: set[int] = set()
    while len(workers) < 2:
        assert run.process.is_alive()
        workers = {int(line.split()[0]) for line in run.log if line.endswith("open")}
        time.sleep(0.01)
    assert all(alive(worker) for worker in workers)
    run.process.kill()
    run.process.join()
    until = time.monotonic() + 5
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_damaged_shard_is_computed_again(tmp_path: Path) -> None:
    log, said = tmp_path / "log", []
    rows = two_sources(tmp_path)
    with pytest.raises(UserError):
        score(rows, log=str(log), bad_row="b90")
    done = kept_shards()
    assert len(done) == len(shards_of(log)) > 3
    done[0].write_bytes(done[0].read_bytes()[:-1])
    content = bytearray(done[1].read_bytes())
    content[9] ^= 1
    done[1].write_bytes(bytes(content))
    done[2].write_bytes(b"")
    before = len(shards_of(log))
    score(rows, said=said, log=str(log))
    total = len(set(shards_of(log)))
    assert f"resuming: {len(done) - 3} of {total} shards are done" in said
    assert sum("is damaged, computing it again" in line for line in said) == 3
    assert len(shards_of(log)) - before == total - len(done) + 3


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, num_processes: int
) -> None:
    rows = two_sources(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SHARD_TOKENS, hard))  # a shard has 12 bytes per token
    try:
        with pytest.raises(EnvironmentProblem, match=r"storage failed: File too large - .*\.shard - make room"):
            score(rows, num_processes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(entries()) == []
    assert not [path for path in (cache_root() / "score").iterdir() if path.is_dir()]
    left = [path for path in (cache_root() / SHARDS).rglob("*") if path.is_file()]
    assert len(left) <= num_processes - 1  # what the other process was at when it was ended
    score(rows)
    assert list((cache_root() / SHARDS).iterdir()) == []


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize(("kind", "expected"), [("one", UserError), ("several", UserErrors), ("bug", Exception)])
def test_a_scorers_error_comes_back(tmp_path: Path, num_processes: int, kind: str, expected: Any) -> None:
    rows = two_sources(tmp_path)
    with pytest.raises(expected) as raised:
        score(rows, num_processes, bad_row="a5", error=kind)
    line = "the row is bad - row a5 - give another"
    text = {"one": line, "several": f"{line}\n{line}", "bug": "by zero"}[kind]
    assert str(raised.value).endswith(text)
    assert type(raised.value) is expected or kind == "bug"
    assert list(entries()) == []


def test_a_killed_scoring_process_is_named(tmp_path: Path) -> None:
    rows = two_sources(tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"a scoring process was killed by SIGKILL - process \d+ - .*-n"):
        score(rows, 2, die_at="a50")
    score(rows, 1)


def test_a_scorer_that_breaks_its_promise_keeps_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_scorer(options: Any, context: Any) -> Any:
        return lambda chunk: {name: np.zeros(3, np.float32) for name in toy_scorer.written(options)}

    monkeypatch.setattr(toy_scorer, "open_scorer", open_scorer)
    with pytest.raises(
        UserError, match=r"toy gave float32\[3\] as token_scores, not float32\[\d+\] - rows a0 to a\d+ - "
    ):
        score(two_sources(tmp_path))
    assert kept_shards() == []


def test_lines_tell_rate_and_remaining_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    said: list[str] = []
    rows = two_sources(tmp_path)
    with pytest.raises(UserError):
        score(rows, bad_row="a60")
    score(rows, said=said)
    lines = [line for line in said if "tokens/s" in line]
    assert len(lines) > 3
    pattern = r"scoring with toy: ([\d,]+) of ([\d,]+) tokens, ([\d,]+) tokens/s, (?:(\d+) min )?(\d+) s left"
    for line in lines:
        done, total, rate, minutes, seconds = (
            int((part or "0").replace(",", "")) for part in re.fullmatch(pattern, line).groups()
        )
        assert 0 < done < total
        left = 60 * minutes + seconds
        assert left == pytest.approx((total - done) / rate, rel=0.1, abs=2)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_bar(tmp_path: Path, width: int) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width)
    said: list[str] = []
    score(two_sources(tmp_path), said=said, console=console)
    assert "100%" in shown.getvalue()
    assert ("tokens/s" if width == 120 else "/s") in shown.getvalue()
    assert "…" not in shown.getvalue()
    assert said == ["scoring 300 rows with toy"]


def test_durations() -> None:
    given = [0.4, 59.6, 61, 3599, 3661, 90_000]
    assert [progress.duration(seconds) for seconds in given] == [
        "0 s",
        "1 min 00 s",
        "1 min 01 s",
        "59 min 59 s",
        "1 h 01 min",
        "25 h 00 min",
    ]


def test_a_number_that_is_not_finite_is_refused_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN would sort as the most important score: weights that overflow must not pass for importance."""
    rows = two_sources(tmp_path)
    opened = toy_scorer.open_scorer

    def overflowing(options: Any, context: Any) -> Any:
        sound = opened(options, context)
        return lambda chunk: {
            name: np.where(values > 0, np.float32(np.inf), values) for name, values in sound(chunk).items()
        }

    monkeypatch.setattr(toy_scorer, "open_scorer", overflowing)
    with pytest.raises(UserError, match=r"toy computed inf as \w+ of token \d+ - row .* scoring.dtype: float32"):
        score(rows)
    assert not [entry for entry in entries() if entry.stage == "score"]
