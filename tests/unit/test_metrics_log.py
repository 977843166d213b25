"""metrics.jsonl after a kill: no step twice, none missing, a torn line repaired."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftgo_cli import metrics_log


def test_torn_last_line_and_later_steps_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (0, 2, 4, 6):
        metrics_log.append(path, {"event": "train", "step": step, "loss": 0.1 + step})
    with path.open("a") as file:
        file.write('{"event": "train", "step": 8, "lo')
    assert [line["step"] for line in metrics_log.read_metrics(path)] == [0, 2, 4, 6]
    metrics_log.keep_until(path, 4)
    metrics_log.append(path, {"event": "train", "step": 6})
    assert [line["step"] for line in metrics_log.read_metrics(path)] == [0, 2, 4, 6]
    assert path.read_text().count("\n") == 4


def test_a_damaged_line_costs_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\x00\x00\xff\x00\n{"step": 3}\n')
    assert metrics_log.read_metrics(path) == [{"step": 1}, {"step": 3}]


def test_from_the_start_nothing_is_kept(tmp_path: Path) -> None:
    """Also not the evaluation before step 1, which is made again."""
    path = tmp_path / "metrics.jsonl"
    metrics_log.append(path, {"event": "eval", "step": 0})
    metrics_log.keep_until(path, 0)
    assert metrics_log.read_metrics(path) == []
    assert metrics_log.read_metrics(tmp_path / "missing") == []


def test_numbers_survive_exactly_and_non_finite_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics_log.append(path, {"step": 1, "loss": 0.1 + 0.2})
    metrics_log.keep_until(path, 1)
    assert metrics_log.read_metrics(path) == [{"step": 1, "loss": 0.1 + 0.2}]
    with pytest.raises(ValueError, match="Out of range"):
        metrics_log.append(path, {"loss": float("nan")})
