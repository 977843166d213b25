"""The strict pydantic base of everything a recipe can hold, and what a method's options are.

A method (scorer, objective, tuner, curation stage) is a named choice with its own options: `{name: tfidf, unit: word}`.
The recipe keeps it as a `MethodChoice`; the method's own file declares an `Options` model, found through the table of
its package (`scoring.METHODS`, `objectives.METHODS`, `tuning.METHODS`), which the caller hands to the loader. So this
package knows no method's name.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Unknown keys are errors, values are never coerced silently, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, protected_namespaces=())


class MethodOptions(StrictModel):
    """Base of every method's `Options`."""


class MethodChoice(StrictModel):
    """`name` of a method and its validated options."""

    name: str
    options: Any  # the method's own Options instance
