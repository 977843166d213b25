"""JSON text as Python values, without what JSON parsers let pass in silence: a key that stands twice in one object."""

from __future__ import annotations

import json
from typing import Any

from sftgo_cli.errors import UserError


class DuplicateKeyError(ValueError):
    """A key stands twice in one JSON object; only the last value would be seen."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON (`json.JSONDecodeError`), has a key twice, or a number with too many digits.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def parse_cell(text: str, place: str) -> Any:
    """The value of a cell that holds JSON text.

    Raises:
        UserError: it is not valid JSON.
    """
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        fix = "write it with json.dumps: this is how Python prints it" if _is_python(text) else "correct it"
        raise UserError(f"not valid JSON: {error}", place, fix) from error


def _is_python(text: str) -> bool:
    """Whether it looks like the printed form of a list or dict, as pandas writes it into CSV files."""
    return text.lstrip().startswith(("[{'", "{'", "['", "[array(", "array("))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise DuplicateKeyError(f"the key {twice!r} stands twice in one object")
