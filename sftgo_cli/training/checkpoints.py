"""Checkpoints: what is in them, how they are published, found, verified and rotated.

A `checkpoint-<step>/` appears whole or not at all (see durable.py) with a sha256 manifest. Tensors are safetensors, the
rest is JSON: optimizer.safetensors + optimizer.json (see optimizer_state.py), scheduler.json,
rank_state_<rank>.{safetensors,json} (random states, window sums), trainer_state.json. Nothing is pickled. Shards of FSDP2
and DeepSpeed stay in their native format.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import durable
from sftgo_cli.errors import DivergedError, StateError
from sftgo_cli.training.optimizer_state import state_bytes

if TYPE_CHECKING:
    pass

CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


def checkpoint_step(path: Path) -> int | None:
    """The step of a checkpoint folder's name, or None for anything else."""
    match = CHECKPOINT.match(path.name)
    return int(match.group(1)) if match else None


def checkpoints(run_dir: Path) -> list[Path]:
    """Checkpoint folders, oldest step first: by number, never by time."""
    if not run_dir.is_dir():
        return []
    found = [path for path in run_dir.iterdir() if path.is_dir() and checkpoint_step(path) is not None]
    return sorted(found, key=lambda path: checkpoint_step(path) or 0)


def newest_valid(run_dir: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose manifest holds; damaged ones are named aloud. None when there is no checkpoint.

    Raises:
        StateError: there are checkpoints and every one is damaged (never silently from step 0).
    """
    found = checkpoints(run_dir)
    for path in reversed(found):
        faults = durable.manifest_faults(path)
        if not faults:
            return path
        say(f"{path.name} is damaged ({faults[0]}); trying the one before")
    if found:
        raise StateError(
            "every checkpoint is damaged", str(run_dir), "restore one from a backup, or train into a new output_dir"
        )
    return None


def rotate(run_dir: Path, limit: int | None, protected: str | None, saved: Path) -> None:
    """Delete the oldest checkpoints beyond `limit`; the best one and the one just saved stay.

    Checkpoints of later steps were found damaged when the run resumed before them: they go first, whatever the limit.
    """
    found = checkpoints(run_dir)
    best = Path(protected).name if protected else None
    step = checkpoint_step(saved) or 0
    damaged = [path for path in found if (checkpoint_step(path) or 0) > step]
    kept = found[: len(found) - len(damaged)]
    removable = [path for path in kept[:-1] if path.name != best]
    surplus = 0 if limit is None else max(0, len(kept) - limit)
    for path in damaged + removable[:surplus]:
        doomed = path.with_name(
            f"{durable.PARTIAL_PREFIX}{path.name}"
        )  # renamed first: never half a checkpoint in sight
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def check_finite(model: Any, step: int) -> None:
    """Raises DivergedError when a trained weight is not finite: the last update overflowed, and must not be saved."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise DivergedError(
                f"the weights became infinite or NaN ({name}); they were not saved",
                f"step {step}",
                "lower training.learning_rate or add warm-up",
            )


def num_bytes(model: Any, optimizer: Any) -> int:
    """About what a checkpoint takes on disk: the saved weights (of an adapter only its own) and the optimizer's state."""
    adapted = hasattr(model, "peft_config")
    tensors = [value for value in model.parameters() if value.requires_grad or not adapted]
    weights = sum(int(value.numel() * value.element_size()) for value in tensors)
    return weights + state_bytes(optimizer)


def save_scheduler(folder: Path, scheduler: Any, scaler: Any) -> None:
    """Learning-rate scheduler (and fp16 loss scaler) state as JSON."""
    state = {name: _plain(value) for name, value in scheduler.state_dict().items()}
    _dump(folder / "scheduler.json", {"scheduler": state, "scaler": None if scaler is None else scaler.state_dict()})


def load_scheduler(folder: Path, scheduler: Any, scaler: Any) -> None:
    """Restore what `save_scheduler` wrote."""
    from torch.optim.lr_scheduler import LambdaLR

    described = _load(folder / "scheduler.json")
    scheduler.load_state_dict(described["scheduler"])
    if isinstance(scheduler, LambdaLR):  # a run that grew has another schedule than the one whose rate was saved
        _set_learning_rates(scheduler)
    if scaler is not None and described["scaler"]:
        scaler.load_state_dict(described["scaler"])


def _set_learning_rates(scheduler: Any) -> None:
    """The learning rates of the scheduler's own step; those that are there already, unless the schedule changed."""
    import torch

    rates = [
        base * rate(scheduler.last_epoch) for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    scheduler._last_lr = rates


def save_rank_state(folder: Path, rank: int, extra: dict[str, Any]) -> None:
    """This rank's random states (python, numpy, torch CPU and accelerator) and `extra`, JSON-able."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {"torch": torch.random.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.random.get_rng_state()
    save_file(tensors, folder / f"rank_state_{rank}.safetensors")
    described = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), int(position), int(has_gauss), float(cached)],
        **extra,
    }
    _dump(folder / f"rank_state_{rank}.json", described)


def read_rank_state(folder: Path, rank: int) -> dict[str, Any]:
    """The JSON part of this rank's state: what `save_rank_state` got as `extra`, and the plain random states.

    Raises:
        StateError: the checkpoint has no state of this rank.
    """
    path = folder / f"rank_state_{rank}.json"
    if not path.is_file():
        raise StateError(
            f"no random state of process {rank}", str(folder), "resume with the number of processes it was saved with"
        )
    state: dict[str, Any] = _load(path)
    return state


def restore_random_state(folder: Path, rank: int) -> None:
    """Put python, numpy and torch back to where this rank's checkpoint left them. Raises as `read_rank_state`."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    described = read_rank_state(folder, rank)
    if not (folder / f"rank_state_{rank}.safetensors").is_file():
        raise StateError(
            f"no random state of process {rank}", str(folder), "remove this checkpoint to use an older one"
        )
    tensors = load_file(folder / f"rank_state_{rank}.safetensors")
    version, internal, gauss = described["python"]
    random.setstate((version, tuple(internal), gauss))
    name, position, has_gauss, cached = described["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.random.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.random.set_rng_state(tensors["cuda"])


def _plain(value: Any) -> Any:
    """A JSON value: tensors become numbers (a scheduler's or a param group's scalars are 0-dimensional at most)."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
