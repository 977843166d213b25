"""SIGTERM and SIGINT: finish the step, save, exit 75; the rerun ends with the bits of a run that was never stopped."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sftgo_cli import durable
from tests.faults.runs import Run, assert_same_run, metrics, state, train
from tests.faults.sabotage import Sabotage

INTERRUPTED = 75


def test_stopped_four_times(recipe: str, whole_run: Path, tmp_path: Path) -> None:
    stops = [
        (Sabotage("micro_batch", "term", step=2, count=1), 2),  # inside an accumulation window
        (Sabotage("micro_batch", "int", step=6), 6),  # at the epoch's end, its evaluation still to come
        (Sabotage("evaluation", "term", step=12), 0),  # after the last step: nothing is left to interrupt
    ]
    stops.insert(2, (Sabotage("micro_batch", "term", step=9), 9))  # in the second epoch
    for stop, saved in stops:
        outcome = train(tmp_path, [recipe], stop)
        assert outcome.code == (INTERRUPTED if saved else 0), outcome.text
        if saved:
            assert f"interrupted after step {saved} - " in outcome.text
            assert durable.manifest_faults(tmp_path / f"run/checkpoint-{saved}") == []
    assert_same_run(tmp_path / "run", whole_run)


def test_dropout_workers_and_schedules_survive_a_stop(recipe: str, tmp_path: Path) -> None:
    """Adapters with dropout, data workers, rates at every step; evaluation or not changes no training line."""
    lora = ["tuning.name=lora", "tuning.r=2", "tuning.lora_dropout=0.3"]
    short = [recipe, *lora, "training.max_steps=9", "training.logging_steps=1", "training.load_best_model_at_end=true"]
    evaluated = [*short, "training.eval_strategy=steps", "training.eval_steps=2"]
    for name in ("whole", "stopped", "plain"):
        (tmp_path / name).mkdir()
    assert train(tmp_path / "whole", evaluated).code == 0
    workers = [*evaluated, "training.dataloader_num_workers=1"]
    outcome = train(tmp_path / "stopped", workers, Sabotage("micro_batch", "term", step=5))
    assert outcome.code == INTERRUPTED, outcome.text
    assert train(tmp_path / "stopped", workers).code == 0
    assert_same_run(tmp_path / "stopped/run", tmp_path / "whole/run")

    never = [*short[:-1], "training.eval_strategy=no"]
    assert train(tmp_path / "plain", never).code == 0
    lines = [line for line in metrics(tmp_path / "whole/run") if line["event"] == "train"]
    assert metrics(tmp_path / "plain/run") == lines
    assert [line["step"] for line in lines] == list(range(1, 10))
    # linear from 0.9 to 0.1 over 9 steps, in steps of 0.1; warm-up takes ceil(0.2 * 9) = 2 steps
    assert [line["mixing_weight"] for line in lines] == pytest.approx([0.9 - 0.1 * step for step in range(9)])
    assert [line["learning_rate"] for line in lines[:3]] == pytest.approx([0.0, 0.005, 0.01])
    last = {name: value for name, value in state(tmp_path / "plain/run").items() if name.startswith("checkpoint")}
    assert last == {name: value for name, value in state(tmp_path / "whole/run").items() if name in last}


def test_stopped_in_data_preparation_and_while_loading(recipe: str, whole_run: Path, tmp_path: Path) -> None:
    fresh = [recipe, "data.max_length=63"]  # not in the cache
    outcome = train(tmp_path, fresh, Sabotage("prepare", "term"))
    assert (outcome.code, (tmp_path / "run").exists()) == (INTERRUPTED, False)
    assert "interrupted: run the same command" in outcome.text
    outcome = train(tmp_path, [recipe], Sabotage("model", "term"))
    assert outcome.code == INTERRUPTED
    assert train(tmp_path, [recipe]).code == 0
    assert_same_run(tmp_path / "run", whole_run)


def test_a_second_signal_exits_at_once(recipe: str, tmp_path: Path) -> None:
    outcome = train(tmp_path, [recipe], Sabotage("micro_batch", "twice", step=6))
    assert outcome.code == INTERRUPTED
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-4"]


def test_two_runs_on_one_folder(recipe: str, tmp_path: Path) -> None:
    first = Run(tmp_path, ["train", recipe, "training.num_train_epochs=200"])
    holder = tmp_path / "run/.lock.json"
    for _ in range(200):
        if holder.is_file():
            break
        time.sleep(0.05)
    second = train(tmp_path, [recipe])
    first.process.terminate()
    assert first.finish().code == INTERRUPTED
    assert second.code == 2
    assert f'"pid": {first.process.pid}' in second.text
    assert "another run is using this folder" in second.text
