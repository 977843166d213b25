"""Finds a method's module and options by section and name: the tables of methods in one place.

Sections are the recipe's keys: scoring, objective, tuning, curation; and judge and generator, which stand among a
curation method's options. A method's module is imported when it is asked for;
its top level imports nothing heavier than pydantic.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from sftgo_cli import curation, objectives, scoring, tuning
from sftgo_cli.curation import generators, judges
from sftgo_cli.recipe.options import MethodChoice, MethodOptions
from sftgo_cli.recipe.schema import Recipe

PACKAGES: dict[str, tuple[str, dict[str, str]]] = {
    "scoring": ("sftgo_cli.scoring", scoring.METHODS),
    "objective": ("sftgo_cli.objectives", objectives.METHODS),
    "tuning": ("sftgo_cli.tuning", tuning.METHODS),
    "curation": ("sftgo_cli.curation", curation.METHODS),
    "judge": ("sftgo_cli.curation.judges", judges.METHODS),
    "generator": ("sftgo_cli.curation.generators", generators.METHODS),
}


def names(section: str) -> list[str]:
    """The methods of a section, in the table's order."""
    return list(PACKAGES[section][1])


def summary(section: str, name: str) -> str:
    """The table's line about a method."""
    return PACKAGES[section][1][name]


def module(section: str, name: str) -> ModuleType:
    """A method's module. Raises KeyError when the section has no such method."""
    package, table = PACKAGES[section]
    if name not in table:
        raise KeyError(name)
    return importlib.import_module(f"{package}.{name}")


def options_of(section: str, name: str) -> type[MethodOptions] | None:
    """A method's `Options` model, or None when the section has no such method."""
    if name not in PACKAGES[section][1]:
        return None
    options: type[MethodOptions] = module(section, name).Options
    return options


def source_columns(recipe: Recipe, training: bool = True) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of the data that the recipe's scorer and grouping read, and its objective where the rows are for
    training: those with a number per token, and those with a number per row."""
    choices = [("scoring", recipe.scoring), *([("objective", recipe.objective)] if training else [])]
    chosen = [pair for section, choice in choices for pair in _with_parts(section, choice)]
    per_token, per_row = (
        [column for method, options in chosen if hasattr(method, name) for column in getattr(method, name)(options)]
        for name in ("source_columns", "source_row_columns")
    )
    if recipe.grouping.column is not None:
        per_token.append(recipe.grouping.column.name)
    return tuple(dict.fromkeys(per_token)), tuple(dict.fromkeys(per_row))


def _with_parts(section: str, choice: MethodChoice) -> list[tuple[ModuleType, Any]]:
    """The module and the options of a method, and of those that its options name."""
    method = module(section, choice.name)
    parts = method.parts(choice.options) if hasattr(method, "parts") else []
    return [(method, choice.options), *(pair for part in parts for pair in _with_parts(section, part))]
