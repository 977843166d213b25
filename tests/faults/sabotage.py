"""What is done to a run from inside its process: a signal at a step, or a fault at the N-th storage call of a save."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STORAGE_CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


@dataclass(frozen=True)
class Sabotage:
    """`action` (kill, term, enospc, eio) at `place`.

    Places: `prepare`, `model` (while it is loaded), `micro_batch` (the `count`-th of step `step`), `storage` (the
    `count`-th call of STORAGE_CALLS while the checkpoint of step `step` is saved), `evaluation`, `publish` (as
    `storage`, for the final model).
    """

    place: str
    action: str
    step: int = 0
    count: int = 1


def apply(sabotage: Sabotage) -> None:
    """Install it in this process."""
    PLACES[sabotage.place](sabotage, _action(sabotage.action))


def _action(name: str) -> Callable[[], None]:
    numbers = {"enospc": errno.ENOSPC, "eio": errno.EIO}
    signals = {
        "kill": [signal.SIGKILL],
        "term": [signal.SIGTERM],
        "int": [signal.SIGINT],
        "twice": [signal.SIGTERM] * 2,
    }

    def act() -> None:
        if name in numbers:
            raise OSError(numbers[name], os.strerror(numbers[name]))
        for number in signals[name]:
            os.kill(os.getpid(), number)

    return act


def _before(owner: Any, name: str, hook: Callable[..., None]) -> None:
    """Call `hook` with the arguments before every call of `owner.name`."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        hook(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _prepare(sabotage: Sabotage, act: Callable[[], None]) -> None:
    from sftgo_cli.data import prepare

    _before(prepare, "prepare_rows", lambda *args, **kwargs: act())


def _model(sabotage: Sabotage, act: Callable[[], None]) -> None:
    from sftgo_cli import base_model

    _before(base_model, "load_base_model", lambda *args, **kwargs: act())


def _evaluation(sabotage: Sabotage, act: Callable[[], None]) -> None:
    from sftgo_cli.training.trainer import SftgoTrainer

    def hook(trainer: Any, *args: Any, **kwargs: Any) -> None:
        if trainer.state.global_step == sabotage.step:
            act()

    _before(SftgoTrainer, "evaluate", hook)


def _micro_batch(sabotage: Sabotage, act: Callable[[], None]) -> None:
    from sftgo_cli.training.trainer import SftgoTrainer

    seen = 0

    def hook(trainer: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal seen
        if trainer.state.global_step + 1 == sabotage.step:
            seen += 1
            if seen == sabotage.count:
                act()

    _before(SftgoTrainer, "compute_loss", hook)


def _storage(sabotage: Sabotage, act: Callable[[], None]) -> None:
    from sftgo_cli.training.trainer import SftgoTrainer

    original = SftgoTrainer._save_checkpoint

    def save(trainer: Any, *args: Any, **kwargs: Any) -> None:
        if trainer.state.global_step == sabotage.step:
            _count_storage_calls(sabotage.count, act)
        original(trainer, *args, **kwargs)

    SftgoTrainer._save_checkpoint = save  # type: ignore[method-assign]


def _publish(sabotage: Sabotage, act: Callable[[], None]) -> None:
    from sftgo_cli.training import run

    _before(run, "_publish", lambda *args, **kwargs: _count_storage_calls(sabotage.count, act))


def _count_storage_calls(number: int, act: Callable[[], None]) -> None:
    seen = 0

    def hook(*args: Any, **kwargs: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            act()

    for name in STORAGE_CALLS:
        _before(os, name, hook)


PLACES = {
    "prepare": _prepare,
    "model": _model,
    "evaluation": _evaluation,
    "micro_batch": _micro_batch,
    "storage": _storage,
    "publish": _publish,
}
