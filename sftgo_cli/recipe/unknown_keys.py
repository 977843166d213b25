"""What to do about an unknown key: the key it was meant to be, where it belongs, or why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, get_args

from pydantic import BaseModel

from sftgo_cli.errors import nearest
from sftgo_cli.recipe.foreign_keys import FOREIGN_KEYS
from sftgo_cli.recipe.node import KeyPath, dotted
from sftgo_cli.recipe.options import MethodOptions, MethodPart, NestedChoice
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.training_section import REFUSED_TRAINING_KEYS


class MethodTables(Protocol):
    """Where the methods of a section are found; the module `sftgo_cli.methods` is one."""

    def names(self, section: str) -> Sequence[str]:
        """The methods of a section, in the table's order."""

    def options_of(self, section: str, name: str) -> type[MethodOptions] | None:
        """A method's options, or None when the section has no such method."""


def unknown_key(path: KeyPath, valid: Sequence[str], method: str | None, methods: MethodTables) -> tuple[str, str]:
    """What is wrong with the key at `path` and what to do; `valid` are the keys that may stand there."""
    key = str(path[-1])
    plain = key.lower().replace("-", "_")
    what = f"unknown key {key!r}" + (f" in {dotted(path[:-1])}" if len(path) > 1 else "")
    if plain in valid:
        return what, f"did you mean {plain}?"
    if plain in REFUSED_TRAINING_KEYS and path[0] in ("training", key):
        return f"{dotted(path)} is refused", REFUSED_TRAINING_KEYS[plain]
    if plain in FOREIGN_KEYS and FOREIGN_KEYS[plain] != dotted(path):
        return what, f"did you mean {FOREIGN_KEYS[plain]}?"
    elsewhere = _homes(methods)
    if plain in elsewhere:
        return _elsewhere(what, path, method, elsewhere[plain])
    close = nearest(key, valid)
    if close:
        return what, f"did you mean {close}?"
    far = nearest(key, [*elsewhere, *FOREIGN_KEYS])
    if far:
        return what, f"did you mean {elsewhere[far][0] if far in elsewhere else FOREIGN_KEYS[far]}?"
    return what, f"choose from {', '.join(valid)}" if valid else "remove it: nothing may stand here"


def _elsewhere(what: str, path: KeyPath, method: str | None, homes: Sequence[str]) -> tuple[str, str]:
    section = str(path[0])
    own = [home for home in homes if home.startswith(f"{section}.")]
    if method and own:
        return what, f"{own[0]} is there, but {dotted(path[:-1])} is {method} here"
    return what, f"did you mean {' or '.join(homes[:3])}?"


def _homes(methods: MethodTables) -> dict[str, list[str]]:
    """Each key of a section and the places where it belongs."""
    homes: dict[str, list[str]] = {}
    for section, field in Recipe.model_fields.items():
        for model in models_in(field.annotation):
            if model.__name__ == "MethodChoice":
                continue
            for key in model.model_fields:
                homes.setdefault(key, []).append(f"{section}.{key}")
    for section in ("scoring", "objective", "tuning", "curation"):
        for name in methods.names(section):
            for key in _option_names(methods, section, name):
                homes.setdefault(key, []).append(f"{section}.{key} (of {name})")
    return homes


def _option_names(methods: MethodTables, section: str, name: str) -> list[str]:
    try:
        options = methods.options_of(section, name)
    except ImportError:  # a method whose extra is not installed only loses its hints
        return []
    return list(options.model_fields) if options else []


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def part_keys(options: type[BaseModel]) -> list[str]:
    """The options that are lists of methods (`MethodPart`) themselves."""
    return [key for key, field in options.model_fields.items() if MethodPart in models_in(field.annotation)]


def nested_keys(options: type[BaseModel]) -> dict[str, type[NestedChoice]]:
    """The options that are a method of another kind, each with its type."""
    found = {key: models_in(field.annotation) for key, field in options.model_fields.items()}
    return {key: model for key, models in found.items() for model in models if issubclass(model, NestedChoice)}


def valid_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that may stand in the mapping at `path` below `model`."""
    found = [model]
    for part in path:
        if not isinstance(part, str):
            continue
        fields = [m.model_fields[part].annotation for m in found if part in m.model_fields]
        found = [m for annotation in fields for m in models_in(annotation)] if fields else found
    return list(dict.fromkeys(key for m in found for key in m.model_fields))
