"""One cell of a row, read with its type checked: a wrong one is a UserError that names row, column and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sftgo_cli.errors import UserError, nearest

# What other data sets call our columns: for hints in messages only.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "instruction": ("question", "query", "prompt", "problem"),
    "input": ("context",),
    "output": ("response", "answer", "completion", "target", "solution"),
    "prompt": ("question", "query", "input", "problem"),
    "completion": ("response", "answer", "output", "target", "solution", "chosen"),
    "query": ("question", "prompt"),
    "system": ("system_prompt", "system_message"),
    "messages": ("conversation", "dialog", "dialogue", "chat", "turns", "dialogs", "history", "data"),
    "conversations": ("conversation",),
    "text": ("content", "document"),
}


def close_column(name: str, columns: Sequence[str]) -> str | None:
    """The column of the row that `name` was probably meant to be, by its spelling or by habit elsewhere."""
    lowered = {column.lower(): column for column in columns}
    synonym = next((lowered[other] for other in SYNONYMS.get(name, ()) if other in lowered), None)
    return nearest(name, columns) or synonym


def missing_column(name: str, values: Mapping[str, Any], where: str) -> UserError:
    """The error for a column that is not there, with the nearest one that is."""
    close = close_column(name, list(values))
    fix = f"did you mean columns: {{{name}: {close}}}?" if close else "map it with columns: {our name: your name}"
    return UserError(f"column {name!r} is missing; found {', '.join(values) or 'none'}", f"{where}, column {name}", fix)


def read_text(values: Mapping[str, Any], name: str, where: str) -> str:
    """A column that must hold text.

    Raises:
        UserError: it is null or something else.
    """
    value = values[name]
    if isinstance(value, str):
        return value
    if value is None:
        raise UserError("text is null", f"{where}, column {name}", "fill it in or remove the row")
    raise UserError(
        f"expected text, found {type(value).__name__}",
        f"{where}, column {name}",
        "give a string, or choose another format",
    )


def read_weight(value: Any, name: str, where: str) -> float:
    """A multiplier: a number that is finite and not negative, also as float32.

    Raises:
        UserError: it is not.
    """
    column = f"{where}, column {name}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"expected a number, found {type(value).__name__}", column, "give a number of at least 0")
    if not math.isfinite(value) or value < 0 or value > 3.4e38:
        raise UserError(f"weight {value} is negative or not finite", column, "give a finite number of at least 0")
    return float(value)


def read_number(values: Mapping[str, Any], name: str, where: str) -> float:
    """A per-row column that must hold a number, finite also as float32.

    Raises:
        UserError: the column is missing or holds something else.
    """
    if name not in values:
        raise missing_column(name, values, where)
    value, column = values[name], f"{where}, column {name}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = "null" if value is None else type(value).__name__
        raise UserError(f"expected a number, found {kind}", column, "give one number per row")
    if not math.isfinite(value) or abs(value) > 3.4e38:
        raise UserError(f"the number {value} is not finite", column, "give one finite number per row")
    return float(value)


def read_weights(value: Any, where: str) -> list[float]:
    """`token_weights`: one multiplier per token.

    Raises:
        UserError: no list, or a weight is negative or not finite.
    """
    return [read_weight(weight, "token_weights", where) for weight in read_list(value, "token_weights", where)]


def read_numbers(values: Mapping[str, Any], name: str, where: str) -> list[float]:
    """A per-token column of numbers; NaN and infinity pass, what they mean is the reader's to say.

    Raises:
        UserError: the column is missing or no list of numbers.
    """
    if name not in values:
        raise missing_column(name, values, where)
    found = read_list(values[name], name, where)
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int | float):
            kind = "null" if value is None else type(value).__name__
            raise UserError(f"expected numbers, found {kind}", f"{where}, column {name}", "give one number per token")
    return [float(value) for value in found]


def read_integers(values: Mapping[str, Any], name: str, where: str) -> list[int]:
    """A column that must hold a list of whole numbers.

    Raises:
        UserError: it does not.
    """
    found = read_list(values[name], name, where)
    if all(type(value) is int for value in found):
        return list(found)
    wrong = next(value for value in found if type(value) is not int)
    raise UserError(f"expected whole numbers, found {wrong!r}", f"{where}, column {name}", "give a list of integers")


def read_list(value: Any, name: str, where: str) -> list[Any]:
    """A cell that must hold a list.

    Raises:
        UserError: it does not.
    """
    if isinstance(value, list):
        return value
    kind = "null" if value is None else type(value).__name__
    raise UserError(f"expected a list, found {kind}", f"{where}, column {name}", "give one value per token")
