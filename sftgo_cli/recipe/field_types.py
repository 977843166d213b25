"""Constrained types that several sections of the recipe share: counts, fractions, names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes
Steps = PositiveInt | OpenFraction  # a number of steps, or a share of the run's
NonEmpty = Annotated[str, Field(pattern=r"\S")]
SafeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=100)]  # also a file's name
Interval = Literal["no", "steps", "epoch"]
SaveInterval = Literal["no", "steps", "epoch", "best"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MAX_GROUPS = 127  # group_ids are int8
NumGroups = Annotated[int, Field(ge=1, le=MAX_GROUPS)]
