"""Methods named on the command line: `tfidf, {name: llmlingua2, model: ./folder}` -> validated choices.

A bare name means the method as the recipe configures it (its own, or a part of it), else with its defaults. Relative
paths are relative to the working directory, as in overrides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.check import Checker, method_choice
from sftgo_cli.recipe.faults import Fault, raise_faults
from sftgo_cli.recipe.input_paths import moved
from sftgo_cli.recipe.load import LoadedRecipe
from sftgo_cli.recipe.messages import without_secrets
from sftgo_cli.recipe.node import KeyPath, Place, Position, places, plain
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.recipe.unknown_keys import MethodTables, part_keys
from sftgo_cli.recipe.yaml_positions import parse_yaml


def read_choices(text: str, flag: str, section: str, loaded: LoadedRecipe, methods: MethodTables) -> list[MethodChoice]:
    """The methods of `section` that `text`, the value of the option `flag`, lists.

    Raises:
        UserError, UserErrors: no YAML list, no such method, or options that are wrong or missing.
    """
    at = Position(f"command line: {flag} '{without_secrets(text)}'")
    faults: list[Fault] = []
    node = parse_yaml(f"[{text}]", at, Path.cwd(), faults)
    raise_faults(faults, "")
    if node is None or not isinstance(node.value, list):
        raise UserError("expected a list of methods", str(at), f"write {flag} a,b or {flag} 'a, {{name: b, ...}}'")
    entries = moved(plain(node), lambda _: Path.cwd(), loaded.source_dir, (section,))
    top = Place(at, at, None, Path.cwd())
    where: dict[KeyPath, Place] = {(): top, **{(section, *path): place for path, place in places(node).items()}}
    checker = Checker(where, methods)
    known = _configured(getattr(loaded.recipe, section))
    chosen = [_chosen(entry, (section, number), known, checker, faults) for number, entry in enumerate(entries)]
    raise_faults(faults, "")
    return chosen


def _configured(choice: MethodChoice) -> dict[str, MethodChoice]:
    """The methods that a choice holds, by name: itself before its parts, an earlier part before a later one."""
    found = {choice.name: choice}
    for key in part_keys(type(choice.options)):
        for part in getattr(choice.options, key):
            found = {**_configured(MethodChoice(name=part.name, options=part.options)), **found}
    return found


def _chosen(
    entry: Any, path: KeyPath, known: dict[str, MethodChoice], checker: Checker, faults: list[Fault]
) -> MethodChoice:
    if isinstance(entry, str) and entry in known:
        return known[entry]
    value = {"name": entry} if isinstance(entry, str) else entry
    name = value.get("name") if isinstance(value, dict) else None
    options = checker.methods.options_of(str(path[0]), name) if isinstance(name, str) else None
    missing = [key for key, field in options.model_fields.items() if field.is_required()] if options else []
    missing = [key for key in missing if key not in value]
    if missing:
        needed = ", ".join(f"{key}: ..." for key in missing)
        fix = f"write '{{name: {name}, {needed}}}' in its place"
        faults.append(Fault(f"{name} needs {' and '.join(missing)}", checker.place(path).value, fix, path))
        return MethodChoice(name="", options=None)
    return method_choice(value, None, path, checker, faults)
