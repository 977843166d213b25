"""The reference model of a scorer or an objective: what its name may mean, what identifies it, and how it is loaded.

A reference is a causal language model that maps the same token ids to the same strings as the recipe's base model:

    meta-llama/Llama-3.2-1B      a Hub id                   builtin:tiny       a built-in model
    models/reference             a folder with a model, or with an adapter that names its base
    ../runs/reference            the folder of a finished run, fully fine-tuned or with an adapter
    reference.yaml               a recipe: its finished run is meant

Paths are relative to the recipe's folder. `model.trust_remote_code` counts for the reference as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.base_model import adapter_fingerprint, load_base_model, load_trained_model, model_fingerprint
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.model_source import BUILTIN_PREFIX, check_source, model_source
from sftgo_cli.recipe.model_section import ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECIPE_SUFFIXES = (".yaml", ".yml")


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
    section = model.model_copy(update={"name_or_path": name, "revision": revision, "quantization": None})
    path = recipe_dir / Path(name).expanduser()
    if path.suffix.lower() in RECIPE_SUFFIXES and not name.startswith(BUILTIN_PREFIX):
        if not path.is_file():
            raise _missing_recipe(path, where)
        section = section.model_copy(update={"name_or_path": str(find_run(path).resolve()), "revision": None})
    source = model_source(section, recipe_dir, where)
    check_source(source, where)
    if not source.adapters:
        return ReferenceModel(where, _at(section, source.weights, source.revision), recipe_dir, None, source.tokenizer)
    *inner, adapter = source.adapters
    base = _at(section, str(inner[-1]), None) if inner else _at(section, source.weights, source.revision)
    base = base.model_copy(update={"quantization": source.quantization})
    return ReferenceModel(where, base, recipe_dir, adapter, source.tokenizer)


def _at(section: ModelSection, name: str, revision: str | None) -> ModelSection:
    return section.model_copy(update={"name_or_path": name, "revision": revision})


def _missing_recipe(path: Path, where: str) -> UserError:
    """The nearest recipe where the path should be, or in the nearest folder above it that exists."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    others = [file for file in sorted(folder.iterdir()) if file.suffix == path.suffix]
    close = nearest(path.name, [other.name for other in others])
    if close is not None:
        fix = f"did you mean {folder / close}?"
    else:
        presence = "exists" if path.parent.is_dir() else "does not exist"
        fix = f"check the path; it is relative to the recipe's folder ({path.parent} {presence})"
    return UserError("there is no such recipe", where, fix)


def check_safetensors(section: ModelSection, recipe_dir: Path) -> None:
    """Refuse a local base model whose weights are missing or only there in pickle form, before anything is loaded."""
    where = f"model.name_or_path: {section.name_or_path}"
    check_source(model_source(section, recipe_dir, where), where)


def reference_fingerprint(reference: ReferenceModel) -> dict[str, Any]:
    """What identifies the reference by content, as JSON: file hashes or the Hub commit; of an adapter also its base."""
    with _named(reference):
        content = model_fingerprint(reference.section, reference.section_dir)
    if reference.adapter is None:
        return content
    return {
        "base": content,
        "quantization": reference.section.quantization,
        **adapter_fingerprint(reference.adapter),
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
