"""The strict pydantic base of everything a recipe can hold, and what a method's options are.

A method (scorer, objective, tuner, curation stage) is a named choice with its own options: `{name: tfidf, unit: word}`.
The recipe keeps it as a `MethodChoice`; the method's own file declares an `Options` model, found through the table of
its package (`scoring.METHODS`, `objectives.METHODS`, `tuning.METHODS`), which the caller hands to the loader. So this
package knows no method's name.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, model_serializer


class StrictModel(BaseModel):
    """Unknown keys are errors, values are never coerced silently, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, protected_namespaces=())


class MethodOptions(StrictModel):
    """Base of every method's `Options`."""

    default_learning_rate: ClassVar[float] = 1e-5  # of a tuner: where the recipe gives none


class MethodChoice(StrictModel):
    """`name` of a method and its validated options."""

    name: str
    options: Any  # the method's own Options instance


class PartWeight(StrictModel):
    """What a method among others has besides its name and options."""

    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = Field(1.0, description="How much it counts")


class MethodPart(MethodChoice, PartWeight):
    """A method among another method's options, with a weight, in one mapping: `{name: tfidf, weight: 2.0, unit: word}`."""

    @model_serializer
    def flat(self, info: SerializationInfo) -> dict[str, Any]:
        """As it is written in a recipe."""
        return {"name": self.name, "weight": self.weight, **self.options.model_dump(mode=info.mode)}


class NestedChoice(MethodChoice):
    """A method of another kind among a method's options: `judge: {name: numeric, tolerance: 0.01}`."""

    section: ClassVar[str]  # the kind, as `sftgo methods` lists it

    @model_serializer
    def flat(self, info: SerializationInfo) -> dict[str, Any]:
        """As it is written in a recipe."""
        return {"name": self.name, **self.options.model_dump(mode=info.mode)}


class JudgeChoice(NestedChoice):
    """Who decides whether an answer is right."""

    section = "judge"


class GeneratorChoice(NestedChoice):
    """Who answers."""

    section = "generator"
