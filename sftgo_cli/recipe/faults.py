"""Faults of a recipe, collected so that all are reported at once, in the order in which they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sftgo_cli.errors import UserError, UserErrors
from sftgo_cli.recipe.node import KeyPath, Position


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, where, and what to do; `path` is the key path it concerns."""

    what: str
    at: Position
    fix: str
    path: KeyPath = ()


def raise_faults(faults: Sequence[Fault], first_file: str) -> None:
    """Raises one UserError, or UserErrors in the order recipe, parents, command line; nothing if there is no fault."""
    ordered = sorted(dict.fromkeys(faults), key=lambda f: (f.at.line == 0, f.at.file != first_file, f.at))
    errors = [UserError(fault.what, str(fault.at), fault.fix) for fault in ordered]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserErrors(errors)
