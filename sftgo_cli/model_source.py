"""What the name of a model may mean, for a recipe's `model`, a reference and a generator alike: the one resolver.

    meta-llama/Llama-3.2-1B      a Hub id                   builtin:tiny        a built-in model
    models/base                  a folder with a model      models/adapter      a folder with a peft adapter: on its base
    ../runs/sft                  a finished run             ../runs/sft/checkpoint-300

An adapter's base is that of its run, else the one that its adapter_config.json names, and may have an adapter itself. A
model with adapters is used merged: W + (alpha / r) B A, for each of them in order.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.run_dir import RESOLVED, read_resolved, read_stages

BUILTIN_PREFIX = "builtin:"
ADAPTER_CONFIG = "adapter_config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
)
MOST_ADAPTERS = 8  # adapters on adapters; more is a circle


@dataclass(frozen=True)
class ModelSource:
    """Where a whole model lies, the adapters to merge into it, innermost first, and where its tokenizer lies."""

    weights: str  # folder or Hub id
    revision: str | None
    adapters: tuple[Path, ...]
    tokenizer: str  # folder or Hub id
    tokenizer_revision: str | None
    quantization: str | None = None  # in which the base of an adapter's run was held


def model_source(section: ModelSection, recipe_dir: Path, where: str = "") -> ModelSource:
    """What `section.name_or_path` means; of a Hub id only whether it is an adapter is looked up.

    Args:
        recipe_dir: a relative path begins here.
        where: what the user called the model, for messages; empty: `model.name_or_path`.

    Raises:
        UserError: nothing is there (with the nearest name), or an adapter's base is not known.
    """
    where = where or f"model.name_or_path: {section.name_or_path}"
    return _source(section.name_or_path, section.revision, recipe_dir, where, MOST_ADAPTERS)


def _source(name: str, revision: str | None, recipe_dir: Path, where: str, left: int) -> ModelSource:
    if left == 0:
        raise UserError("the model's adapters name one another as their base", where, "give the base model's folder")
    if name.startswith(BUILTIN_PREFIX):
        from sftgo_cli.builtin import model_folder

        folder = str(model_folder(name.removeprefix(BUILTIN_PREFIX)))
        return ModelSource(folder, None, (), folder, None)
    path = recipe_dir / Path(name).expanduser()
    if path.is_dir():
        return _in_folder(path.resolve(), where, left)
    if path.exists():
        raise UserError("the model is a file", where, "give the folder that holds config.json")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise _missing_folder(path, where)
    adapter = _hub_adapter(name, revision)
    return ModelSource(name, revision, (), name, revision) if adapter is None else _in_folder(adapter, where, left)


def _missing_folder(path: Path, where: str) -> UserError:
    folder = next(parent for parent in path.parents if parent.is_dir())
    close = nearest(path.name, sorted(child.name for child in folder.iterdir() if child.is_dir()))
    fix = (
        f"did you mean {folder / close}?"
        if close
        else f"check the path; a relative one begins at the recipe's folder ({folder} exists)"
    )
    return UserError(f"the folder {path} does not exist", where, fix)


def _in_folder(folder: Path, where: str, left: int) -> ModelSource:
    """The whole model, the adapter or the run in a folder that exists."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return ModelSource(str(folder), None, (), str(folder), None)
    config = adapter_config(folder, where)
    run = next((place for place in (folder, folder.parent) if (place / RESOLVED).is_file()), None)
    if run is not None:
        section = ModelSection.model_validate(read_resolved(run)["model"])
        base = _source(section.name_or_path, section.revision, run, where, left - 1)
        base = base if base.adapters else replace(base, quantization=section.quantization)
    else:
        named = config.get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise UserError("the adapter does not name its base model", where, "merge it into its base and use that")
        start = folder if (folder / named).is_dir() else Path()  # peft writes what was typed, relative to the process
        base = _source(named, config.get("revision"), start, f"{where} (its base {named})", left - 1)
    source = replace(base, adapters=(*base.adapters, folder))
    if any((folder / file).is_file() for file in TOKENIZER_FILES):
        source = replace(source, tokenizer=str(folder), tokenizer_revision=None)
    return source


def check_source(source: ModelSource, where: str) -> None:
    """Raises UserError when a local folder of the model, or of its adapters, holds no model in safetensors or is the
    folder of a run that was not finished."""
    for folder in (Path(source.weights), *source.adapters):
        if not folder.is_dir():
            continue
        _check_finished(folder, where)
        if folder not in source.adapters and not (folder / "config.json").is_file():
            raise _no_model(folder, where)
        if folder in source.adapters and any(folder.glob("model*.safetensors")):
            fix = f"remove {ADAPTER_CONFIG} or the model's weights"
            raise UserError(f"the folder holds a whole model and an adapter ({folder})", where, fix)
        check_weights(folder, where)


def _check_finished(folder: Path, where: str) -> None:
    stages = read_stages(folder) if (folder / RESOLVED).is_file() else None
    if stages is not None and stages["finished_steps"] is None:
        raise UserError(
            "the run is not finished",
            where,
            "run its `sftgo train` command again to the end, or give the folder of one of its checkpoints",
        )


def _no_model(folder: Path, where: str) -> UserError:
    inside = sorted(child.name for child in folder.iterdir() if (child / "config.json").is_file())
    fix = f"did you mean {folder / inside[-1]}?" if inside else "give the folder that holds config.json"
    return UserError(f"the folder holds no model ({folder})", where, fix)


def adapter_config(folder: Path, where: str) -> dict[str, Any]:
    """The adapter's configuration.

    Raises:
        UserError: it is unreadable, or a soft prompt, which shifts positions.
    """
    try:
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{ADAPTER_CONFIG} is unreadable: {error}", where, "copy or train the adapter again") from error
    if config.get("num_virtual_tokens"):
        raise UserError("the adapter is a soft prompt, which shifts positions", where, "use LoRA or a full model")
    return config


def check_weights(folder: Path, where: str) -> None:
    """Raises UserError when a folder's weights are only there in pickle form, are missing, or lack a shard."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{index.name} is unreadable: {error}", where, "download the folder again") from error
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"a file of the weights is missing: {missing[0]}{more}", where, "download the folder again")
    if any(path.suffix == ".safetensors" for path in folder.iterdir()):
        return
    pickled = sorted(
        path.name for path in folder.iterdir() if path.suffix in PICKLED and path.name != "training_args.bin"
    )
    if pickled:
        raise UserError(
            f"the weights are pickled ({pickled[0]}), not safetensors",
            where,
            "load the model once where you trust it and save_pretrained() it",
        )
    raise UserError(f"the folder holds no weights ({folder})", where, "put model.safetensors there")


@functools.cache
def _hub_adapter(name: str, revision: str | None) -> Path | None:
    """The local copy of a Hub repository that holds an adapter; None where it holds none or cannot be reached."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        hf_hub_download(name, ADAPTER_CONFIG, revision=revision)
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None  # what is wrong with the name, loading the model says
