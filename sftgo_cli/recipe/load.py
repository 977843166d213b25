"""A recipe file and its overrides -> a validated `Recipe`, or every fault at once with its position.

Steps: read the file and its parents (`layers.py`), lay the overrides on top (`overrides.py`), make inherited input
paths relative to the recipe's folder (`input_paths.py`), validate (`check.py`). Nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError, UserErrors
from sftgo_cli.recipe.check import Checker, checked
from sftgo_cli.recipe.faults import Fault, raise_faults
from sftgo_cli.recipe.foreign_tools import other_tool
from sftgo_cli.recipe.input_paths import moved
from sftgo_cli.recipe.layers import Layers, read_layers
from sftgo_cli.recipe.merging import METHOD_SECTIONS, without_null_sections
from sftgo_cli.recipe.node import KeyPath, Place, places, plain
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.recipe.overrides import overridden
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.trainer_names import schedule_free
from sftgo_cli.recipe.training_section import without_idle_keys
from sftgo_cli.recipe.unknown_keys import MethodTables


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and where it came from.

    `resolved` is plain data with every default filled in and methods written `{name: .., option: ..}`; written with
    `dump.to_yaml` it loads again to the same `recipe` from `source_dir`. `positions` has the key paths that stand in
    the files or overrides.
    """

    recipe: Recipe
    resolved: dict[str, Any]
    path: Path
    source_dir: Path  # relative input paths are relative to it
    text: str  # of the main file, as read
    positions: Mapping[KeyPath, Place]
    files: tuple[Path, ...]  # the main file, then its parents

    def resolved_in(self, folder: Path) -> dict[str, Any]:
        """`resolved` for a file in another folder: input paths that exist are rewritten relative to it."""
        rewritten: dict[str, Any] = moved(self.resolved, lambda _: self.source_dir, folder)
        return rewritten


def load_recipe(path: Path, overrides: Sequence[str], methods: MethodTables) -> LoadedRecipe:
    """Loads and checks a recipe.

    Raises:
        UserError: the file cannot be read or is no YAML, or one thing in it is wrong.
        UserErrors: several things are wrong; one line each.
    """
    faults: list[Fault] = []
    layers = _layers(path, faults)
    root = without_null_sections(overridden(layers.root, overrides, faults))
    where = places(root)
    data = moved(plain(root), lambda key_path: where[key_path].folder, path.parent)
    data = {**data, "training": without_idle_keys(data["training"])} if "training" in data else data
    recipe = checked(data, Checker(where, methods), faults)
    tool = other_tool(plain(layers.root)) if faults else None
    if tool is not None:
        fix = f"convert it: sftgo init recipe.yaml --from-config {path}"
        raise UserError(f"this is a configuration of {tool}, not a recipe", str(path), fix)
    raise_faults(faults, str(path))
    assert recipe is not None
    recipe = with_defaults(recipe)
    return LoadedRecipe(recipe, resolved(recipe), path, path.parent, layers.text, where, layers.files)


def with_defaults(recipe: Recipe) -> Recipe:
    """The recipe with the values filled in that hang on others: the tuner's usual learning rate, and no decay of the
    learning rate for optimizers that average the weights instead."""
    training, filled = recipe.training, dict[str, Any]()
    if training.learning_rate is None:
        filled["learning_rate"] = recipe.tuning.options.default_learning_rate
    if schedule_free(training.optim) and "lr_scheduler_type" not in training.model_fields_set:
        filled["lr_scheduler_type"] = "constant"
    return recipe.model_copy(update={"training": training.model_copy(update=filled)}) if filled else recipe


def said_defaults(loaded: LoadedRecipe) -> list[str]:
    """One line about each value that the recipe does not give and that hangs on another one."""
    training, name = loaded.recipe.training, loaded.recipe.tuning.name
    given = {path[1] for path in loaded.positions if len(path) == 2 and path[0] == "training"}
    lines = []
    if "learning_rate" not in given:
        lines.append(f"training.learning_rate: {training.learning_rate:g}, the default of tuning: {name}")
    if "lr_scheduler_type" not in given and schedule_free(training.optim):
        lines.append(f"training.lr_scheduler_type: {training.lr_scheduler_type}, the default of {training.optim}")
    return lines


def _layers(path: Path, faults: list[Fault]) -> Layers:
    """The file and its parents; where one cannot be read, the faults found before are reported with it."""
    try:
        return read_layers(path, faults)
    except UserError as error:
        before = [UserError(fault.what, str(fault.at), fault.fix) for fault in faults]
        raise UserErrors([*before, error]) if before else error from None


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data that a file may hold, every default filled in."""
    data = recipe.model_dump(mode="json")
    for section in METHOD_SECTIONS:
        choice = getattr(recipe, section)
        data[section] = _flat(choice) if isinstance(choice, MethodChoice) else [_flat(one) for one in choice]
    return data


def _flat(choice: MethodChoice) -> dict[str, Any]:
    return {"name": choice.name, **choice.options.model_dump(mode="json")}
