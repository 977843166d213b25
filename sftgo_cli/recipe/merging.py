"""How one layer of a recipe (a parent file, the file, an override) lies over another, and the short forms.

Mappings merge key by key; lists, scalars and null replace. Two rules keep a merge from making nonsense: a layer that
changes a method's `name` drops the options that the layer below gave to the other method, and a layer that sets one of
the keys that exclude each other (`EXCLUSIVE`) drops the others below. Short forms (`model: X`) are written out
before merging, so a layer may use them over a layer that does not.
"""

from __future__ import annotations

from dataclasses import replace

from sftgo_cli.recipe.node import KeyPath, Node
from sftgo_cli.recipe.schema import DEFAULT_METHODS

METHOD_SECTIONS = ("scoring", "objective", "tuning", "curation")
EXCLUSIVE = {
    "grouping": ("important_fraction", "boundaries", "quantiles", "thresholds", "column", "roles", "segments"),
    "training": ("warmup_ratio", "warmup_steps"),
    "eval": ("path", "fraction"),
}
EVAL_SET = "heldout"  # the name of the set that `data.eval: FILE` or `data.eval: 0.1` means


def merged(base: Node | None, over: Node, path: KeyPath = ()) -> Node:
    """`over` laid over `base`; both stand at `path`."""
    if base is None or not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    below = dict(base.value)
    if _changes_method(base, over, path):
        below = {}
    for dropped in _excluded(over, path):
        below.pop(dropped, None)
    for key, child in over.value.items():
        below[key] = merged(below.get(key), child, (*path, key))
    return replace(over, value=below)


def _changes_method(base: Node, over: Node, path: KeyPath) -> bool:
    is_judge = path[:2] == ("evaluation", "answers") and path[-1] == "judge"
    if not path or not (path[0] in METHOD_SECTIONS or is_judge):
        return False
    assert isinstance(base.value, dict)
    assert isinstance(over.value, dict)
    if "name" not in over.value:
        return False
    default = DEFAULT_METHODS.get(str(path[0])) if len(path) == 1 else None
    before = base.value["name"].value if "name" in base.value else default
    return over.value["name"].value != before


def _excluded(over: Node, path: KeyPath) -> list[str]:
    section = "eval" if len(path) == 3 and path[:2] == ("data", "eval") else path[0] if len(path) == 1 else ""
    pair = EXCLUSIVE.get(str(section))
    assert isinstance(over.value, dict)
    given = [key for key in pair or () if key in over.value and over.value[key].value is not None]
    return [key for key in pair or () if key not in given] if len(given) == 1 else []


def written_out(node: Node, path: KeyPath = ()) -> Node:
    """The node with its short forms, and those below it, in their long form."""
    node = _long_form(node, path)
    if isinstance(node.value, dict) and (len(path) < 3 or path[0] in ("curation", "evaluation")):
        return replace(node, value={key: written_out(child, (*path, key)) for key, child in node.value.items()})
    if isinstance(node.value, list) and path in (("data", "train"), ("curation",)):
        return replace(node, value=[written_out(child, (*path, i)) for i, child in enumerate(node.value)])
    return node


def without_null_sections(root: Node) -> Node:
    """A section (or `data.eval`) that is null, for example because all below it is commented out, is an omitted one."""
    assert isinstance(root.value, dict)
    kept = {key: child for key, child in root.value.items() if child.value is not None}
    data = kept.get("data")
    if data and isinstance(data.value, dict) and "eval" in data.value and data.value["eval"].value is None:
        kept["data"] = replace(data, value={key: child for key, child in data.value.items() if key != "eval"})
    return replace(root, value=kept)


def _long_form(node: Node, path: KeyPath) -> Node:
    is_text = isinstance(node.value, str)
    match path:
        case ("model",) if is_text:
            return _under("name_or_path", node)
        case ("data",) if is_text:
            return _under("train", node)
        case ("data", "train") | ("curation",) if is_text or isinstance(node.value, dict):
            return replace(node, value=[replace(node, key_at=node.at)], text=None)
        case ("data", "eval") if is_text or _is_number(node):
            return replace(node, value={EVAL_SET: replace(node, key_at=node.at)}, text=None)
        case ("data", "eval", str()) if _is_number(node):
            return _under("fraction", node)
        case ("data", "train", int()) | ("data", "eval", str()) if is_text:
            return _under("path", node)
        case ("scoring" | "objective" | "tuning",) | ("curation", int()) if is_text:
            return _under("name", node)
        case ("curation", int(), *_, "judge" | "generator") | ("evaluation", "answers", str(), "judge") if is_text:
            return _under("name", node)
    return node


def _is_number(node: Node) -> bool:
    return isinstance(node.value, int | float) and not isinstance(node.value, bool)


def _under(key: str, node: Node) -> Node:
    return replace(node, value={key: replace(node, key_at=node.at)}, text=None)
