"""Segments: stretches of a response with a group and a mask of their own, and which token belongs to which.

A response may be a list of `{text, group, train}` instead of one text; its text is their concatenation. `group` (0
where absent) is read where `grouping.segments` decides the groups; `train: false` takes the segment's tokens out of the
loss. A turn belongs to its segments as a whole: what stands in it before the response's text (reasoning, say) to the
first, what stands after it (tool calls, the end of the turn) to the last. What stands outside of such turns has group 0
and is trained as ever.

The rule for tokens: a token belongs to the part that holds its first character which is not white space (of a token
that is nothing but white space: its first character); where that lies before or after the turn, to the first or the last
part. So of several byte-level tokens that share a character all belong to one part. A token without characters belongs
to the part that covers the position just before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

from sftgo_cli.data.cells import read_text
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.grouping_section import GroupingSection

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TEXT, GROUP, TRAIN = "text", "group", "train"
GIVE = "give [{text: ..., group: 1, train: false}, ...]"


@dataclass(frozen=True)
class Segment:
    """A stretch of a response."""

    text: str
    group: int = 0
    train: bool = True


@dataclass(frozen=True)
class GivenGroups:
    """Groups that come from the rows: by `roles` of the messages, least important first, or (None) by segments."""

    roles: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True)
class Stretch:
    """The characters [start, end) of a row's text, cut into len(cuts) + 1 parts; `cuts` ascend within it."""

    start: int
    end: int
    cuts: tuple[int, ...]


def given_groups(grouping: GroupingSection) -> GivenGroups | None:
    """What tokenization must find out about groups; None where scores or a column decide."""
    if grouping.roles is not None:
        return GivenGroups(tuple(tuple(group) for group in grouping.roles))
    return GivenGroups() if grouping.segments is not None else None


def is_segment_list(value: Any) -> bool:
    """Whether a cell is a list of segments rather than of messages."""
    return isinstance(value, list) and bool(value) and all(_is_part(part) for part in value)


def _is_part(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get(TEXT) is not None and not part.get("role"))


def has_marks(value: Any) -> bool:
    """Whether any part of a list of content parts says which group it has or whether it is trained."""
    if not isinstance(value, list):
        return False
    return any(isinstance(part, dict) and (part.get(GROUP), part.get(TRAIN)) != (None, None) for part in value)


def read_response(values: Mapping[str, Any], name: str, where: str) -> tuple[str, tuple[Segment, ...]]:
    """A column that holds text or a list of segments: its text, and the segments (none where it is one text).

    Raises:
        UserError: it is null or something else, or a segment is faulty.
    """
    if not isinstance(values[name], list):
        return read_text(values, name, where), ()
    refuse_several_answers(values[name], f"{where}, column {name}")
    segments = read_segments(values[name], f"{where}, column {name}")
    return "".join(segment.text for segment in segments), segments


def refuse_several_answers(value: Sequence[Any], place: str) -> None:
    """Raises UserError for a list of plain texts: joining several answers would train on all of them as one."""
    if len(value) > 1 and all(isinstance(part, str) for part in value):
        raise UserError(
            f"a list of {len(value)} texts, which may be several answers",
            place,
            "choose one of them, or write the parts of one text as [{text: ...}, ...]",
        )


def read_segments(value: Sequence[Any], place: str) -> tuple[Segment, ...]:
    """The segments of a list; a text stands for a segment of group 0 that is trained.

    Raises:
        UserError: a segment is no text, has a misspelled key, no integer as `group`, or no truth value as `train`.
    """
    return tuple(_segment(part, f"{place}[{index}]") for index, part in enumerate(value))


def _segment(part: Any, place: str) -> Segment:
    if isinstance(part, str):
        return Segment(part)
    if not isinstance(part, dict) or not isinstance(part.get(TEXT), str):
        raise UserError("a segment has no text", place, GIVE)
    for key in part:
        close = None if key in (TEXT, GROUP, TRAIN) else nearest(str(key), (GROUP, TRAIN))
        if close:
            raise UserError(f"unknown key {key!r} in a segment", place, f"did you mean {close}?")
    group, train = part.get(GROUP), part.get(TRAIN)
    if isinstance(group, float) and group.is_integer():
        group = int(group)  # how a table writes integers of which some are missing
    if group is not None and (isinstance(group, bool) or not isinstance(group, int) or not 0 <= group < 128):
        raise UserError(f"the group of a segment is {group!r}", f"{place}.{GROUP}", "give a number from 0 upwards")
    if train is not None and not isinstance(train, bool):
        raise UserError(f"train of a segment is {train!r}", f"{place}.{TRAIN}", "give true or false")
    return Segment(str(part[TEXT]), group or 0, train is not False)


def joined(segments: Sequence[Segment], with_groups: bool) -> list[Segment]:
    """The segments without borders that mean nothing: neighbors of equal mask (and group, where groups count)."""
    parts = groupby(segments, key=lambda segment: (segment.group if with_groups else 0, segment.train))
    return [Segment("".join(part.text for part in run), group, train) for (group, train), run in parts]


def cuts_within(segments: Sequence[Segment]) -> list[int]:
    """Where the segments but the first begin, counted from the beginning of the response."""
    return list(accumulate(len(segment.text) for segment in segments[:-1]))


def first_characters(text: str, offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """int64[L]: the character that decides to which part a token belongs; see the rule above.

    Args:
        offsets: int32[L, 2], the tokens' characters in `text`.
    """
    import numpy as np

    visible = np.flatnonzero(np.fromiter((not letter.isspace() for letter in text), np.bool_, len(text)))
    starts, ends = offsets[:, 0].astype(np.int64), offsets[:, 1].astype(np.int64)
    next_visible = np.append(visible, len(text))[np.searchsorted(visible, starts)]
    inside = np.where(next_visible < ends, next_visible, starts)
    return np.asarray(np.where(starts < ends, inside, np.maximum(ends - 1, 0)))


def parts_of(stretch: Stretch, characters: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64[L]: the number of the stretch's part that holds each character; those outside go to the nearest part."""
    import numpy as np

    return np.searchsorted(np.array(stretch.cuts, dtype=np.int64), characters, side="right")
