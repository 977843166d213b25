"""A row's text cut into pieces that belong to the same tokens: the plain data behind the terminal and the HTML view.

The pieces' texts joined are the row's text, character for character. A character that several tokens share (byte-level
tokens of one emoji) is one piece, in the highest of their groups. Text between token spans is a piece without tokens. A
token without characters (a BOS that was put in front) is a piece with an empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sftgo_cli.columns import (
    GROUP_IDS,
    IGNORE_INDEX,
    INPUT_IDS,
    LABELS,
    LOSS_WEIGHT,
    NO_GROUP,
    OFFSETS,
    PINNED,
    ROW_ID,
    SOURCE,
    TEXT,
    TOKEN_SCORES,
    TOKEN_WEIGHTS,
)
from sftgo_cli.errors import UserError

NUM_LEVELS = 5  # steps of the score scale
NEEDED = (TEXT, INPUT_IDS, LABELS, OFFSETS, TOKEN_SCORES, GROUP_IDS)
TOKEN_COLUMNS = (INPUT_IDS, LABELS, OFFSETS, PINNED, TOKEN_SCORES, GROUP_IDS, TOKEN_WEIGHTS)  # what a TokenTable reads
ROW_COLUMNS = (ROW_ID, SOURCE, TEXT, LOSS_WEIGHT)


@dataclass(frozen=True)
class RowTokens:
    """One row of L tokens, ready to be drawn."""

    row_id: str
    source: str
    text: str
    input_ids: npt.NDArray[np.int64]  # [L]
    spans: npt.NDArray[np.int64]  # [L, 2] characters of `text`
    supervised: npt.NDArray[np.bool_]  # [L]
    pinned: npt.NDArray[np.bool_]  # [L]
    group_ids: npt.NDArray[np.int64]  # [L], -1 where not supervised
    scores: npt.NDArray[np.float64]  # [L], NaN where not supervised
    levels: npt.NDArray[np.int64]  # [L], 0 (lowest score of this row) .. NUM_LEVELS - 1; -1 without a score
    token_weights: npt.NDArray[np.float64] | None  # [L]
    loss_weight: float

    @property
    def num_tokens(self) -> int:
        """L."""
        return len(self.input_ids)

    @property
    def num_supervised(self) -> int:
        """Number of supervised tokens."""
        return int(np.count_nonzero(self.supervised))


@dataclass(frozen=True)
class Segment:
    """A piece of the row's text and the tokens that cover it; values are the highest among these tokens."""

    text: str
    tokens: tuple[int, ...]  # positions in the row
    group: int  # -1: not supervised
    score: float | None
    level: int  # -1: no score
    supervised: bool
    pinned: bool


def row_tokens(row: Mapping[str, Any]) -> RowTokens:
    """A row of a `TokenTable` or of a `datasets.Dataset` (lists or arrays) with scores and groups.

    Raises:
        UserError: a needed column is not there.
    """
    missing = [name for name in NEEDED if row.get(name) is None]
    if missing:
        raise UserError(
            f"the row has no {', '.join(missing)}",
            f"row {row.get(ROW_ID, '?')}",
            "run `sftgo score` on the recipe first",
        )
    supervised = np.asarray(row[LABELS]) != IGNORE_INDEX
    scores = np.asarray(row[TOKEN_SCORES], dtype=np.float64)
    length = len(supervised)
    weights, pinned = row.get(TOKEN_WEIGHTS), row.get(PINNED)
    loss_weight = row.get(LOSS_WEIGHT)
    return RowTokens(
        row_id=str(row.get(ROW_ID, "")),
        source=str(row.get(SOURCE, "")),
        text=row[TEXT],
        input_ids=np.asarray(row[INPUT_IDS], dtype=np.int64),
        spans=np.clip(np.asarray(row[OFFSETS], dtype=np.int64).reshape(length, 2), 0, len(row[TEXT])),
        supervised=supervised,
        pinned=np.zeros(length, dtype=np.bool_) if pinned is None else np.asarray(pinned, dtype=np.bool_),
        group_ids=np.where(supervised, np.asarray(row[GROUP_IDS], dtype=np.int64), NO_GROUP),
        scores=scores,
        levels=score_levels(scores, supervised),
        token_weights=None if weights is None else np.asarray(weights, dtype=np.float64),
        loss_weight=1.0 if loss_weight is None else float(loss_weight),
    )


def between(row: RowTokens, start: int, stop: int) -> RowTokens:
    """The tokens from `start` up to `stop` with the text that belongs to them, as a row of its own."""
    begins = np.append(np.maximum.accumulate(row.spans[:, 0]), len(row.text))  # an empty span may lie at 0
    first, last = int(begins[start]) if start else 0, int(begins[stop])
    part = slice(start, stop)
    return replace(
        row,
        text=row.text[first:last],
        input_ids=row.input_ids[part],
        spans=np.clip(row.spans[part] - first, 0, last - first),
        supervised=row.supervised[part],
        pinned=row.pinned[part],
        group_ids=row.group_ids[part],
        scores=row.scores[part],
        levels=row.levels[part],
        token_weights=None if row.token_weights is None else row.token_weights[part],
    )


def split_prompt(row: RowTokens) -> tuple[RowTokens, RowTokens]:
    """What stands before the first supervised token, which no scorer touches, and the rest."""
    first = int(np.argmax(row.supervised)) if row.supervised.any() else 0
    return between(row, 0, first), between(row, first, row.num_tokens)


def shortened(row: RowTokens, max_characters: int) -> RowTokens:
    """The row's first tokens, with about `max_characters` of text."""
    begins = np.maximum.accumulate(row.spans[:, 0])
    return between(row, 0, max(1, int(np.count_nonzero(begins < max_characters))))


def score_levels(scores: npt.NDArray[np.float64], supervised: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """int64[L] in -1..NUM_LEVELS-1: which fifth of this row's supervised scores a score is in (the middle of its ties).

    Ranks rather than values, because grouping ranks within a row too, and one huge score would make the rest one color.
    """
    levels = np.full(len(scores), -1, dtype=np.int64)
    scored = supervised & np.isfinite(scores)
    ordered = np.sort(scores[scored])
    if not len(ordered):
        return levels
    below = np.searchsorted(ordered, scores[scored], side="left")
    upto = np.searchsorted(ordered, scores[scored], side="right")
    levels[scored] = np.minimum((below + upto) * NUM_LEVELS // (2 * len(ordered)), NUM_LEVELS - 1)
    return levels


def row_segments(row: RowTokens) -> list[Segment]:
    """The row's pieces in the order of its text. Overlapping spans are cut where one of them starts or ends."""
    starts, ends = row.spans[:, 0].tolist(), row.spans[:, 1].tolist()
    borders = sorted({0, len(row.text), *starts, *ends})
    place = {position: number for number, position in enumerate(borders)}
    covering: list[list[int]] = [[] for _ in borders]  # tokens of the text from this border to the next
    without_text: list[list[int]] = [[] for _ in borders]
    for token, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start >= end:
            without_text[place[start]].append(token)
        for number in range(place[start], place[end]):
            covering[number].append(token)
    segments = []
    for number, (start, end) in enumerate(zip(borders, [*borders[1:], len(row.text)], strict=True)):
        segments += [_segment(row, "", [token]) for token in without_text[number]]
        if start < end:
            segments.append(_segment(row, row.text[start:end], covering[number]))
    return segments


def _segment(row: RowTokens, text: str, tokens: list[int]) -> Segment:
    scores = [float(row.scores[token]) for token in tokens if row.levels[token] >= 0]
    return Segment(
        text=text,
        tokens=tuple(tokens),
        group=max((int(row.group_ids[token]) for token in tokens), default=NO_GROUP),
        score=max(scores, default=None),
        level=max((int(row.levels[token]) for token in tokens), default=-1),
        supervised=any(bool(row.supervised[token]) for token in tokens),
        pinned=any(bool(row.pinned[token]) for token in tokens),
    )


def leading_blank(text: str) -> tuple[str, str]:
    """The spaces in front of a word, drawn plainly so that highlighted words stay apart, and the word; blanks alone are
    a word."""
    word = text.lstrip(" ")
    return (text[: len(text) - len(word)], word) if word else ("", text)


def num_groups_of(rows: list[RowTokens]) -> int:
    """One more than the highest group in the rows, at least 2."""
    return max([2, *(int(row.group_ids.max(initial=0)) + 1 for row in rows)])
