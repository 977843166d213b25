"""One contradiction between values of a recipe that are fine alone."""

from __future__ import annotations

from dataclasses import dataclass

from sftgo_cli.recipe.node import KeyPath


@dataclass(frozen=True)
class Finding:
    """What contradicts what, the key paths that take part (the first present one is shown), and what to do."""

    what: str
    paths: tuple[KeyPath, ...]
    fix: str
