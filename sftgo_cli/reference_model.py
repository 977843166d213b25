"""The reference model of a scorer or an objective: what its name may mean, what identifies it, and how it is loaded.

A reference is a causal language model that maps the same token ids to the same strings as the recipe's base model:

    meta-llama/Llama-3.2-1B      a Hub id                   builtin:tiny       a built-in model
    models/reference             a folder with a model, or with an adapter that names its base
    ../runs/reference            the folder of a finished run, fully fine-tuned or with an adapter
    reference.yaml               a recipe: its finished run is meant

Paths are relative to the recipe's folder. `model.trust_remote_code` counts for the reference as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.base_model import BUILTIN_PREFIX, load_base_model, load_trained_model, model_fingerprint, resolve_name
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.run_dir import RESOLVED, read_resolved, read_stages

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECIPE_SUFFIXES = (".yaml", ".yml")
ADAPTER_CONFIG = "adapter_config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class ReferenceModel:
    """A reference that was found. `section` and `section_dir` say which model: itself, or the base of `adapter`."""

    where: str  # `scoring.reference: NAME`, for messages
    section: ModelSection
    section_dir: Path  # a relative path in `section` begins here
    adapter: Path | None  # folder of the adapter on top of it
    tokenizer_name: str  # folder or Hub id that holds its tokenizer


def find_reference(
    name: str, revision: str | None, model: ModelSection, recipe_dir: Path, find_run: Callable[[Path], Path], key: str
) -> ReferenceModel:
    """What `name` means; nothing is loaded or downloaded.

    Args:
        model: the recipe's base model; the reference takes its attention implementation and trust in remote code.
        find_run: the folder of the finished run of a recipe's file.
        key: the recipe's key that holds the name, for messages: `scoring.reference`.

    Raises:
        UserError: nothing is there (with the nearest name), the run is not finished, or the weights are not safetensors.
    """
    where = f"{key}: {name}"
    own = {"name_or_path": name, "revision": revision, "quantization": None}
    section = model.model_copy(update=own)
    if name.startswith(BUILTIN_PREFIX):
        return ReferenceModel(where, section, recipe_dir, None, resolve_name(name, recipe_dir))
    path = recipe_dir / Path(name).expanduser()
    if path.suffix.lower() in RECIPE_SUFFIXES:
        if not path.is_file():
            raise _missing("recipe", path, where, [file for file in _siblings(path) if file.suffix == path.suffix])
        return _in_folder(find_run(path).resolve(), section, where)
    if path.is_dir():
        return _in_folder(path.resolve(), section, where)
    if path.exists():
        raise UserError("the reference is a file", where, "give a model's folder, a run's folder or a recipe (.yaml)")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise _missing("folder", path, where, [folder for folder in _siblings(path) if folder.is_dir()])
    return ReferenceModel(where, section, recipe_dir, None, name)


def _siblings(path: Path) -> list[Path]:
    """What lies where the path should be, or in the nearest folder above it that exists."""
    return sorted(next(parent for parent in path.parents if parent.is_dir()).iterdir())


def _missing(kind: str, path: Path, where: str, others: list[Path]) -> UserError:
    close = nearest(path.name, [other.name for other in others])
    if close is not None:
        fix = f"did you mean {next(other for other in others if other.name == close)}?"
    else:
        fix = f"check the path; it is relative to the recipe's folder ({path.parent} {_presence(path.parent)})"
    return UserError(f"there is no such {kind}", where, fix)


def _presence(folder: Path) -> str:
    return "exists" if folder.is_dir() else "does not exist"


def _in_folder(folder: Path, section: ModelSection, where: str) -> ReferenceModel:
    """The model, adapter or finished run in a folder that exists."""
    is_run = (folder / RESOLVED).is_file()
    if is_run and not _is_finished(folder):
        raise UserError("the reference run is not finished", where, "run its `sftgo train` command again to the end")
    itself = section.model_copy(update={"name_or_path": str(folder), "revision": None})
    if not (folder / ADAPTER_CONFIG).is_file():
        if not (folder / "config.json").is_file():
            raise UserError(f"the folder holds no model ({folder})", where, "give the folder that holds config.json")
        _check_safetensors(folder, where)
        return ReferenceModel(where, itself, folder, None, str(folder))
    _check_safetensors(folder, where)
    config = _adapter_config(folder, where)
    if is_run:
        base = ModelSection.model_validate(read_resolved(folder)["model"])
    else:
        named = {"name_or_path": config.get("base_model_name_or_path"), "revision": config.get("revision")}
        if not isinstance(named["name_or_path"], str):
            raise UserError("the adapter does not name its base model", where, "merge it into its base and use that")
        base = section.model_copy(update=named)
    has_tokenizer = (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file()
    tokenizer_name = str(folder) if has_tokenizer else resolve_name(base.name_or_path, folder)
    return ReferenceModel(where, base, folder, folder, tokenizer_name)


def _adapter_config(folder: Path, where: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{ADAPTER_CONFIG} is unreadable: {error}", where, "copy or train the adapter again") from error
    if config.get("num_virtual_tokens"):
        raise UserError("the adapter is a soft prompt, which shifts positions", where, "use LoRA or a full model")
    return config


def _is_finished(folder: Path) -> bool:
    stages = read_stages(folder)
    return stages is not None and stages["finished_steps"] is not None


def check_safetensors(section: ModelSection, recipe_dir: Path) -> None:
    """Refuse a local base model whose weights are only there in pickle form, before anything is loaded."""
    folder = Path(resolve_name(section.name_or_path, recipe_dir))
    if folder.is_dir():
        _check_safetensors(folder, f"model.name_or_path: {section.name_or_path}")


def _check_safetensors(folder: Path, where: str) -> None:
    if any(path.suffix == ".safetensors" for path in folder.iterdir()):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise UserError(
            f"the weights are pickled ({pickled[0]}), not safetensors",
            where,
            "load the model once where you trust it and save_pretrained() it",
        )
    raise UserError(f"the folder holds no weights ({folder})", where, "put model.safetensors there")


def reference_fingerprint(reference: ReferenceModel) -> dict[str, Any]:
    """What identifies the reference by content, as JSON: file hashes or the Hub commit; of an adapter also its base."""
    from sftgo_cli.cache import file_sha256

    with _named(reference):
        content = model_fingerprint(reference.section, reference.section_dir)
    if reference.adapter is None:
        return content
    config = _adapter_config(reference.adapter, reference.where)
    where_from = ("base_model_name_or_path", "revision")  # a path of that machine; the base's content stands for it
    return {
        "base": content,
        "quantization": reference.section.quantization,
        "adapter_config": {key: value for key, value in config.items() if key not in where_from},
        "adapter": {path.name: file_sha256(path) for path in sorted(reference.adapter.glob("adapter*.safetensors"))},
    }


def check_same_tokenizer(reference: ReferenceModel, tokenizer: Any) -> None:
    """Every id of the base model's `tokenizer`, added tokens included, must be the same string for the reference.

    Ids are what the reference is fed, so how text becomes ids does not matter, nor do further ids that only it knows.

    Raises:
        UserError: an id differs (names the first), or the reference has no (fast) tokenizer to compare with.
    """
    from sftgo_cli.data.tokenizer import load_tokenizer

    with _named(reference):
        section = reference.section.model_copy(update={"name_or_path": reference.tokenizer_name})
        other = load_tokenizer(section, reference.section_dir)
    base, known = tokenizer.get_vocab(), other.get_vocab()
    differing = sorted({index for _, index in base.items() - known.items()})
    if not differing:
        return
    first = differing[0]
    ours, theirs = _token_of(base, first), _token_of(known, first)
    raise UserError(
        f"the reference's tokenizer is another one: {len(differing)} of {len(set(base.values()))} ids differ, the "
        f"first is {first}: {ours} for the base model, {theirs} for the reference",
        reference.where,
        "use a reference with the base model's tokenizer",
    )


def _token_of(vocabulary: dict[str, int], index: int) -> str:
    found = sorted(token for token, number in vocabulary.items() if number == index)
    return repr(found[0]) if found else "unknown"


def load_reference(reference: ReferenceModel, dtype: str) -> PreTrainedModel:
    """The reference in evaluation mode, parameters in `dtype`, frozen. An adapter stays beside its base, unmerged.

    Raises:
        UserError: it cannot be loaded.
    """
    with _named(reference):
        if reference.adapter is None:
            model: Any = load_base_model(reference.section, reference.section_dir, dtype)
        else:
            model = load_trained_model(reference.adapter, reference.section, reference.section_dir, dtype)
            model = model.get_base_model()  # the causal LM itself; the adapter's layers are inside
    frozen: PreTrainedModel = model.requires_grad_(False).eval()
    return frozen


@contextmanager
def _named(reference: ReferenceModel) -> Iterator[None]:
    """Errors of loading a model speak of `model.name_or_path`; inside, they speak of the reference."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, reference.where, error.fix) from error
