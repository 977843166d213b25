"""Plain recipe data -> a validated `Recipe`, or every fault of it at once, each with its position.

Methods are validated by their own options models, everything else by `schema.py`. A number given where a text is
expected is taken as it is written (`revision: 1234567`). Where something is wrong, the rest is still checked for
contradictions, leaving out those that a faulty value takes part in.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sftgo_cli.errors import nearest
from sftgo_cli.recipe.contradictions import contradictions
from sftgo_cli.recipe.faults import Fault
from sftgo_cli.recipe.messages import found, value_faults
from sftgo_cli.recipe.node import KeyPath, Place, dotted
from sftgo_cli.recipe.options import JudgeChoice, MethodChoice, MethodPart, NestedChoice, PartWeight
from sftgo_cli.recipe.schema import DEFAULT_METHODS, Recipe
from sftgo_cli.recipe.unknown_keys import MethodTables, nested_keys, part_keys, unknown_key, valid_keys

M = TypeVar("M", bound=BaseModel)
MAX_INT = 2**63 - 1
EXAMPLES: dict[KeyPath, str] = {
    ("model",): "model: builtin:tiny",
    ("data",): "data: {train: [{path: ...}]}",
    ("training",): "training: {output_dir: runs/...}",
}


@dataclass(frozen=True)
class Checker:
    """What every check needs: where each key path stands, and the methods."""

    places: Mapping[KeyPath, Place]
    methods: MethodTables

    def place(self, path: KeyPath) -> Place:
        """Where `path` stands, or the nearest mapping around it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


def checked(data: Mapping[str, Any], checker: Checker, faults: list[Fault]) -> Recipe | None:
    """The recipe of plain data (`data` is not changed); appends to `faults` and returns None where there are any."""
    before = len(faults)
    work: dict[str, Any] = dict(copy.deepcopy(dict(data)))
    for section, default in DEFAULT_METHODS.items():
        work[section] = method_choice(work.get(section, {}), default, (section,), checker, faults)
    if isinstance(work.get("curation"), list):
        entries = enumerate(work["curation"])
        work["curation"] = [method_choice(entry, None, ("curation", i), checker, faults) for i, entry in entries]
    _judge_choices(work.get("evaluation"), checker, faults)
    recipe, own = _validated(Recipe, work, (), None, checker)
    faults.extend(own)
    faults.extend(_too_large(data, checker))
    wrong = {fault.path for fault in faults[before:]}
    best = recipe or _repaired(work, wrong)
    if best is not None:
        faults.extend(_contradicting(best, wrong, checker))
    return recipe if len(faults) == before else None


def _judge_choices(evaluation: Any, checker: Checker, faults: list[Fault]) -> None:
    """The judges of `evaluation.answers`, in place."""
    answers = evaluation.get("answers") if isinstance(evaluation, dict) else None
    for name, one in answers.items() if isinstance(answers, dict) else ():
        if isinstance(one, dict) and "judge" in one:
            path: KeyPath = ("evaluation", "answers", name, "judge")
            one["judge"] = nested_choice(one["judge"], JudgeChoice, path, checker, faults)


def method_choice(
    value: Any, default: str | None, path: KeyPath, checker: Checker, faults: list[Fault], kind: str | None = None
) -> MethodChoice:
    """The method at `path`; a placeholder where something is wrong, so that the rest is still checked.

    Args:
        kind: which table it is from; the section's own where it is not given.
    """
    place = checker.place(path)
    section = kind or str(path[0])
    if not isinstance(value, dict):
        what = f"{dotted(path)}: expected a method's name or keys with values, found {found(value, place.text, path)}"
        faults.append(Fault(what, place.value, f"choose from {', '.join(checker.methods.names(section))}", path))
        return MethodChoice(name="", options=None)
    name = value.pop("name", default)
    options = checker.methods.options_of(section, name) if isinstance(name, str) else None
    if options is None:
        faults.append(_no_method(name, section, (*path, "name"), checker))
        return MethodChoice(name="", options=None)
    for key in part_keys(options):
        if isinstance(value.get(key), list):
            value[key] = [method_part(entry, (*path, key, i), checker, faults) for i, entry in enumerate(value[key])]
    for key, nested in nested_keys(options).items():
        if key in value and value[key] is not None:
            value[key] = nested_choice(value[key], nested, (*path, key), checker, faults)
    validated, own = _validated(options, value, path, name, checker)
    faults.extend(own)
    return MethodChoice(name=name, options=validated)


def method_part(value: Any, path: KeyPath, checker: Checker, faults: list[Fault]) -> MethodPart:
    """A method in a list of methods: its name, or a mapping with its name, options and weight."""
    value = {"name": value} if isinstance(value, str) else value
    keys = PartWeight.model_fields
    own = {key: value.pop(key) for key in keys if key in value} if isinstance(value, dict) else {}
    choice = method_choice(value, None, path, checker, faults)
    weight, wrong = _validated(PartWeight, own, path, None, checker)
    faults.extend(wrong)
    return MethodPart(name=choice.name, options=choice.options, weight=weight.weight if weight else 1.0)


def nested_choice(
    value: Any, nested: type[NestedChoice], path: KeyPath, checker: Checker, faults: list[Fault]
) -> NestedChoice:
    """A method of another kind: its name, or a mapping with its name and options."""
    value = {"name": value} if isinstance(value, str) else value
    choice = method_choice(value, None, path, checker, faults, nested.section)
    return nested(name=choice.name, options=choice.options)


def _no_method(name: Any, section: str, path: KeyPath, checker: Checker) -> Fault:
    known = list(checker.methods.names(section))
    place = checker.place(path)
    if name is None:
        what = f"{dotted(path)} is missing"
    else:
        what = f"{dotted(path)}: no such method, found {found(name, place.text, path)}"
    close = nearest(name, known) if isinstance(name, str) else None
    listed = f"choose from {', '.join(known)}" if known else "there is none to choose"
    return Fault(what, place.value, f"did you mean {close}? ({listed})" if close else listed, path)


def _validated(
    model: type[M], data: dict[str, Any], prefix: KeyPath, method: str | None, checker: Checker
) -> tuple[M | None, list[Fault]]:
    """The model of `data`, which stands at `prefix`, or its faults; numbers become texts in `data` where needed."""
    while True:
        try:
            return model.model_validate(data), []
        except ValidationError as error:
            errors = error.errors(include_url=False)
        repairs = [_repair(data, prefix, detail, checker) for detail in errors]
        if not any(repairs):
            return None, _translated(model, data, errors, prefix, method, checker)


def _repair(data: dict[str, Any], prefix: KeyPath, error: ErrorDetails, checker: Checker) -> bool:
    """Turns a number into its source text, or a list into a tuple, where the model wants that."""
    path = _data_path(data, error["loc"])
    if not path or error["type"] not in ("string_type", "tuple_type"):
        return False
    parent = _value(data, path[:-1])
    value = parent[path[-1]]
    if error["type"] == "tuple_type" and isinstance(value, list):
        parent[path[-1]] = tuple(value)
        return True
    text = checker.place((*prefix, *path)).text
    if isinstance(value, bool) or not isinstance(value, int | float) or text is None:
        return False
    parent[path[-1]] = text
    return True


def _translated(
    model: type[BaseModel],
    data: Mapping[str, Any],
    errors: Sequence[ErrorDetails],
    prefix: KeyPath,
    method: str | None,
    checker: Checker,
) -> list[Fault]:
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    faults: list[Fault] = []
    for error in errors:
        path = _data_path(data, error["loc"])
        full = (*prefix, *path)
        if error["type"] == "extra_forbidden":
            valid = valid_keys(model, path[:-1]) + (_choice_keys(prefix) if method and len(path) == 1 else [])
            what, fix = unknown_key(full, valid, method, checker.methods, _value(data, path))
            faults.append(Fault(what, checker.place(full).key, fix, full))
        elif error["type"] == "missing":
            faults.append(_missing((*full, error["loc"][-1]), checker))
        else:
            by_path.setdefault(path, []).append(error)
    for path, group in by_path.items():
        if not any(other[: len(path)] == path and len(other) > len(path) for other in by_path):
            full = (*prefix, *path)
            faults.extend(value_faults(full, group, _value(data, path), checker.place(full)))
    return faults


def _choice_keys(path: KeyPath) -> list[str]:
    """The keys beside a method's options: deeper than a section, or an entry of it, a method is a part of another."""
    return list(MethodPart.model_fields.keys() - {"options"}) if len(path) > 2 else ["name"]


def _missing(path: KeyPath, checker: Checker) -> Fault:
    fix = EXAMPLES.get(path, f"{path[-1]}: ...")
    return Fault(f"{dotted(path)} is missing", checker.place(path).key, f"add `{fix}`", path)


def _data_path(data: Any, loc: Sequence[str | int]) -> KeyPath:
    """The part of pydantic's location that exists in the data: names of union branches and missing keys fall away."""
    path: list[str | int] = []
    for part in loc:
        if _holds(data, part):
            data = data[part]
            path.append(part)
    return tuple(path)


def _holds(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)


def _value(data: Any, path: KeyPath) -> Any:
    return functools.reduce(operator.getitem, path, data)


def _too_large(data: Any, checker: Checker, path: KeyPath = ()) -> list[Fault]:
    """Whole numbers beyond 64 bits, which no key can mean; those that became texts were written in fewer digits."""
    if isinstance(data, dict):
        return [fault for key, value in data.items() for fault in _too_large(value, checker, (*path, key))]
    if isinstance(data, list):
        return [fault for i, value in enumerate(data) for fault in _too_large(value, checker, (*path, i))]
    if isinstance(data, int) and abs(data) > MAX_INT and path[-1] != "revision":
        return [Fault(f"{dotted(path)}: the number is too large", checker.place(path).value, "use fewer digits", path)]
    return []


def _repaired(data: dict[str, Any], wrong: set[KeyPath]) -> Recipe | None:
    """The recipe without its faulty values, for looking for contradictions among the sound ones."""
    work = copy.copy(data)
    for section in ("model", "data", "training"):
        if isinstance(work.get(section), dict):
            work[section] = copy.deepcopy(work[section])
    for path in sorted(wrong, key=len, reverse=True):
        _removed(work, path)
    fillers: dict[str, dict[str, Any]] = {
        "model": {"name_or_path": "x"},
        "data": {"train": [{"path": "x"}]},
        "training": {"output_dir": "x"},
    }
    for section, filler in fillers.items():
        work[section] = {**filler, **work.get(section, {})}
    try:
        return Recipe.model_validate(work)
    except ValidationError:
        return None


def _removed(data: dict[str, Any], path: KeyPath) -> None:
    try:
        parent = _value(data, path[:-1])
    except (KeyError, IndexError, TypeError):
        return
    if isinstance(parent, dict) and path and not isinstance(parent.get(path[-1]), MethodChoice):
        parent.pop(path[-1], None)


def _contradicting(recipe: Recipe, wrong: set[KeyPath], checker: Checker) -> list[Fault]:
    faults = []
    for finding in contradictions(recipe):
        if any(bad[: len(path)] == path or path[: len(bad)] == bad for path in finding.paths for bad in wrong if bad):
            continue
        present = [path for path in finding.paths if path in checker.places]
        place = checker.places[present[0]] if present else checker.place(finding.paths[0])
        faults.append(Fault(finding.what, place.key, finding.fix, finding.paths[0]))
    return faults
