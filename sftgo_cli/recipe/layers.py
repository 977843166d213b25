"""`extends`: a recipe file with all its parents, merged into one tree whose values know the file they came from."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.faults import Fault
from sftgo_cli.recipe.merging import merged, written_out
from sftgo_cli.recipe.node import Node
from sftgo_cli.recipe.yaml_positions import parse_mapping, read_text

MAX_PARENTS = 20


@dataclass(frozen=True)
class Layers:
    """The merged tree (short forms written out, `extends` gone), the main file's text, and all files, main first."""

    root: Node
    text: str
    files: tuple[Path, ...]


def read_layers(path: Path, faults: list[Fault]) -> Layers:
    """Reads `path` and the chain of files it extends. Raises UserError where a file cannot be read or forms a cycle."""
    text = read_text(path)
    layers = [_layer(text, path, faults)]
    files = [path]
    while "extends" in (mapping := _mapping(layers[-1])):
        link = mapping["extends"]
        layers[-1] = replace(layers[-1], value={k: v for k, v in mapping.items() if k != "extends"})
        parent = _parent_path(link, files)
        layers.append(_layer(_parent_text(parent, link), parent, faults))
        files.append(parent)
    root = layers[-1]
    for layer in reversed(layers[:-1]):
        root = merged(root, layer)
    return Layers(root, text, tuple(files))


def _layer(text: str, path: Path, faults: list[Fault]) -> Node:
    return written_out(parse_mapping(text, str(path), path.parent, faults))


def _mapping(node: Node) -> dict[str, Node]:
    assert isinstance(node.value, dict)
    return node.value


def _parent_path(link: Node, files: list[Path]) -> Path:
    if not isinstance(link.value, str) or not link.value.strip():
        raise UserError("extends: expected the path of a recipe", str(link.at), "write `extends: other.yaml`")
    parent = Path(os.path.normpath(files[-1].parent / link.value))
    if len(files) > MAX_PARENTS:
        raise UserError(f"extends: more than {MAX_PARENTS} parents", str(link.at), "shorten the chain")
    if os.path.realpath(parent) in [os.path.realpath(file) for file in files]:
        raise UserError(f"extends: {parent} extends itself through this line", str(link.at), "break the cycle")
    return parent


def _parent_text(parent: Path, link: Node) -> str:
    try:
        return read_text(parent)
    except UserError as error:
        raise UserError(f"extends: {error.what} ({error.where})", str(link.at), error.fix) from None
