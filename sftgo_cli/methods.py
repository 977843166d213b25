"""Finds a method's module and options by section and name: the four tables of methods in one place.

Sections are the recipe's keys: scoring, objective, tuning, curation. A method's module is imported when it is asked for;
its top level imports nothing heavier than pydantic.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from sftgo_cli import objectives, scoring, tuning
from sftgo_cli.recipe.options import MethodOptions

PACKAGES: dict[str, tuple[str, dict[str, str]]] = {
    "scoring": ("sftgo_cli.scoring", scoring.METHODS),
    "objective": ("sftgo_cli.objectives", objectives.METHODS),
    "tuning": ("sftgo_cli.tuning", tuning.METHODS),
    "curation": ("sftgo_cli.curation", {}),
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
