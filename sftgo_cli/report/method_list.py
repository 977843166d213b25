"""The methods a recipe can name, as entries and as text that fits any width: nothing is cut, long lines are wrapped.

Values are written as in YAML (null, true, [a, b]), so that they can be copied into a recipe.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from types import ModuleType

    from rich.text import Text

INDENT = 2
LONGEST_KEY = 28  # columns for keys; a longer one has its description on the next line


@dataclass(frozen=True)
class OptionEntry:
    """An option: its default as YAML (None where it is required), what it may be, and what it means."""

    key: str
    required: bool
    default: str | None
    choices: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class MethodEntry:
    """A method of a section with what the table and its file say about it."""

    section: str
    name: str
    summary: str
    source: str
    options: tuple[OptionEntry, ...]


def method_entries(section: str, tables: ModuleType) -> list[MethodEntry]:
    """The methods of a section of `sftgo_cli.methods`, in the table's order."""
    entries = []
    for name in tables.names(section):
        module = tables.module(section, name)
        options = tuple(_option(key, field) for key, field in module.Options.model_fields.items())
        entries.append(MethodEntry(section, name, tables.summary(section, name), module.SOURCE, options))
    return entries


def _option(key: str, field: FieldInfo) -> OptionEntry:
    default = None if field.is_required() else yaml_text(field.get_default(call_default_factory=True))
    choices = tuple(str(choice) for choice in _choices(field.annotation))
    return OptionEntry(key, field.is_required(), default, choices, " ".join((field.description or "").split()))


def _choices(annotation: Any) -> list[Any]:
    """The values of a Literal, also within `Literal[...] | None`."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def yaml_text(value: Any) -> str:
    """A value as YAML writes it on one line."""
    from sftgo_cli.recipe.starter import flow

    return flow(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def section_text(section: str, entries: Sequence[MethodEntry], width: int) -> list[Text]:
    """The section's name, then a method per line with what it does."""
    from rich.text import Text

    column = min(max(len(entry.name) for entry in entries) + 2, LONGEST_KEY)
    lines = [Text(section, style="bold")]
    for entry in entries:
        lines += _entry_lines(entry.name, entry.summary, column, width, "bold")
    return lines


def method_text(entry: MethodEntry, width: int) -> list[Text]:
    """One method: what it does, its source, how it is written in a recipe, and its options."""
    from rich.text import Text

    lines = [Text.assemble((entry.name, "bold"), (f"  {entry.section}", "dim"))]
    lines += [Text(line) for line in _wrapped(entry.summary, INDENT, width)]
    lines += [Text(line, style="dim") for line in _wrapped(f"source: {entry.source}", INDENT, width)]
    if not entry.options:
        return [*lines, Text(f"{' ' * INDENT}no options")]
    heads = [f"{option.key}: {'(required)' if option.required else option.default}" for option in entry.options]
    column = min(max(map(len, heads)) + 2, LONGEST_KEY)
    for head, option in zip(heads, entry.options, strict=True):
        choices = f"one of {', '.join(option.choices)}" if option.choices else ""
        described = option.description + (f" ({choices})" if choices and option.description else choices)
        lines += _entry_lines(head, described, column, width, "")
    return lines


def _entry_lines(head: str, text: str, column: int, width: int, style: str) -> list[Text]:
    """`head` and `text` in two columns; the text below where the head is too long, both wrapped to the width."""
    from rich.text import Text

    body = _wrapped(text, INDENT + column, width) if text else []
    if body and len(head) + 2 <= column:
        first = body.pop(0).strip()
        start = [Text.assemble(" " * INDENT, (head, style), " " * (column - len(head)), first)]
    else:
        start = [Text(line, style=style) for line in _wrapped(head, INDENT, width)]
    return [*start, *(Text(line) for line in body)]


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    room = max(width, indent + 20)
    space = " " * indent
    return textwrap.wrap(
        text, room, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
