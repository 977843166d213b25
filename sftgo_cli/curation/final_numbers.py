"""The final number of an answer: what GSM8K-style solutions end in.

The rule. Markers are looked for first; the last one in the text decides:

    #### 18                    the number directly behind it (a heading, `#### Step 1`, is no marker)
    \\boxed{18}, \\fbox{18}      the only number inside
    A: 18, Answer: 18          with nothing else to compute on that line, or as the text's last line
    The answer is 18           the first number of the sentence, or what stands behind its last `=`: `is 16 - 12 = 4`

A marker at the end of its line speaks of the next line that is not empty. A marker without a number is passed over,
unless it is a box or stands in the last line: `A: cannot be known` has no final number, whatever came before. A marker
with two numbers (`3 or 4`, `\\boxed{3, 4}`), with an expression that was not worked out (`16 - 12`) or with more than
rational arithmetic (`2\\pi`, `\\sqrt{3}`) has none either. At most the last 20 markers are read.

Without a marker: of the last line that holds a number, what stands behind its last `=` where there is one and no later
clause follows (`= 50 miles in 5 days` is 50; `= 18, so 9 each` is 9), else its last number; ordinals (`the 3rd`) do not
count, and a line of nothing but arithmetic (`( 8 - 7 )`) holds none. GSM8K's annotations `<<48/2=24>>` are taken out
before reading.

How numbers are written: written_numbers.py. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sftgo_cli.curation.written_numbers import WrittenNumber, first_number, numbers, plain

MAX_MARKERS = 20
MAX_BOX = 400  # characters
SHOWN = 60

_ANNOTATION = re.compile(r"<<([^<>]*)>>(?=(\s?[-+$€£]?\s?\.?[0-9])?)")
_MARKER = re.compile(
    r"(?P<hash>(?<!#)####(?!#))"
    r"|(?P<box>\\(?:boxed|fbox) ?\{)"
    r"|(?P<colon>^[ \t*#>_]{0,8}A[*_]{0,2} ?:|\b(?:final |correct )?answer[*_]{0,2} ?[:=])"
    r"|(?P<phrase>\banswers?\b[^\n.:=?!]{0,60}?\b(?:is|are|was|equals|(?:would|will|should|must) be)\b(?! not\b))",
    re.IGNORECASE | re.MULTILINE,
)
_DRESSING = " \t*_`$:=~≈(){}[]\\\"'" + "<>"
_SENTENCE_END = re.compile(r"[.!?](?=[\s*_\"')\]$]|$)|\n")
_MORE_THAN_RATIONAL = re.compile(r"\\(?:pi|sqrt|[dt]?frac|infty|sin|cos|tan|log|ln)(?![a-z])|[π√∞]")
_HEADING = re.compile(r"[.)]\s+\S")
_OPERATOR = re.compile(r"[\s)]*(?:\*\*?|[×÷/^+x-]|\\)\s*[($€£{-]*\.?[0-9]")
_BARE_EXPRESSION = re.compile(r"[0-9.,+*/×÷()$ \t\r-]*")  # a line of nothing but arithmetic
_SECOND = re.compile(r"(?: {1,3}[A-Za-z]{1,20})?(?: ?[,;] ?| ?,? (?:or|and|to) )[($€£-]{0,3}\.?[0-9]")
_CLAUSE = re.compile(r"[,;.!?](?=\s)|\b(?:so|then|thus|hence|therefore|which|leaving|but)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """The final number, or why there is none."""

    value: Fraction | None
    text: str  # as written; without a value: the reason, for people
    unscaled: Fraction | None = None  # 4 of `4 million`, whose value is 4,000,000


def read_final_number(text: str) -> Reading:
    """The final number of an answer by the rule of this file."""
    text = plain(_ANNOTATION.sub(_unannotated, text))
    last_line = len(text.rstrip())
    last_line = text.rfind("\n", 0, last_line) + 1
    for mark in reversed(deque(_MARKER.finditer(text), maxlen=MAX_MARKERS)):
        reading = _behind(text, mark, last_line)
        if reading is not None:
            return reading
    return _without_marker(text)


def read_cell(value: Any) -> Reading:
    """The number in a cell of the data: a number as it is, a text by `read_final_number`; anything else holds none."""
    if isinstance(value, bool) or value is None:
        return Reading(None, f"{value} is not a number")
    if isinstance(value, int):
        return Reading(Fraction(value), str(value))
    if isinstance(value, float):
        finite = value == value and abs(value) != float("inf")
        return Reading(Fraction(repr(value)), f"{value:g}") if finite else Reading(None, f"{value} is not a number")
    if isinstance(value, str):
        return read_final_number(value)
    return Reading(None, f"{type(value).__name__} is not a number")


def _unannotated(match: re.Match[str]) -> str:
    """Nothing where the result is written again behind the annotation, else the result."""
    return "" if match[2] else match[1].rpartition("=")[2]


def _behind(text: str, mark: re.Match[str], last_line: int) -> Reading | None:
    """What a marker says; None where it says nothing and an earlier one may."""
    kind = str(mark.lastgroup)
    if kind == "box":
        return _boxed(text, mark.end())
    start, stop = _segment(text, mark.end(), next_line=kind != "hash")
    is_last = start >= last_line
    found = first_number(text, start, stop)
    if found is None:
        if _MORE_THAN_RATIONAL.search(text, start, stop) or mark.start() >= last_line or is_last:
            return Reading(None, f"no number behind the last marker: {_shown(text[mark.start() : stop])}")
        return None
    direct = not text[start : found.start].strip(_DRESSING)
    if kind == "hash" and not direct:
        return Reading(None, f"no number behind the last ####: {_shown(text[start:stop])}") if is_last else None
    if kind == "hash" and not is_last and _HEADING.match(text, found.end, stop):
        return None  # a numbered heading
    if kind == "colon" and not is_last and not (direct and first_number(text, found.end, stop) is None):
        return None  # the answer begins here; where it ends is said by something later
    return _of_sentence(text, start, found, stop)


def _segment(text: str, start: int, next_line: bool) -> tuple[int, int]:
    """The rest of the marker's line, or the next line that is not empty where nothing is left of it."""
    stop = _line_end(text, start)
    while next_line and not text[start:stop].strip(_DRESSING + "\r") and stop < len(text):
        start, stop = stop + 1, _line_end(text, stop + 1)
    return start, stop


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _of_sentence(text: str, start: int, found: WrittenNumber, stop: int) -> Reading:
    """The first number of a marker's sentence, or what its last equation comes to."""
    end = _SENTENCE_END.search(text, found.end, stop)
    stop = end.start() if end else stop
    if _MORE_THAN_RATIONAL.search(text, start, stop):
        return Reading(None, f"more than a rational number: {_shown(text[start:stop])}")
    behind = _after_equals(text, found.end, stop)
    return _single(text, behind or found, stop)


def _after_equals(text: str, start: int, stop: int) -> WrittenNumber | None:
    last = max(text.rfind("=", start, stop), text.rfind("≈", start, stop))
    return first_number(text, last + 1, stop) if last >= 0 else None


def _single(text: str, found: WrittenNumber, stop: int) -> Reading:
    """The reading of a number, if it stands alone."""
    if _OPERATOR.match(text, found.end, stop):
        return Reading(None, f"an expression, not a number: {_shown(text[found.start : stop])}")
    if _SECOND.match(text, found.end, stop):
        return Reading(None, f"more than one number: {_shown(text[found.start : stop])}")
    if found.value is None:
        return Reading(None, f"not a single number: {_shown(text[found.start : stop])}")
    return Reading(found.value, found.text, found.unscaled)


def _boxed(text: str, start: int) -> Reading:
    depth, stop = 1, start
    while depth and stop < min(len(text), start + MAX_BOX):
        depth += {"{": 1, "}": -1}.get(text[stop], 0)
        stop += 1
    if depth:
        return Reading(None, "the last box is not closed")
    stop -= 1
    inside = text[start:stop]
    if _MORE_THAN_RATIONAL.search(inside):
        return Reading(None, f"more than a rational number: {_shown(inside)}")
    found = numbers(text, start, stop)
    behind = _after_equals(text, start, stop)
    if behind is not None:
        found = [number for number in found if number.start >= behind.start]
    if len(found) != 1:
        count = "no" if not found else "more than one"
        return Reading(None, f"{count} number in the box: {_shown(inside)}")
    return _single(text, found[0], stop)


def _without_marker(text: str) -> Reading:
    stop = len(text)
    while stop > 0:
        start = text.rfind("\n", 0, stop) + 1
        found = [number for number in numbers(text, start, stop) if not number.ordinal]
        if found:
            break
        stop = start - 1
    else:
        return Reading(None, "no number")
    last = max(text.rfind("=", start, stop), text.rfind("≈", start, stop))
    if len(found) > 1 and last < 0 and _BARE_EXPRESSION.fullmatch(text, start, stop):
        return Reading(None, f"an expression, not a number: {_shown(text[start:stop])}")
    chosen = found[-1]
    behind = [number for number in found if number.start > last] if last >= 0 else []
    if behind and not _CLAUSE.search(text, behind[0].end, behind[-1].start):
        chosen = behind[0]
    if chosen.value is None:
        return Reading(None, f"not a single number: {_shown(chosen.text)}")
    return Reading(chosen.value, chosen.text, chosen.unscaled)


def _shown(text: str) -> str:
    text = " ".join(text[: 4 * SHOWN].split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
