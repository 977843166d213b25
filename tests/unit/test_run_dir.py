"""Claiming a run's folder, and what makes two runs different."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import durable, run_dir
from sftgo_cli.errors import StateError, UserError

RECIPE: dict[str, Any] = {
    "model": {"name_or_path": "a", "dtype": "float32"},
    "data": {
        "packing": True,
        "train": [{"path": "rows.jsonl", "weight": 1.0}],
        "eval": {},
        "max_length": 64,
        "chat_template": None,
    },
    "scoring": {"name": "tfidf"},
    "objective": {"name": "sft_go", "schedule": "constant"},
    "training": {
        "output_dir": "run",
        "learning_rate": 0.1,
        "max_steps": -1,
        "num_train_epochs": 3.0,
        "logging_steps": 5,
    },
    "evaluation": {},
}


def identity(changes: dict[str, Any] | None = None, world_size: int = 1, key: str = "k") -> run_dir.RunIdentity:
    """A run with some `section.key` values changed."""
    recipe = copy.deepcopy(RECIPE)
    for name, value in (changes or {}).items():
        section, option = name.split(".")
        recipe[section][option] = value
    return run_dir.RunIdentity(
        recipe, {"training data": {0: key}, "base model": {"model.safetensors": "w"}}, world_size
    )


def written(folder: Path, run: run_dir.RunIdentity) -> Path:
    """A folder that holds the run."""
    folder.mkdir()
    run_dir.write_run_files(folder, run, "text", {})
    (folder / "checkpoint-1").mkdir()
    return folder


def test_a_start_that_made_no_step_claims_nothing(tmp_path: Path) -> None:
    """An evaluation before training is no step; a logged step, a checkpoint and the end of a run are."""
    folder, other = written(tmp_path / "run", identity()), identity({"training.learning_rate": 0.2})
    (folder / "checkpoint-1").rmdir()
    metrics = folder / "metrics.jsonl"
    metrics.write_text('{"event": "eval", "step": 0}\n')
    assert run_dir.check_same_run(folder, other) == []
    metrics.write_text('{"event": "eval", "step": 0}\n{"event": "train", "step": 1}\n')
    with pytest.raises(StateError):
        run_dir.check_same_run(folder, other)
    metrics.unlink()
    durable.write_json(folder / "stages.json", run_dir.stages_of(identity(), finished_steps=3))
    with pytest.raises(StateError):
        run_dir.check_same_run(folder, other)


@pytest.mark.parametrize("kind", ["loop", "long", "nul", "no such home"])
def test_a_run_folder_that_cannot_be(tmp_path: Path, kind: str) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    path = {"loop": str(loop), "long": str(tmp_path / ("x" * 300)), "nul": "a\0b", "no such home": "~no_such_user/run"}
    for name in (path[kind], f"{path[kind]}/below"):
        with pytest.raises(UserError) as raised:
            run_dir.check_output_dir(name)
        assert str(raised.value).count(" - ") >= 2


def test_the_same_run_changes_nothing(tmp_path: Path) -> None:
    assert run_dir.check_same_run(written(tmp_path / "run", identity()), identity()) == []


def test_what_may_change_is_listed(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", identity())
    changes = {"training.logging_steps": 1, "training.num_train_epochs": 4.0, "model.name_or_path": "moved"}
    assert run_dir.check_same_run(folder, identity(changes)) == [
        "training.logging_steps: 5 -> 1",
        "training.num_train_epochs: 3.0 -> 4.0",
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (identity({"training.learning_rate": 0.2}), "training.learning_rate: 0.1 -> 0.2"),
        (identity({"training.num_train_epochs": 2.0}), "training.num_train_epochs: 3.0 -> 2.0"),
        (identity({"training.max_steps": 7}), "training.max_steps: -1 -> 7"),
        (identity({"data.max_length": 32}), "data.max_length: 64 -> 32"),
        (identity({"scoring.name": "random"}), "scoring.name: 'tfidf' -> 'random'"),
        (identity(world_size=2), "number of processes: 1 -> 2"),
        (identity(key="other"), "content of training data.0: 'k' -> 'other'"),
    ],
)
def test_another_run_is_refused_old_to_new(tmp_path: Path, other: run_dir.RunIdentity, message: str) -> None:
    folder = written(tmp_path / "run", identity())
    with pytest.raises(StateError) as raised:
        run_dir.check_same_run(folder, other)
    assert f"the folder holds a different run: {message} - {folder}" in str(raised.value)
    assert raised.value.exit_code == 5


def test_every_difference_is_listed_at_once(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", identity())
    with pytest.raises(StateError, match=r"learning_rate.*; content of.*; number of processes"):
        run_dir.check_same_run(folder, identity({"training.learning_rate": 0.2}, world_size=2, key="x"))


def test_a_scheduled_objective_fixes_the_length(tmp_path: Path) -> None:
    linear = {"objective.schedule": "linear"}
    folder = written(tmp_path / "run", identity(linear))
    with pytest.raises(StateError, match=r"num_train_epochs: 3\.0 -> 4\.0"):
        run_dir.check_same_run(folder, identity({**linear, "training.num_train_epochs": 4.0}))


def test_a_growing_run_is_unfinished_before_its_new_length_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "run", identity())
    (folder / run_dir.STAGES).write_text(json.dumps(run_dir.stages_of(identity(), finished_steps=9)))
    assert run_dir.finished_run(str(folder)) == folder

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_dir.durable, "write_text", full_disk)
    monkeypatch.setattr(run_dir.durable, "write_json", lambda path, value: path.write_text(json.dumps(value)))
    with pytest.raises(OSError, match="No space"):
        run_dir.write_run_files(folder, identity({"training.num_train_epochs": 4.0}), "text", {})
    assert run_dir.finished_run(str(folder)) is None


def test_unreadable_stages_are_a_state_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", identity())
    (folder / run_dir.STAGES).write_text("{")
    with pytest.raises(StateError, match=r"stages\.json is unreadable"):
        run_dir.check_same_run(folder, identity())
    assert run_dir.finished_run(str(tmp_path / "none")) is None
    with pytest.raises(UserError, match="not a run folder"):
        run_dir.read_resolved(tmp_path)


def test_a_claimed_folder_names_its_holder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with run_dir.claimed(folder):
        with pytest.raises(UserError, match=f'"pid": {os.getpid()}'), run_dir.claimed(folder):
            pass
        assert (folder / ".lock.json").is_file()  # the refused one has not removed it
    assert not (folder / ".lock.json").exists()
    with run_dir.claimed(folder):
        pass


def test_a_dead_holders_note_does_not_block(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock.json").write_text('{"pid": 1}')
    with run_dir.claimed(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()


def test_a_read_only_parent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The permission itself is the system's to check (root may write anywhere), so its answer is given here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=f"cannot be written.*check the permissions of {tmp_path}"):
        run_dir.check_output_dir("new/run")
    assert list(tmp_path.iterdir()) == []


def test_packed_epochs_that_draw_different_rows_fix_the_length(tmp_path: Path) -> None:
    """Every epoch is brought to the longest one's number of bins: more epochs would change the steps already made."""
    run = identity()
    run.recipe["data"]["train"][0]["weight"] = 0.5
    folder = written(tmp_path / "run", run)
    longer = identity({"training.num_train_epochs": 5.0})
    longer.recipe["data"]["train"][0]["weight"] = 0.5
    with pytest.raises(StateError, match=r"num_train_epochs: 3.0 -> 5.0"):
        run_dir.check_same_run(folder, longer)
    for each in (run, longer):
        each.recipe["data"]["packing"] = False
    other = written(tmp_path / "padded", run)
    assert run_dir.check_same_run(other, longer)
