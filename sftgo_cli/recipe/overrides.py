"""Overrides of the command line: `training.max_steps=20`, `data.train.0.path=x.jsonl`, `objective=cross_entropy`.

An override is one more layer over the recipe, with the same short forms and the same merging; inside lists it addresses
one element (an existing one, or one past the end). The value is typed as in a recipe; one that begins with a bracket or
a quote is read as YAML, everything else is taken literally, so `path=*.jsonl` and inline Jinja need no second quoting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.faults import Fault
from sftgo_cli.recipe.merging import METHOD_SECTIONS, merged, written_out
from sftgo_cli.recipe.messages import without_secrets
from sftgo_cli.recipe.node import KeyPath, Node, Position, dotted
from sftgo_cli.recipe.scalars import scalar
from sftgo_cli.recipe.yaml_positions import MAX_BYTES, MAX_DEPTH, parse_yaml

LISTS: tuple[KeyPath, ...] = (("data", "train"), ("curation",))


def overridden(root: Node, overrides: Sequence[str], faults: list[Fault]) -> Node:
    """The recipe with every override applied; a wrong one is appended to `faults` and left out.

    Overrides that choose a method come first, the rest in the order given: choosing a method drops the options of the
    other one, and `tuning.r=4 tuning=lora` must mean the same as `tuning=lora tuning.r=4`.
    """
    for text in sorted(overrides, key=lambda text: not _chooses_method(text)):
        shown = without_secrets(text)
        at = Position(f"command line: {shown}" if len(shown) <= 200 else f"command line: {shown[:200]}...")
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            faults.append(Fault("an override reads key=value", at, "for example training.max_steps=20"))
            continue
        if len(parts) > MAX_DEPTH or len(text) > MAX_BYTES:
            faults.append(Fault("the override is too long", at, "put it into the recipe"))
            continue
        if parts == ["extends"]:
            faults.append(Fault("extends cannot be overridden", at, "set it in the recipe file"))
            continue
        try:
            root = _applied(root, (), parts, _value(value.strip(), at, faults))
        except _BadIndex as error:
            faults.append(Fault(str(error), at, error.fix))
        except UserError as error:
            faults.append(Fault(error.what, at, error.fix))
    return root


class _BadIndex(Exception):
    def __init__(self, what: str, fix: str) -> None:
        self.fix = fix
        super().__init__(what)


def _chooses_method(text: str) -> bool:
    key = text.partition("=")[0].strip()
    return key.removesuffix(".name") in METHOD_SECTIONS


def _value(text: str, at: Position, faults: list[Fault]) -> Node:
    folder = Path.cwd()
    is_yaml = text.startswith(("[", "{", "'", '"')) and not text.startswith(("{{", "{%", "{#"))
    node = parse_yaml(text, at, folder, faults) if is_yaml else None
    return node or Node(scalar(text), at, at, folder, text)


def _applied(node: Node | None, path: KeyPath, parts: Sequence[str], value: Node) -> Node:
    """`node`, which stands at `path`, with `value` laid over what stands at `parts` below it."""
    if not parts:
        return merged(node, written_out(value, path), path)
    if (node is not None and isinstance(node.value, list)) or (node is None and path in LISTS):
        return _in_list(node, path, parts, value)
    below = node.value if node is not None and isinstance(node.value, dict) else {}
    key, rest = _longest_key(parts, below)
    child = _applied(below.get(key), (*path, key), rest, value)
    layer = Node({key: child}, value.at, value.key_at, value.folder)
    result = merged(node, layer, path)
    return replace(result, at=node.at, key_at=node.key_at) if node is not None else result


def _in_list(node: Node | None, path: KeyPath, parts: Sequence[str], value: Node) -> Node:
    items = list(node.value) if node is not None and isinstance(node.value, list) else []
    name = dotted(path)
    if not (parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 6):
        raise _BadIndex(f"{name} is a list", f"say which entry: {name}.0.{'.'.join(parts)}=...")
    index = int(parts[0])
    if index > len(items):
        raise _BadIndex(f"{name} has no entry {index}", f"use an index from 0 to {len(items)} (one past the end adds)")
    new = _applied(items[index] if index < len(items) else None, (*path, index), parts[1:], value)
    items[index : index + 1] = [new]
    return replace(node, value=items) if node is not None else Node(items, value.at, value.at, value.folder)


def _longest_key(parts: Sequence[str], below: dict[str, Node]) -> tuple[str, Sequence[str]]:
    """Names of evaluation sets may hold dots: the longest key that exists wins, else the first part is the key."""
    for end in range(len(parts), 1, -1):
        if ".".join(parts[:end]) in below:
            return ".".join(parts[:end]), parts[end:]
    return parts[0], parts[1:]
