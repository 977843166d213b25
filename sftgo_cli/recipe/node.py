"""A value of a recipe together with where it was written: what reading, merging and overriding work on.

A `Node` is immutable; merging builds new ones. Key paths are tuples of mapping keys (str) and list indices (int).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KeyPath = tuple[str | int, ...]
Scalar = str | int | float | bool | None


@dataclass(frozen=True, order=True)
class Position:
    """A place in a file (line and column count from 1), or an override of the command line (line 0)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Node:
    """A scalar, mapping or list; `text` is the source text of an unquoted scalar, None otherwise."""

    value: Scalar | dict[str, Node] | list[Node]
    at: Position
    key_at: Position  # where the key stands; equals `at` where there is none
    folder: Path  # what a relative path in this value is relative to
    text: str | None = None


@dataclass(frozen=True)
class Place:
    """Where the key and the value of one key path stand, the value's source text and its origin folder."""

    key: Position
    value: Position
    text: str | None
    folder: Path


def plain(node: Node) -> Any:
    """The node as plain dicts, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def places(node: Node) -> dict[KeyPath, Place]:
    """Every key path of the tree (the empty one for the whole) and where it stands."""
    return {path: Place(n.key_at, n.at, n.text, n.folder) for path, n in walk(node)}


def walk(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Every node of the tree with its key path, parents first."""
    yield path, node
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from walk(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from walk(child, (*path, index))


def dotted(path: KeyPath) -> str:
    """The key path as a person types it: `data.train.0.path`."""
    return ".".join(str(part) for part in path)
