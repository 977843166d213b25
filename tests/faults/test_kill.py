"""kill -9 at any instant: the same command ends with the bits of a run that was never killed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from sftgo_cli import durable
from tests.faults.runs import KILLED, Run, assert_same_run, train
from tests.faults.sabotage import Sabotage


def test_killed_at_every_stage_of_one_run(recipe: str, whole_run: Path, tmp_path: Path) -> None:
    kills = [
        Sabotage("micro_batch", "kill", step=3, count=2),  # no checkpoint yet, inside an accumulation window
        Sabotage("micro_batch", "kill", step=6),
        Sabotage("storage", "kill", step=8, count=5),  # half a checkpoint
        Sabotage("evaluation", "kill", step=12),
        Sabotage("publish", "kill", count=3),  # half a model
    ]
    for number, kill in enumerate(kills):
        outcome = train(tmp_path, [recipe], kill)
        assert outcome.code == KILLED, outcome.text
        assert ("starting from step 0" in outcome.text) == (number == 1)
        assert ("resuming from checkpoint-4" in outcome.text) == (number in (2, 3))
    assert train(tmp_path, [recipe]).code == 0
    assert_same_run(tmp_path / "run", whole_run)


def test_a_finished_run_does_nothing_again(recipe: str, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in durable.files_below(finished) if path.name != ".lock"}
    outcome = train(finished.parent, [recipe])
    assert outcome.code == 0
    assert "is finished after 12 steps" in outcome.text
    assert {path: path.stat().st_mtime_ns for path in durable.files_below(finished) if path.name != ".lock"} == before


def test_killed_between_evaluation_and_the_epochs_last_save(recipe: str, tmp_path: Path) -> None:
    """Saving by steps, evaluating by epoch: the checkpoint of an epoch's last step holds its evaluation."""
    overrides = [recipe, "training.save_steps=6"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert train(tmp_path / "whole", overrides).code == 0
    assert train(tmp_path / "killed", overrides, Sabotage("evaluation", "kill", step=6)).code == KILLED
    assert train(tmp_path / "killed", overrides, Sabotage("micro_batch", "kill", step=7)).code == KILLED
    assert train(tmp_path / "killed", overrides).code == 0
    assert_same_run(tmp_path / "killed/run", tmp_path / "whole/run")


def test_killed_after_early_stopping(recipe: str, tmp_path: Path) -> None:
    """A run that early stopping had ended publishes its model; it must not train on."""
    stops = ["training.early_stopping_patience=1", "training.early_stopping_threshold=100"]
    overrides = [recipe, *stops, "training.eval_strategy=steps", "training.eval_steps=2", "training.save_steps=2"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert train(tmp_path / "whole", overrides).code == 0
    assert train(tmp_path / "killed", overrides, Sabotage("publish", "kill", count=1)).code == KILLED
    assert train(tmp_path / "killed", overrides).code == 0
    assert_same_run(tmp_path / "killed/run", tmp_path / "whole/run")
    assert (tmp_path / "whole/run/checkpoint-4").is_dir()
    assert not (tmp_path / "whole/run/checkpoint-6").exists()


@pytest.mark.slow
def test_killed_at_every_storage_call_of_a_save(recipe: str, whole_run: Path, tmp_path: Path) -> None:
    for count in range(1, 200):
        folder = tmp_path / str(count)
        folder.mkdir()
        outcome = train(folder, [recipe], Sabotage("storage", "kill", step=12, count=count))
        if outcome.code == 0:
            break
        assert outcome.code == KILLED
        whole = [path for path in (folder / "run").glob("checkpoint-*") if not durable.manifest_faults(path)]
        assert len(whole) >= 2, f"at call {count}"
        assert train(folder, [recipe]).code == 0
        assert_same_run(folder / "run", whole_run)
    assert 30 < count < 199


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(recipe: str, whole_run: Path, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(40):
        run = Run(tmp_path, ["train", recipe])
        time.sleep(generator.uniform(0.1, 1.5))
        run.process.kill()
        if run.finish().code == 0:
            break
    assert train(tmp_path, [recipe]).code == 0
    assert_same_run(tmp_path / "run", whole_run)
