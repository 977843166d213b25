"""Why a token is in its group: its score and the score's parts, its rank, the thresholds, and what decides instead.

Everything is read from the finished columns by the grouping's own rule (grouping.py), so what is printed is what was
done, not a second opinion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sftgo_cli.errors import UserError
from sftgo_cli.grouping import num_above, ranked_tokens
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.report.group_names import group_labels, grouping_text
from sftgo_cli.report.number_text import count_text, value_text
from sftgo_cli.report.segments import RowTokens
from sftgo_cli.report.visible_text import readable_token, visible

DECIMALS = 4
SCALE = "the row's"


@dataclass(frozen=True)
class Asked:
    """`--why ROW:TOKEN`."""

    row_id: str
    token: int


def asked_token(text: str) -> Asked:
    """A row's id (which may hold colons) and a token's place in the row, counted from 0. Raises UserError."""
    row_id, separator, token = text.rpartition(":")
    if not separator or not row_id or not token.isdecimal():
        raise UserError(
            f"{text!r} is no row and token", "--why", "write the row's id and the token's number, such as --why r1:17"
        )
    return Asked(row_id, int(token))


def why(
    row: RowTokens,
    token: int,
    grouping: GroupingSection,
    scorer: str,
    parts: Sequence[tuple[str, str]],
    thresholds: Sequence[float] | None,
    tokenizer: Any,
) -> list[tuple[str, str]]:
    """Name and text of each line about a token.

    Args:
        parts: what the score is made of, as the scorer says it.
        thresholds: the scores at which groups begin, where they are the same for all rows, highest first; None where
            every row has its own.

    Raises:
        UserError: the row has no such token.
    """
    if token >= row.num_tokens:
        raise UserError(
            f"row {row.row_id} has no token {token}", "--why", f"its tokens are 0 to {count_text(row.num_tokens - 1)}"
        )
    first, last = row.spans[token].tolist()
    name = readable_token(tokenizer, int(row.input_ids[token]))
    lines = [
        ("token", f"{token} of row {visible(row.row_id)}: {name} (id {int(row.input_ids[token])})"),
        ("text", f"characters {first} to {last}: {visible(row.text[first:last])!r}" if last > first else "none"),
    ]
    if not row.supervised[token]:
        return [*lines, ("supervised", "no: it has no score and no group")]
    labels, group = group_labels(grouping), int(row.group_ids[token])
    ending = ("group", f"{group} of 0 to {len(labels) - 1}: {' '.join(labels[group].split())}")
    scored = [("score", f"{value_text(float(row.scores[token]), DECIMALS)} by {scorer}")]
    scored += [(f"  {part}", text) for part, text in parts]
    if grouping.column is not None or grouping.roles is not None or grouping.segments is not None:
        return [
            *lines,
            *scored,
            ("decided by", f"the row itself ({grouping_text(grouping)}), not by its score"),
            ending,
        ]
    ranked = ranked_tokens(row.supervised, row.pinned, grouping.special_tokens)
    if not ranked[token]:
        pinned = (
            f"special token or end of turn: grouping.special_tokens is {grouping.special_tokens}, so it is not ranked"
        )
        return [*lines, *scored, ("decided by", pinned), ending]
    signed = -row.scores if grouping.invert else row.scores
    return [
        *lines,
        *scored,
        _rank_line(signed, ranked, token, grouping.invert),
        *_cuts(signed, ranked, grouping, thresholds),
        ending,
    ]


def _rank_line(
    signed: npt.NDArray[np.float64], ranked: npt.NDArray[np.bool_], token: int, inverted: bool
) -> tuple[str, str]:
    scores = signed[ranked]
    rank, equal = 1 + int((scores > signed[token]).sum()), int((scores == signed[token]).sum()) - 1
    text = f"{rank} of {len(scores)} ranked tokens of the row"
    text += f", {equal} more with the same score" if equal else ""
    return "rank", text + (" (inverted: the lowest score is first)" if inverted else "")


def _cuts(
    signed: npt.NDArray[np.float64],
    ranked: npt.NDArray[np.bool_],
    grouping: GroupingSection,
    thresholds: Sequence[float] | None,
) -> list[tuple[str, str]]:
    """A line per boundary between groups, the highest first: its score, and where it comes from."""
    sign = -1.0 if grouping.invert else 1.0
    if thresholds is not None:
        source = "of all training rows" if grouping.quantiles is not None else "of the recipe"
        return [("threshold", f"{value_text(sign * threshold, DECIMALS)} {source}") for threshold in thresholds]
    scores, lines = np.sort(signed[ranked])[::-1], []
    for cut in grouping.cuts() or ():
        place = int(num_above(cut, np.array([len(scores)]))[0])
        threshold = value_text(sign * float(scores[place - 1]), DECIMALS)
        share = f"{cut:.4g} of {len(scores)}"
        share += "" if math.isclose(cut * len(scores), place) else ", rounded up"
        lines.append(("threshold", f"{threshold}: score number {place} of the row ({share})"))
    return lines
