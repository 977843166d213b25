"""Finding, verifying and rotating checkpoints; optimizer, scheduler and random states there and back."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftgo_cli import durable
from sftgo_cli.errors import DivergedError, StateError
from sftgo_cli.training import checkpoints, optimizer_state


def save(run: Path, step: int) -> Path:
    """A small whole checkpoint."""
    partial = run / f".partial-checkpoint-{step}"
    partial.mkdir(parents=True)
    for name in ("model.safetensors", "trainer_state.json"):
        (partial / name).write_text(f"{name} of step {step}")
    target = run / f"checkpoint-{step}"
    durable.publish_folder(partial, target, {"step": step})
    return target


def steps(run: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in checkpoints.checkpoints(run)]


def test_order_is_by_number_and_never_by_time(tmp_path: Path) -> None:
    for step in (100, 9, 10):
        save(tmp_path, step)
    os.utime(tmp_path / "checkpoint-9", (2e9, 2e9))
    for foreign in ("checkpoint-x", "checkpoint-", "my-checkpoint-500", ".partial-checkpoint-600"):
        (tmp_path / foreign).mkdir()
    (tmp_path / "checkpoint-700").write_text("a file")
    assert steps(tmp_path) == [9, 10, 100]
    newest = checkpoints.newest_valid(tmp_path, lambda line: None)
    assert newest == tmp_path / "checkpoint-100"
    checkpoints.rotate(tmp_path, 2, None, tmp_path / "checkpoint-100")
    assert steps(tmp_path) == [10, 100]
    assert sorted(path.name for path in tmp_path.iterdir())[:3] == [
        ".partial-checkpoint-600",
        "checkpoint-",
        "checkpoint-10",
    ]
    assert (tmp_path / "my-checkpoint-500").is_dir()


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [(2, "checkpoint-1", [1, 4]), (2, None, [3, 4]), (3, "checkpoint-2", [2, 3, 4]), (None, None, [1, 2, 3, 4])],
)
def test_rotation_keeps_the_best_and_the_newest(
    tmp_path: Path, limit: int | None, best: str | None, kept: list[int]
) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    protected = f"/elsewhere/before/it/moved/{best}" if best else None
    checkpoints.rotate(tmp_path, limit, protected, tmp_path / "checkpoint-4")
    assert steps(tmp_path) == kept


def test_rotation_never_trades_a_good_checkpoint_for_a_damaged_later_one(tmp_path: Path) -> None:
    """Step 8 was damaged, the run resumed at 4 and saved 6: the damaged 8 must not count as the newest."""
    for step in (2, 4, 8, 6):
        save(tmp_path, step)
    checkpoints.rotate(tmp_path, 2, str(tmp_path / "checkpoint-2"), tmp_path / "checkpoint-6")
    assert steps(tmp_path) == [2, 6]


def test_the_newest_whole_checkpoint_is_used_and_damage_said(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        save(tmp_path, step)
    (tmp_path / "checkpoint-12/model.safetensors").unlink()
    (tmp_path / "checkpoint-8/manifest.json").unlink()
    said: list[str] = []
    assert checkpoints.newest_valid(tmp_path, said.append) == tmp_path / "checkpoint-4"
    assert said == [
        "checkpoint-12 is damaged (model.safetensors is missing); trying the one before",
        "checkpoint-8 is damaged (manifest.json is missing or unreadable); trying the one before",
    ]
    (tmp_path / "checkpoint-4/model.safetensors").write_text("model.safetensors of step 5")
    with pytest.raises(StateError, match="every checkpoint is damaged"):
        checkpoints.newest_valid(tmp_path, said.append)
    assert checkpoints.newest_valid(tmp_path / "empty", said.append) is None


class Killed(BaseException):
    """Stands for kill -9."""


def test_killed_at_every_call_of_a_save_and_its_rotation(tmp_path: Path) -> None:
    """Two whole checkpoints at least, at any instant; sweeping leaves nothing else."""
    for number in range(1, 200):
        run = tmp_path / str(number)
        for step in (9, 10):
            save(run, step)
        seen = 0

        def count(original: Any, at: int = number) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == at:
                    raise Killed
                return original(*args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
                patch.setattr(os, name, count(getattr(os, name)))
            saved = save(run, 100)
            checkpoints.rotate(run, 2, None, saved)
        durable.sweep_partial(run)
        whole = [path for path in checkpoints.checkpoints(run) if not durable.manifest_faults(path)]
        assert len(whole) >= 2
        assert whole == checkpoints.checkpoints(run) == sorted(run.iterdir(), key=lambda path: int(path.name[11:]))
        if seen < number:
            assert steps(run) == [10, 100]
            break
    assert 12 < number < 199  # 3 files, 3 folders, 3 renames and 4 deletions at least


def stepped(optimizer_class: Any, **options: Any) -> tuple[torch.nn.Module, Any]:
    """A model and its optimizer after two steps."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = optimizer_class(model.parameters(), lr=0.1, **options)
    for _ in range(2):
        model(torch.ones(4, 3)).pow(2).sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [(torch.optim.AdamW, {"betas": (0.8, 0.95)}), (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {})],
)
def test_the_optimizer_goes_there_and_back(tmp_path: Path, optimizer_class: Any, options: dict[str, Any]) -> None:
    model, optimizer = stepped(optimizer_class, **options)
    optimizer_state.save_optimizer(tmp_path, optimizer)
    restored = optimizer_class(model.parameters(), lr=0.5)
    optimizer_state.load_optimizer(tmp_path, restored)
    before, after = optimizer.state_dict(), restored.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert before["state"].keys() == after["state"].keys()
    for index, entry in before["state"].items():
        for name, value in entry.items():
            assert (
                torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][index][name]))
                if value is not None
                else after["state"][index][name] is None
            )
    assert not list(tmp_path.glob("*.bin"))
    assert not list(tmp_path.glob("*.pt"))


def test_the_scheduler_goes_there_and_back(tmp_path: Path) -> None:
    _, optimizer = stepped(torch.optim.SGD)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    checkpoints.save_scheduler(tmp_path, scheduler, None)
    restored = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7)
    checkpoints.load_scheduler(tmp_path, restored, None)
    assert restored.state_dict() == scheduler.state_dict()


def test_random_states_go_there_and_back(tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    np.random.standard_normal()  # leaves a cached gaussian behind
    checkpoints.save_rank_state(tmp_path, 1, {"window": {"num_steps": 3}})

    def draw() -> list[float]:
        return [
            random.random(),
            random.gauss(0, 1),
            np.random.standard_normal(),
            np.random.rand(),
            float(torch.rand(1)),
        ]

    expected = draw()
    draw()
    checkpoints.restore_random_state(tmp_path, 1)
    assert draw() == expected
    assert checkpoints.read_rank_state(tmp_path, 1)["window"] == {"num_steps": 3}
    with pytest.raises(StateError, match="no random state of process 0"):
        checkpoints.restore_random_state(tmp_path, 0)
    (tmp_path / "rank_state_1.safetensors").unlink()
    with pytest.raises(StateError, match="no random state of process 1"):
        checkpoints.restore_random_state(tmp_path, 1)
    json.loads((tmp_path / "rank_state_1.json").read_text())


def test_size_and_finiteness() -> None:
    model, optimizer = stepped(torch.optim.AdamW)
    # 8 weights of 4 bytes, two moments of each, and one step counter of 4 bytes per tensor
    assert checkpoints.num_bytes(model, optimizer) == 8 * 4 * 3 + 2 * 4
    checkpoints.check_finite(model, 2)
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"infinite or NaN \(weight\).* - step 2"):
        checkpoints.check_finite(model, 2)
