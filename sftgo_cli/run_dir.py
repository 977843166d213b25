"""A run's folder: claiming it, what identifies the run that is in it, and refusing to mix two runs.

    recipe.yaml             the recipe as written          recipe.resolved.yaml   every default filled in
    stages.json             what the run is made of        environment.json       versions and machine, no secrets
    metrics.jsonl, checkpoint-<step>/, the model's files, evaluation/, plots/, report.html

`stages.json` holds the content keys of the data stages, the base weights' fingerprint and the world size. A folder that
holds another run is exit 5 with the differences; logging, saving, tracker and evaluation keys and a longer training may
change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli import durable, metrics_log
from sftgo_cli.errors import StateError, UserError
from sftgo_cli.recipe.dump import to_yaml
from sftgo_cli.recipe.node import plain
from sftgo_cli.recipe.yaml_positions import parse_mapping, read_text

RECIPE = "recipe.yaml"
RESOLVED = "recipe.resolved.yaml"
STAGES = "stages.json"
ENVIRONMENT = "environment.json"

# Keys that may differ between the run in the folder and the one asked for: they do not change what is trained.
FREE_TRAINING_KEYS = frozenset(
    [
        "output_dir",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "report_to",
        "run_name",
        "project",
        "disable_tqdm",
        "eval_strategy",
        "eval_steps",
        "eval_delay",
        "eval_on_start",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "push_to_hub",
        "hub_model_id",
        "hub_private_repo",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "ddp_timeout",
        "per_device_eval_batch_size",
        "load_best_model_at_end",
        "metric_for_best_model",
        "greater_is_better",
        "early_stopping_patience",
        "early_stopping_threshold",
        "use_cpu",
    ]
)
LENGTH_KEYS = ("max_steps", "num_train_epochs")  # may grow


@dataclass(frozen=True)
class RunIdentity:
    """What a run is: its resolved recipe and the content that went in."""

    recipe: dict[str, Any]
    stages: dict[str, Any]  # content keys of the training data, fingerprint of the base weights
    world_size: int


def check_output_dir(output_dir: str) -> Path:
    """The run's folder, checked before any model is loaded; nothing is created.

    Raises:
        UserError: it is a file, not writable, no possible path, or a relative path that leaves the working directory.
    """
    where = f"training.output_dir: {output_dir if len(output_dir) <= 80 else output_dir[:77] + '...'}"
    try:
        path = Path(output_dir).expanduser()
        return _checked_folder(path, where)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, an unknown home, a NUL
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"the run folder cannot be: {reason}", where, "choose another output_dir") from error


def _checked_folder(path: Path, where: str) -> Path:
    if path.is_symlink() and not path.exists():
        path.resolve(strict=True)  # raises where it is a loop, or leads nowhere
    if not path.is_absolute() and not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise UserError(
            "the run folder lies outside the working directory", where, "give an absolute path if that is meant"
        )
    if path.exists() and not path.is_dir():
        raise UserError("the run folder is a file", where, "choose another output_dir")
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError("the run folder cannot be written", where, f"check the permissions of {existing.resolve()}")
    return path.resolve()


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold the run's kernel lock; a dead holder never blocks.

    Raises:
        UserError: another process holds it; names the holder.
    """
    from filelock import FileLock, Timeout

    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"the run folder cannot be created: {reason}", str(run_dir), "choose another") from error
    holder = run_dir / ".lock.json"
    lock = FileLock(str(run_dir / ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        owner = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "another process"
        raise UserError(f"another run is using this folder: {owner}", str(run_dir), "wait for it or stop it") from error
    try:
        durable.write_text(holder, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}) + "\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def read_stages(run_dir: Path) -> dict[str, Any] | None:
    """`stages.json`, or None when the folder holds no run. Raises StateError when it is unreadable."""
    path = run_dir / STAGES
    if not path.is_file():
        return None
    try:
        stages: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StateError("stages.json is unreadable", str(path), "train into a new output_dir") from error
    return stages


def read_resolved(run_dir: Path) -> dict[str, Any]:
    """The resolved recipe of the run in a folder.

    Raises:
        UserError: the folder holds no run.
    """
    path = run_dir / RESOLVED
    if not path.is_file():
        raise UserError("not a run folder: it has no recipe.resolved.yaml", str(run_dir), "give a recipe or a run")
    resolved: dict[str, Any] = plain(parse_mapping(read_text(path), str(path), run_dir, []))
    return resolved


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """`key: old -> new` for every leaf that differs between two plain mappings."""
    found: list[str] = []
    for key in sorted({*old, *new}):
        before, after, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{name}.")
        elif before != after:
            found.append(f"{name}: {before!r} -> {after!r}")
    return found


def _trained_part(recipe: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved recipe that decides what is trained. Names and paths are left out: content keys stand in."""
    part = {section: value for section, value in recipe.items() if section not in ("evaluation", "training", "data")}
    part["model"] = {key: value for key, value in recipe["model"].items() if key != "name_or_path"}
    part["data"] = {key: value for key, value in recipe["data"].items() if key not in ("eval", "chat_template")}
    part["data"]["train"] = {
        str(number): {key: value for key, value in source.items() if key != "path"}
        for number, source in enumerate(recipe["data"]["train"])
    }
    part["training"] = {
        key: value
        for key, value in recipe["training"].items()
        if key not in FREE_TRAINING_KEYS and key not in LENGTH_KEYS
    }
    return part


def has_begun(run_dir: Path, stages: dict[str, Any]) -> bool:
    """Whether the run in the folder made a step: a start that failed before its first one leaves nothing to protect."""
    if stages["finished_steps"] is not None or any(run_dir.glob("checkpoint-*")):
        return True
    return any(line.get("event") == "train" for line in metrics_log.read_metrics(run_dir / metrics_log.FILE_NAME))


def check_same_run(run_dir: Path, identity: RunIdentity) -> list[str]:
    """Compare the run in the folder with the one asked for; returns what changed and is allowed to.

    Raises:
        StateError: the folder holds a different run, listing what differs as old -> new.
    """
    stages = read_stages(run_dir)
    if stages is None:
        foreign = [path.name for path in run_dir.iterdir() if path.suffix == ".safetensors"] if run_dir.is_dir() else []
        if foreign:
            raise StateError(
                f"the folder holds a model that is not a run of sftgo ({foreign[0]})", str(run_dir), "choose another"
            )
        return []
    if not has_begun(run_dir, stages):
        return []
    recipe = read_resolved(run_dir)
    changed = differences(_trained_part(recipe), _trained_part(identity.recipe))
    content = json.loads(json.dumps(identity.stages))  # keys as the file has them: text
    changed += differences(stages["stages"], content, "content of ")
    if stages["world_size"] != identity.world_size:
        changed.append(f"number of processes: {stages['world_size']} -> {identity.world_size}")
    changed += _shorter(recipe["training"], identity.recipe)
    if changed:
        raise StateError(
            f"the folder holds a different run: {'; '.join(changed)}",
            str(run_dir),
            "choose another training.output_dir, or remove the folder",
        )
    return differences({"training": recipe["training"]}, {"training": identity.recipe["training"]})


def _shorter(old: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    """A training may grow longer, unless its length decides earlier steps: a schedule of the objective, or packed epochs
    that draw different rows (all epochs are brought to the longest one's number of bins).

    `max_steps: -1` (by epochs) is no length to compare with: from or to it is another length.
    """
    new, data = recipe["training"], recipe["data"]
    scheduled = recipe["objective"].get("schedule", "constant") != "constant"
    redrawn = data["packing"] and any(source["weight"] != int(source["weight"]) for source in data["train"])
    rigid = scheduled or redrawn
    return [
        f"training.{key}: {old[key]!r} -> {new[key]!r}"
        for key in LENGTH_KEYS
        if new[key] != old[key] and (rigid or new[key] < old[key] or old[key] < 0)
    ]


def write_run_files(run_dir: Path, identity: RunIdentity, recipe_text: str, environment: dict[str, Any]) -> None:
    """Write the recipe, its resolved form, the environment and, last, stages.json.

    A finished run that grows is unfinished before its new length is written: killed in between, it must still continue.
    """
    if read_stages(run_dir) is not None:
        durable.write_json(run_dir / STAGES, stages_of(identity, finished_steps=None))
    durable.write_text(run_dir / RECIPE, recipe_text)
    durable.write_text(run_dir / RESOLVED, to_yaml(identity.recipe))
    durable.write_json(run_dir / ENVIRONMENT, environment)
    durable.write_json(run_dir / STAGES, stages_of(identity, finished_steps=None))


def stages_of(identity: RunIdentity, finished_steps: int | None) -> dict[str, Any]:
    """The content of stages.json; `finished_steps` is set once the training is complete."""
    return {
        "stages": identity.stages,
        "world_size": identity.world_size,
        "finished_steps": finished_steps,
    }


def finished_run(output_dir: str) -> Path | None:
    """The run folder of a recipe when it holds a finished run, else None."""
    path = Path(output_dir).expanduser()
    stages = read_stages(path)
    return path if stages is not None and stages["finished_steps"] is not None else None


def row_formats(run_dir: Path) -> list[str]:
    """The formats of the rows that the run was trained on (`alpaca`, `messages`, ...)."""
    stages = read_stages(run_dir)
    return [] if stages is None else list(stages["stages"].get("row formats", []))
