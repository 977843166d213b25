"""The recipe's `grouping`: how tokens come into groups."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sftgo_cli.recipe.field_types import Finite, NonEmpty, NumGroups, OpenFraction
from sftgo_cli.recipe.options import StrictModel

Role = Literal["system", "developer", "user", "assistant", "tool", "function", "ipython"]


class ColumnGroups(StrictModel):
    """Groups that a column of the data gives: one integer per token of the row."""

    name: NonEmpty = Field(description="Column with one group per token, 0 = least important")
    num_groups: NumGroups = Field(description="Number of groups")


class SegmentGroups(StrictModel):
    """Groups that the segments of the responses give (`{text: ..., group: 1}`)."""

    num_groups: NumGroups = Field(2, description="Number of groups")


class GroupingSection(StrictModel):
    """How tokens come into groups: by score within each sample, over all tokens, or as the rows say; one key decides."""

    important_fraction: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Share of each sample's tokens that is important (two groups); default 0.3"
    )
    boundaries: list[OpenFraction] | None = Field(
        None, description="Cumulative fractions from the top, strictly increasing: more than two groups"
    )
    quantiles: list[OpenFraction] | None = Field(
        None, description="As boundaries, but cut over all training tokens together instead of per sample"
    )
    thresholds: list[Finite] | None = Field(
        None, description="Scores, strictly increasing; a token's group is the number of them that it reaches"
    )
    column: ColumnGroups | None = Field(None, description="Groups from a column: {name: ..., num_groups: ...}")
    roles: list[list[Role]] | None = Field(
        None, description="Groups by role of the message, least important first: [[system, user], [assistant]]"
    )
    segments: SegmentGroups | None = Field(
        None, description="Groups from the segments of the responses: {num_groups: ...}"
    )
    special_tokens: Literal["important", "unimportant", "scored"] = Field(
        "important", description="Group of special tokens and the end of turn, which are frequent and so score low"
    )
    invert: bool = Field(False, description="Rank by the negated score (a control)")

    def cuts(self) -> list[float] | None:
        """The cumulative fractions from the top, one fewer than there are groups; None where no fraction decides."""
        if self.boundaries is not None or self.quantiles is not None:
            return list(self.boundaries if self.boundaries is not None else self.quantiles or ())
        if any(key is not None for key in (self.thresholds, self.column, self.roles, self.segments)):
            return None
        return [0.3 if self.important_fraction is None else self.important_fraction]

    def num_groups(self) -> int:
        """Number of groups G."""
        given = self.column or self.segments
        if given is not None:
            return given.num_groups
        if self.roles is not None:
            return len(self.roles)
        cuts = self.thresholds if self.thresholds is not None else self.cuts()
        return len(cuts or ()) + 1
