"""pydantic's errors in a user's words: "expected a number, found the text 'abc'", with a position and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from sftgo_cli.errors import HIDDEN, masked, nearest
from sftgo_cli.recipe.faults import Fault
from sftgo_cli.recipe.node import KeyPath, Place, dotted

EXPECTED = {
    "int_type": ("a whole number", "write a whole number such as 8"),
    "int_from_float": ("a whole number", "write a whole number such as 8"),
    "int_parsing": ("a whole number", "write a whole number such as 8"),
    "float_type": ("a number", "write a number such as 0.1"),
    "float_parsing": ("a number", "write a number such as 0.1"),
    "bool_type": ("true or false", "write true or false"),
    "string_type": ("a text", "write a text, in quotes where it looks like something else"),
    "list_type": ("a list", "write a list such as [a, b]"),
    "tuple_type": ("a list", "write a list such as [a, b]"),
    "dict_type": ("keys with values", "write indented `key: value` lines"),
    "model_type": ("keys with values", "write indented `key: value` lines"),
    "model_attributes_type": ("keys with values", "write indented `key: value` lines"),
    "none_required": ("null", "write null"),
    "literal_error": ("", ""),
}
RANGES = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
PATTERNS = {
    r"\S": ("must not be empty", "write a text"),
    r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$": (
        "is no safe name",
        "use letters, digits, '.', '_' and '-', and no '.' at the start",
    ),
}


_SECRETS = (
    r"(?<!eos_)(?<!bos_)(?<!pad_)(?<!unk_)token|secret|password|passwd|passphrase"
    r"|(?:api|access|private)[_-]?key|credentials?"
)
SECRET_KEY = re.compile(rf"(?:{_SECRETS})$", re.IGNORECASE)
SECRET_PAIR = re.compile(rf"((?:{_SECRETS})['\"]?\s*[=:]\s*)(['\"][^'\"]*['\"]?|[^\s,;&}}\]'\"]+)", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A command-line text with the values of keys that look like secrets (`hub_token=...`) replaced by `***`."""
    return SECRET_PAIR.sub(rf"\1{HIDDEN}", text)


def found(value: Any, text: str | None, path: KeyPath = ()) -> str:
    """What stands in the recipe at `path`, in words; never what a key that looks like a secret holds."""
    if any(isinstance(key, str) and SECRET_KEY.search(key) for key in path) and isinstance(value, str | int | float):
        return f"a value ({HIDDEN})"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {text or value}"[:60]
    if isinstance(value, str):
        value = masked(value)  # before it is cut
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    return "a list" if isinstance(value, list | tuple) else "keys with values"


def value_faults(path: KeyPath, errors: Sequence[ErrorDetails], value: Any, place: Place) -> list[Fault]:
    """The faults of one value: the alternatives of a union become one fault, "expected A or B"."""
    expected = [error for error in errors if error["type"] in EXPECTED]
    others = [error for error in errors if error["type"] not in EXPECTED]
    faults = [_other(path, error, value, place) for error in others]
    if expected and not others:
        faults.append(_wrong_type(path, expected, value, place))
    return faults


def _wrong_type(path: KeyPath, errors: Sequence[ErrorDetails], value: Any, place: Place) -> Fault:
    kinds = [EXPECTED[error["type"]][0] for error in errors if error["type"] != "literal_error"]
    choices = [choice for error in errors if error["type"] == "literal_error" for choice in _choices(error)]
    if choices:
        kinds.append("one of " + ", ".join(choices))
    expected = " or ".join(dict.fromkeys(kinds))
    what = f"{dotted(path)}: expected {expected}, found {found(value, place.text, path)}"
    return Fault(what, place.value, _type_fix(errors, choices, value, place), path)


def _type_fix(errors: Sequence[ErrorDetails], choices: Sequence[str], value: Any, place: Place) -> str:
    if choices:
        close = nearest(str(value), choices) if isinstance(value, str) else None
        return f"did you mean {close}?" if close else "choose one of them"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    if isinstance(value, str) and place.text is None and "\n" not in value and len(value) <= 40:
        from sftgo_cli.recipe.scalars import scalar

        if not isinstance(scalar(value), str):
            return "remove the quotes"
    return EXPECTED[errors[0]["type"]][1]


def _choices(error: ErrorDetails) -> list[str]:
    """The allowed values of a literal, from pydantic's "'a', 'b' or 'c'"."""
    text = str(error["ctx"]["expected"])
    return [part.strip().strip("'") for part in text.replace(" or ", ", ").split(", ")]


def _other(path: KeyPath, error: ErrorDetails, value: Any, place: Place) -> Fault:
    kind, context = error["type"], error.get("ctx", {})
    name = dotted(path)
    if kind in RANGES:
        key, words = RANGES[kind]
        bound = f"{context[key]:g}"
        what = f"{name}: must be {words} {bound}, found {found(value, place.text, path)}"
        return Fault(what, place.value, f"give a number {words} {bound}", path)
    if kind == "finite_number":
        return Fault(f"{name}: must be a finite number", place.value, "write a number such as 0.1", path)
    if kind == "string_pattern_mismatch" and context.get("pattern") in PATTERNS:
        what, fix = PATTERNS[context["pattern"]]
        is_key = error["loc"][-1:] == ("[key]",)
        shown = f"the name {path[-1]!r}" if is_key else f"{name}: {_shown(value, path)}"
        return Fault(f"{shown} {what}", place.key if is_key else place.value, fix, path)
    if kind == "string_too_long":
        fix = f"use at most {context['max_length']} characters"
        return Fault(f"{name[:60]}... is too long", place.key, fix, path)
    if kind in ("too_short", "too_long"):
        return Fault(f"{name}: {_length_words(kind, context)}", place.value, "change the list", path)
    reason = str(context.get("error") or error["msg"])
    return Fault(f"{name}: {' '.join(reason.split())}" if name else reason, place.value, "change this value", path)


def _shown(value: Any, path: KeyPath) -> str:
    return HIDDEN if any(isinstance(key, str) and SECRET_KEY.search(key) for key in path) else repr(value)


def _length_words(kind: str, context: Mapping[str, Any]) -> str:
    bound = context["min_length"] if kind == "too_short" else context["max_length"]
    noun = "entry" if bound == 1 else "entries"
    return f"needs at least {bound} {noun}" if kind == "too_short" else f"takes at most {bound} {noun}"
