"""What to do about an unknown key: the key it was meant to be, where it belongs, or why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, get_args

from pydantic import BaseModel

from sftgo_cli.errors import nearest
from sftgo_cli.recipe.foreign_keys import UNSET, foreign_keys
from sftgo_cli.recipe.node import KeyPath, dotted
from sftgo_cli.recipe.options import MethodChoice, MethodOptions, MethodPart, NestedChoice
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.training_section import REFUSED_TRAINING_KEYS


class MethodTables(Protocol):
    """Where the methods of a section are found; the module `sftgo_cli.methods` is one."""

    def names(self, section: str) -> Sequence[str]:
        """The methods of a section, in the table's order."""

    def options_of(self, section: str, name: str) -> type[MethodOptions] | None:
        """A method's options, or None when the section has no such method."""


def unknown_key(
    path: KeyPath, valid: Sequence[str], method: str | None, methods: MethodTables, value: Any = UNSET
) -> tuple[str, str]:
    """What is wrong with the key at `path` and what to do; `valid` are the keys that may stand there.

    Args:
        value: what stands there; some keys of other tools mean something else, or nothing, for some values.
    """
    key = str(path[-1])
    plain = key.lower().replace("-", "_")
    what = f"unknown key {key!r}" + (f" in {dotted(path[:-1])}" if len(path) > 1 else "")
    if plain in valid:
        return what, f"did you mean {plain}?"
    if plain in REFUSED_TRAINING_KEYS and path[0] in ("training", key):
        return f"{dotted(path)} is refused", REFUSED_TRAINING_KEYS[plain]
    foreign = foreign_keys().answer(plain, value)
    if foreign is not None and foreign.kind == "settings" and dotted(path) not in foreign.settings:
        return what, foreign.hint() if foreign.settings else _asks_for_nothing(plain)
    homes = _homes(methods)
    if plain in homes:
        return _elsewhere(what, path, method, homes[plain])
    if foreign is not None:
        return what, foreign.hint()
    close = nearest(key, valid)
    if close:
        return what, f"did you mean {close}?"
    far = nearest(key, [*homes, *foreign_keys().names()])
    if far:
        known = foreign_keys().answer(far)
        return what, f"did you mean {homes[far][0]}?" if far in homes else known.hint() if known else ""
    return what, f"choose from {', '.join(valid)}" if valid else "remove it: nothing may stand here"


def _asks_for_nothing(key: str) -> str:
    """About a key of another tool that is switched off: what it would be here."""
    known = foreign_keys().answer(key)
    there = f" ({known.hint()})" if known is not None and known.settings else ""
    return f"remove it: with this value it asks for nothing here{there}"


def _elsewhere(what: str, path: KeyPath, method: str | None, homes: Sequence[str]) -> tuple[str, str]:
    section = str(path[0])
    sections = [home for home in homes if not home.endswith(")")]
    own = [home for home in homes if home not in sections and home.startswith(f"{section}.")]
    if sections:
        return what, f"did you mean {' or '.join(sections[:3])}?"
    if method and own:
        return what, f"{own[0]} is there, but {dotted(path[:-1])} is {method} here"
    return what, f"did you mean {' or '.join(homes[:3])}?"


def _homes(methods: MethodTables) -> dict[str, list[str]]:
    """Each key and the places where it belongs, those of sections before those of methods."""
    homes: dict[str, list[str]] = {}
    for section, field in Recipe.model_fields.items():
        _add_homes(homes, section, field.annotation)
    for section in ("scoring", "objective", "tuning", "curation"):
        for name in methods.names(section):
            for key in _option_names(methods, section, name):
                homes.setdefault(key, []).append(f"{section}.{key} (of {name})")
    return homes


def _add_homes(homes: dict[str, list[str]], place: str, annotation: Any) -> None:
    """The keys below `place`: of an entry of a list as `data.train.0.weight`, of a named one as `data.eval.NAME.path`."""
    for model in models_in(annotation):
        if issubclass(model, MethodChoice):
            continue
        for key, field in model.model_fields.items():
            homes.setdefault(key, []).append(f"{place}.{key}")
            kind = str(field.annotation)
            between = ".NAME" if "dict[" in kind else ".0" if "list[" in kind else ""
            _add_homes(homes, f"{place}.{key}{between}", field.annotation)


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


def override_keys() -> list[str]:
    """The dotted keys that an override can begin with; of lists, those of their first entry."""
    homes: dict[str, list[str]] = {}
    for section, field in Recipe.model_fields.items():
        _add_homes(homes, section, field.annotation)
    sections = list(Recipe.model_fields)
    return [*sections, *sorted(place for places in homes.values() for place in places if ".NAME" not in place)]
