"""State on disk that is damaged, or belongs to another run: said aloud, exit 5, never silently from step 0."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sftgo_cli.cli.main import main
from tests.faults.conftest import make_toy
from tests.faults.runs import assert_same_run, train
from tests.faults.sabotage import Sabotage


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(recipe: str, whole_run: Path, tmp_path: Path) -> None:
    assert train(tmp_path, [recipe], Sabotage("micro_batch", "kill", step=10)).code < 0
    run = tmp_path / "run"
    flip(run / "checkpoint-8/optimizer.safetensors")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "loss": 1.')  # a torn line
    outcome = train(tmp_path, [recipe])
    assert outcome.code == 0
    assert "checkpoint-8 is damaged (optimizer.safetensors was altered)" in outcome.text
    assert "resuming from checkpoint-4" in outcome.text
    assert_same_run(run, whole_run)


def test_no_checkpoint_left_is_exit_5(recipe: str, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unfinish(finished)
    flip(finished / "checkpoint-8/model.safetensors")
    (finished / "checkpoint-12/scheduler.json").unlink()
    assert main(["train", recipe]) == 5
    text = capfd.readouterr().err
    assert "checkpoint-12 is damaged (scheduler.json is missing)" in text
    assert "checkpoint-8 is damaged (model.safetensors was altered)" in text
    assert "every checkpoint is damaged" in text


def unfinish(run: Path) -> None:
    """As if the run had been killed before it published its model."""
    stages = json.loads((run / "stages.json").read_text())
    (run / "stages.json").write_text(json.dumps({**stages, "finished_steps": None}))


def test_a_missing_random_state_is_exit_5(recipe: str, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where the manifest does not know of it."""
    shutil.rmtree(finished / "checkpoint-12")
    unfinish(finished)
    checkpoint = finished / "checkpoint-8"
    (checkpoint / "rank_state_0.safetensors").unlink()
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["files"]["rank_state_0.safetensors"]
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert main(["train", recipe]) == 5
    assert "no random state of process 0" in capfd.readouterr().err


def test_another_recipe_is_exit_5(recipe: str, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", recipe, "training.learning_rate=0.5", "training.seed=7", "objective.mixing_weight=0.8"]) == 5
    text = capfd.readouterr().err
    for change in (
        "training.learning_rate: 0.01 -> 0.5",
        "training.seed: 42 -> 7",
        "objective.mixing_weight: 0.9 -> 0.8",
    ):
        assert change in text
    assert "content of" not in text


def test_other_data_tokenizer_or_weights_is_exit_5(
    toy: Path, recipe: str, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(toy, other)
    rows = (other / "rows.jsonl").read_text()
    (other / "rows.jsonl").write_text(rows.replace("red", "rod", 1))
    assert main(["train", str(other / "recipe.yaml")]) == 5
    text = capfd.readouterr().err
    assert "content of training data.0: " in text
    assert " -> " in text
    assert "base model" not in text

    (other / "rows.jsonl").write_text(rows)
    tokenizer = json.loads((other / "model/tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (other / "model/tokenizer.json").write_text(json.dumps(tokenizer))
    assert main(["train", str(other / "recipe.yaml")]) == 5
    assert "content of training data.0: " in capfd.readouterr().err

    shutil.rmtree(other)
    make_toy(other, seed=1)
    assert main(["train", str(other / "recipe.yaml")]) == 5
    text = capfd.readouterr().err
    assert "content of base model.model.safetensors: " in text
    assert "training data" not in text


def test_a_moved_recipe_with_the_same_content_is_the_same_run(toy: Path, finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(toy, other)
    (other / "rows.jsonl").rename(other / "renamed.jsonl")
    assert main(["train", str(other / "recipe.yaml"), "data.train.0.path=renamed.jsonl"]) == 0


def test_a_longer_run_is_refused_while_a_schedule_depends_on_it(
    recipe: str, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", recipe, "training.num_train_epochs=3"]) == 5
    assert "training.num_train_epochs: 2.0 -> 3.0" in capfd.readouterr().err


def test_a_finished_run_may_grow(recipe: str, tmp_path: Path) -> None:
    constant = [recipe, "objective.name=cross_entropy"]
    assert train(tmp_path, [*constant, "training.max_steps=4"]).code == 0
    # killed while it grows: it must not be taken for finished
    assert train(tmp_path, [*constant, "training.max_steps=6"], Sabotage("model", "kill")).code < 0
    outcome = train(tmp_path, [*constant, "training.max_steps=6"])
    assert outcome.code == 0
    assert "resuming from checkpoint-4" in outcome.text
    assert json.loads((tmp_path / "run/stages.json").read_text())["finished_steps"] == 6
    assert train(tmp_path, [*constant, "training.max_steps=5"]).code == 5


def test_a_folder_with_a_foreign_model_is_exit_5(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.safetensors").write_bytes(b"mine")
    assert main(["train", recipe]) == 5
    assert "not a run of sftgo" in capfd.readouterr().err
    assert (tmp_path / "run/model.safetensors").read_bytes() == b"mine"


def test_output_folders_that_cannot_be(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 before the data is read: the recipe's rows do not even exist."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "file").write_text("")
    (work / "link").symlink_to(tmp_path)
    for folder, why in (
        ("file", "the run folder is a file"),
        ("file/run", "cannot be written"),
        ("link/run", "lies outside the working directory"),
        ("../run", "lies outside the working directory"),
    ):
        code = main(["train", recipe, f"training.output_dir={folder}", "data.train.0.path=missing.jsonl"])
        assert (code, why in capfd.readouterr().err) == (2, True), folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]
