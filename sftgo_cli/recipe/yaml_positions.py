"""Safe YAML reading into `Node` trees: plain data only, every value with its position, hostile files refused quickly.

Refused with one line and a position: files over 64 KiB, invalid UTF-8, control characters, tags, self references, alias
expansion or content beyond `MAX_NODES` values, nesting beyond `MAX_DEPTH`, several documents, a top level that is not a
mapping. Anchors and aliases within these limits work. Merge keys (`<<`) are refused: `extends` and plain aliases do
their job without a second precedence rule. Duplicate and merge keys are collected, so that they are reported together
with everything else; the rest ends the reading.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.faults import Fault
from sftgo_cli.recipe.node import Node, Position
from sftgo_cli.recipe.scalars import scalar

MAX_BYTES = 64 * 1024
MAX_DEPTH = 100
MAX_NODES = 10_000

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def read_text(path: Path) -> str:
    """The text of a recipe file, without a byte order mark; UserError if it cannot be a recipe."""
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise UserError("expected a recipe file, found a folder", str(path), "name the .yaml file")
        if not stat.S_ISREG(info.st_mode):
            raise UserError("the recipe is not a regular file", str(path), "name a .yaml file")
        if info.st_size > MAX_BYTES:
            what = f"the recipe has {info.st_size} bytes, more than {MAX_BYTES}"
            raise UserError(what, str(path), "name a recipe; data belongs in data.train")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"cannot read the recipe: {reason}", str(path), _missing_fix(path)) from None
    return _decoded(raw[:MAX_BYTES], path)


def _missing_fix(path: Path) -> str:
    import difflib

    try:
        there = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
    except (OSError, ValueError):
        there = []
    close = difflib.get_close_matches(path.name, there, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else "check the path, or write one with `sftgo init`"


def _decoded(raw: bytes, path: Path) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        where = str(Position(str(path), line, column))
        raise UserError("the recipe is not UTF-8 text", where, "save it as UTF-8") from None
    junk = _CONTROL.search(text)
    if junk:
        line = text.count("\n", 0, junk.start()) + 1
        where = str(Position(str(path), line, junk.start() - text.rfind("\n", 0, junk.start())))
        raise UserError(f"the recipe holds the control character {junk.group()!a}", where, "is it a text file?")
    return text


def parse_mapping(text: str, file: str, folder: Path, faults: list[Fault]) -> Node:
    """A whole recipe; like `parse_yaml`, and the top level must be a mapping."""
    node = parse_yaml(text, Position(file, 1, 1), folder, faults)
    if node is None:
        raise UserError("the recipe is empty", file, "write a starting point with `sftgo init`")
    if not isinstance(node.value, dict):
        raise UserError("a recipe holds `key: value` lines at its top level", str(node.at), "see `sftgo init`")
    return node


def parse_yaml(text: str, start: Position, folder: Path, faults: list[Fault]) -> Node | None:
    """One YAML document as a tree, None if there is none. `start.line` 0 gives every value the position `start`.

    Duplicate and merge keys are appended to `faults`; anything else that is wrong raises UserError.
    """
    builder = _Builder(start, folder, faults)
    try:
        for event in yaml.parse(text, Loader=_ShallowLoader):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = str(builder.position(mark) if mark else start)
        raise UserError(f"not valid YAML: {_problem(error)}", where, _syntax_fix(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"not valid YAML: {reason}", str(start), "check quotes and escapes") from None
    return builder.root


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "unreadable").split())
    return "a tab where only spaces may stand" if "'\\t'" in problem else problem


def _syntax_fix(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "indent with spaces"
    if problem == _TOO_DEEP:
        return "a recipe needs far fewer levels"
    if "mapping values" in problem or "expected <block end>" in problem:
        return "check the indentation, and quote texts that hold ': '"
    return "check indentation, brackets and quotes near here"


class _ShallowLoader(yaml.SafeLoader):
    """PyYAML's scanner looks ahead over opening brackets at a cost quadratic in their number: stop it early."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise yaml.scanner.ScannerError(None, None, _TOO_DEEP, self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


@dataclass
class _Frame:
    """A mapping or list being read."""

    items: dict[str, Node] | list[Node]
    at: Position
    anchor: str | None
    first: int  # nodes counted before this one
    key: tuple[str, Position] | None = None
    height: int = 1  # levels from here down


@dataclass(frozen=True)
class _Anchored:
    node: Node
    size: int
    height: int


class _Builder:
    """Turns parser events into a tree without recursion, counting levels and values as they come."""

    def __init__(self, start: Position, folder: Path, faults: list[Fault]) -> None:
        self.root: Node | None = None
        self._start = start
        self._folder = folder
        self._faults = faults
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}  # None while the anchored value is still open
        self._num_nodes = 0
        self._num_documents = 0

    def position(self, mark: Any) -> Position:
        if not self._start.line:
            return self._start
        return Position(self._start.file, mark.line + 1, mark.column + 1)

    def feed(self, event: yaml.Event) -> None:
        at = self.position(event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            self._num_documents += 1
            if self._num_documents > 1:
                raise UserError("the recipe holds more than one document", str(at), "remove the line `---`")
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.tag is not None:
                raise UserError(f"tags such as {event.tag!a} are not allowed", str(at), "write plain values")
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event, at)
            else:
                self._open(event, at)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, at)

    def _scalar(self, event: yaml.ScalarEvent, at: Position) -> None:
        if _CONTROL.search(event.value):
            raise UserError("a text holds a control character", str(at), "remove the escape")
        text = event.value if event.implicit[0] else None
        frame = self._stack[-1] if self._stack else None
        if frame and isinstance(frame.items, dict) and frame.key is None:
            frame.key = self._key(event.value, text, at)
            return
        self._count(1, at)
        value = event.value if text is None else scalar(text)
        node = Node(value, at, at, self._folder, text)
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(node, 1, 0)
        self._add(node, 0)

    def _key(self, value: str, text: str | None, at: Position) -> tuple[str, Position]:
        if text == "":
            raise UserError("a key is missing before ':'", str(at), "write `key: value`")
        if value == "<<":
            self._faults.append(Fault("merge keys (<<) are not supported", at, "use `extends: other.yaml`"))
        return value, at

    def _open(self, event: yaml.CollectionStartEvent, at: Position) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise UserError(_TOO_DEEP, str(at), "a recipe needs far fewer levels")
        self._refuse_as_key(at)
        items: dict[str, Node] | list[Node] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(items, at, event.anchor, self._num_nodes))
        self._count(1, at)
        if event.anchor:
            self._anchors[event.anchor] = None

    def _close(self) -> None:
        frame = self._stack.pop()
        node = Node(frame.items, frame.at, frame.at, self._folder)
        if frame.anchor:
            self._anchors[frame.anchor] = _Anchored(node, self._num_nodes - frame.first, frame.height)
        self._add(node, frame.height)

    def _alias(self, event: yaml.AliasEvent, at: Position) -> None:
        self._refuse_as_key(at)
        if event.anchor not in self._anchors:
            raise UserError(f"unknown alias *{event.anchor}", str(at), "quote a text that begins with *")
        known = self._anchors[event.anchor]
        if known is None:
            raise UserError(f"*{event.anchor} refers to itself", str(at), "remove the alias")
        if len(self._stack) + known.height > MAX_DEPTH:
            raise UserError(_TOO_DEEP, str(at), "remove aliases")
        self._count(known.size, at)
        self._add(replace(known.node, at=at, key_at=at), known.height)

    def _count(self, num: int, at: Position) -> None:
        self._num_nodes += num
        if self._num_nodes > MAX_NODES:
            raise UserError(
                f"more than {MAX_NODES} values", str(at), "a recipe needs far fewer; remove aliases or lists"
            )

    def _refuse_as_key(self, at: Position) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame and isinstance(frame.items, dict) and frame.key is None:
            raise UserError("a key must be a plain text", str(at), "quote a text that holds brackets or begins with *")

    def _add(self, node: Node, height: int) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.items, list):
            frame.items.append(node)
            return
        assert frame.key is not None
        (key, key_at), frame.key = frame.key, None
        if key == "<<":
            return
        if key in frame.items:
            fix = f"remove it here or at {frame.items[key].key_at}"
            self._faults.append(Fault(f"the key {key!r} stands twice", key_at, fix))
            return
        frame.items[key] = replace(node, key_at=key_at)
