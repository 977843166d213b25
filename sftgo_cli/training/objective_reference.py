"""The frozen model that runs beside the trained one where the objective compares with it (`reference_kl`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sftgo_cli.base_model import configured_number, max_positions
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.reference_model import ReferenceModel, check_same_tokenizer, find_reference, load_reference

KEY = "objective.reference"
TERM = "reference_kl"


def objective_reference(
    recipe: Recipe, module: ModuleType, recipe_dir: Path, tokenizer: Any, find_run: Callable[[Path], Path]
) -> ReferenceModel | None:
    """The reference that the objective runs live, None where it runs none; by default the recipe's base model.

    Raises:
        UserError: there is no such reference, or its tokenizer is another one.
    """
    options = recipe.objective.options
    if not hasattr(module, "head_terms") or TERM not in module.head_terms(options):
        return None
    name = module.reference(options)
    model = recipe.model
    if name is None:
        return find_reference(model.name_or_path, model.revision, model, recipe_dir, find_run, "model.name_or_path")
    reference = find_reference(name, None, model, recipe_dir, find_run, KEY)
    check_same_tokenizer(reference, tokenizer)
    _check_sizes(reference, recipe, recipe_dir)
    return reference


def _check_sizes(reference: ReferenceModel, recipe: Recipe, recipe_dir: Path) -> None:
    """Raises UserError when the reference's head has another width, or its context is shorter than the rows may be."""
    theirs, own = ((reference.section, reference.section_dir), (recipe.model, recipe_dir))
    widths = [configured_number(section, folder, "vocab_size") for section, folder in (theirs, own)]
    if None not in widths and widths[0] != widths[1]:
        raise UserError(
            f"the reference predicts {widths[0]} tokens, the model {widths[1]}: their distributions cannot be compared",
            reference.where,
            "use a reference with as many rows in its head",
        )
    context = max_positions(*theirs)
    if context is not None and context < recipe.data.max_length:
        raise UserError(
            f"the reference's context is {context} tokens, data.max_length is {recipe.data.max_length}",
            reference.where,
            f"set data.max_length to {context} or less",
        )


def open_reference(reference: ReferenceModel, dtype: str, device: Any) -> Any:
    """The reference with its loss head attached and verified, frozen, on this rank's device.

    Raises:
        UserError: it cannot be loaded, or is not causal.
    """
    from sftgo_cli.losses import head, head_probe

    model = load_reference(reference, dtype)
    head.attach(model)
    quantized = getattr(model, "quantization_method", None) is not None  # lies on its device already
    placed = model if quantized else model.to(device)
    head_probe.fit(placed, reference.where)
    return placed
