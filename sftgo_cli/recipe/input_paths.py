"""Relative input paths: relative to the folder of the recipe that is loaded, wherever they were written.

The rule: a path written in a parent recipe in another folder, or on the command line (where it is relative to the
working directory), is rewritten when it exists there, or when it begins with `./` or `../`. Everything else stays as it
is, because `org/name` may as well be a Hub id. In a method's options, whose keys are not known here, a text counts as a
path when it exists there and holds a slash or stands under a key that names a model. Absolute paths, `~` and
`builtin:` names never change.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sftgo_cli.recipe.merging import METHOD_SECTIONS
from sftgo_cli.recipe.node import KeyPath

MAX_PATH = 4096
METHOD_PATH_KEYS = (
    "reference",
    "model",
    "file",
    "prompt",
    "paraphrase",
)  # options that name a path, also without a slash


def moved(data: Any, origin: Callable[[KeyPath], Path], home: Path, path: KeyPath = ()) -> Any:
    """Plain recipe data with its input paths, each relative to `origin(key path)`, made relative to `home`."""
    if isinstance(data, dict):
        return {key: moved(child, origin, home, (*path, key)) for key, child in data.items()}
    if isinstance(data, list):
        return [moved(child, origin, home, (*path, index)) for index, child in enumerate(data)]
    if isinstance(data, str) and origin(path) != home:
        return _moved_text(data, path, origin(path), home)
    return data


def _moved_text(text: str, path: KeyPath, origin: Path, home: Path) -> str:
    in_method = bool(path) and (path[0] in METHOD_SECTIONS or path[:2] == ("evaluation", "answers"))
    if not (_is_path_key(path) or (in_method and ("/" in text or path[-1] in METHOD_PATH_KEYS))):
        return text
    if text.startswith(("/", "~", "builtin:")) or "://" in text or "\n" in text or not 0 < len(text) <= MAX_PATH:
        return text
    there = origin.resolve() / text
    is_relative = text.startswith(("./", "../")) and not in_method
    if not is_relative and not _exists(there):
        return text
    return os.path.relpath(there, home.resolve())


def _is_path_key(path: KeyPath) -> bool:
    match path:
        case ("model", "name_or_path") | ("data", "chat_template") | ("training", "deepspeed"):
            return True
        case ("data", "train", int(), "path" | "chat_template") | ("data", "eval", str(), "path" | "chat_template"):
            return True
    return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
