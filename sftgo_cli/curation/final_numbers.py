"""The final number of an answer: what GSM8K-style solutions end in.

The rule. Markers are looked for first; the last one in the text decides:

    #### 18                    the number directly behind it (a heading, `#### Step 1`, is no marker)
    \\boxed{18}, \\fbox{18}      the only number inside
    A: 18, Answer: 18, <answer>18</answer>, a heading `Answer`, "answer": 18
                               with nothing else to compute on that line, or as the text's last line
    The answer is 18           the first number of the sentence, or what stands behind its last `=`: `is 16 - 12 = 4`;
                               Die Antwort ist, la respuesta es, 答案是, उत्तर ... alike
    18 is the answer           the number before it

A marker at the end of its line speaks of the next line that is not empty. A marker without a number is passed over,
unless it is a box or stands in the last line: `A: cannot be known` has no final number, whatever came before. A marker
with two numbers (`3 or 4`, `\\boxed{3, 4}`), with a range or a bound (`10 to 12`, `more than 18`), with an expression that
was not worked out (`16 - 12`) or with more than rational arithmetic (`2\\pi`, `\\sqrt{3}`) has none either. At most the last
20 markers are read.

Without a marker: the last line that holds a number, by unmarked_numbers.py; ordinals (`the 3rd`) do not count there. A
number in words is read where it begins the answer or follows a marker.

A number that is denied (`isn't 20`, `20 is wrong`) or asked about and answered with no (`20? No, 18`) is no answer; behind a
correction (`20. No wait, it's 18`) only what follows counts (statements.py). What is ambiguous has no final number.

GSM8K's annotations `<<48/2=24>>` and tags are taken out before reading. Of longer answers the last MAX_TEXT characters, of
longer lines the last MAX_LINE are read. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

from sftgo_cli.curation.number_locales import plain
from sftgo_cli.curation.number_words import NUMBER_WORDS, read_number_words
from sftgo_cli.curation.statements import ANSWER_WORDS, COPULAS, first_correction, is_denied, is_questioned, says_wrong
from sftgo_cli.curation.unmarked_numbers import (
    after_equals,
    after_verb,
    before_reason,
    chosen_number,
    is_expression,
    is_operand,
    more_than_one,
)
from sftgo_cli.curation.written_numbers import WrittenNumber, first_number, numbers

MAX_MARKERS = 20
MAX_BOX = 400  # characters
MAX_CORRECTIONS = 20
MAX_TEXT = 100_000  # characters of an answer that are read, from its end
MAX_LINE = 2000  # characters of a line that are read, from its end
SHOWN = 60

_ANNOTATION = re.compile(r"<<([^<>]*)>>(?=(\s?[-+$€£]?\s?\.?[0-9])?)")
_TAG = re.compile(r"<(?!/?answer\b)/?[A-Za-z][^<>\n]{0,60}>")
_MARKER = re.compile(
    r"(?P<hash>(?<!#)####(?!#))"
    r"|(?P<box>\\(?:boxed|fbox) ?\{)"
    r"|(?P<tag><answer>)"
    r"|(?P<colon>^[ \t*#>_]{0,8}A[*_]{0,2} ?:|\bans(?:wer)?[*_\"')]{0,3} ?(?:[:=→]|\.(?= ?[-$0-9]))"
    r"|^[ \t*#>_]{0,8}(?:the |my )?(?:final |correct )?answer[*_ \t]*$)"
    r"|(?P<phrase>\banswers?\b[^\n.:=?!]{0,60}?\b(?:is|are|was|equals|(?:would|will|should|must|can|could|might|may)"
    r"(?: not|n't)? be|cannot be|can't be|isn't|aren't|wasn't)(?!\w)"
    rf"|{ANSWER_WORDS}(?:[^\n.:=?!0-9]{{0,40}}?{COPULAS}|\s*[:=]|\s+(?=[-$€£]?[0-9])))"
    r"|(?P<suffix>\bis (?:therefore |thus |indeed |then )?(?:the|my|our) (?:final |correct |right )*answer\b)",
    re.IGNORECASE | re.MULTILINE,
)
_DRESSING = " \t*_`$:=~≈(){}[]\\\"'" + "<>"
_SENTENCE_END = re.compile(
    r"(?<!\bapprox)(?<!\bca)(?<!\bi\.e)(?<!\be\.g)(?<!\bNo)(?<!\.)(?:[.?]|!(?! ?[=*/+×]))(?=[\s*_\"')\]$]|$)|\n"
)
_MORE_THAN_RATIONAL = re.compile(r"\\(?:pi|sqrt|[dt]?frac|infty|sin|cos|tan|log|ln)(?![a-z])|[π√∞]")
_HEADING = re.compile(r"[.)]\s+\S")
_EACH = re.compile(
    r"(?: [^\W\d]+){0,2} (?:in|for|to|per|on|at|a) (?:each|every|box|person)\b|(?: [^\W\d]+)? (?:each|"
    r"apiece|per)\b"
)
_IRRATIONAL = re.compile(r" ?(?:π|√|∞|\\pi|\\sqrt|pi\b)")
_SECOND = re.compile(
    r"(?: {1,3}[^\W\d]{1,20})?(?: ?[,;] ?| ?,? \(?(?:or|and|to|oder|und|ou|et|o|y|или|и) (?:maybe |perhaps |possibly )?"
    r"| ?,? (?:maybe|perhaps|possibly) )(?=[($€£-]{0,3}\.?[0-9])"
)


@dataclass(frozen=True)
class Reading:
    """The final number, or why there is none."""

    value: Fraction | None
    text: str  # as written; without a value: the reason, for people
    others: tuple[Fraction, ...] = ()  # further readings: 4 of `4 million`, whose value is 4,000,000
    end: int = 0  # where it stands in the plain text


def read_final_number(text: str) -> Reading:
    """The final number of an answer by the rule of this file."""
    text = plain(_TAG.sub(" ", _ANNOTATION.sub(_unannotated, text[-MAX_TEXT:])).replace("<answer>", "<answer>:"))
    last_line = len(text.rstrip())
    last_line = text.rfind("\n", 0, last_line) + 1
    for mark in islice(_markers(text), MAX_MARKERS):
        reading = _behind(text, mark, last_line)
        if reading is not None:
            return _corrected(text, reading)
    return _corrected(text, _without_marker(text, 0, len(text)))


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


def _markers(text: str) -> Iterator[re.Match[str]]:
    """The markers of a text, the last one first."""
    stop = len(text)
    while stop >= 0:
        start = text.rfind("\n", 0, stop) + 1
        if stop - start > 3:
            yield from reversed(list(_MARKER.finditer(text, start, stop)))
        elif stop > start and text.startswith(("A:", "a:"), start):
            yield from _MARKER.finditer(text, start, stop)
        stop = start - 1


def _unannotated(match: re.Match[str]) -> str:
    """Nothing where the result is written again behind the annotation, else the result."""
    return "" if match[2] else match[1].rpartition("=")[2]


def _corrected(text: str, reading: Reading) -> Reading:
    """The reading, or what a correction behind it says: `20. No wait, it's 18`; none where it is only taken back."""
    for _ in range(MAX_CORRECTIONS):
        cue = first_correction(text, reading.end)
        if cue is None:
            return reading
        again = _without_marker(text, cue, len(text))
        if again.value is None and not says_wrong(text[cue : cue + 200]) and not again.end:
            return reading
        if again.end <= reading.end:
            return Reading(None, f"taken back: {_shown(text[cue:])}")
        reading = again
    return Reading(None, "corrected too often")


def _behind(text: str, mark: re.Match[str], last_line: int) -> Reading | None:
    """What a marker says; None where it says nothing and an earlier one may."""
    kind = str(mark.lastgroup)
    if kind == "box":
        return _boxed(text, mark.end())
    if kind == "suffix":
        start = max(text.rfind(end, 0, mark.start()) for end in ("\n", ". ", "! ", "? ")) + 1
        return _without_marker(text, start, mark.start())
    start, stop = _segment(text, mark.end(), next_line=kind != "hash")
    is_last = start >= last_line
    found = first_number(text, start, stop)
    if found is None:
        words = _in_words(text, start, stop)
        if words is not None:
            return words
        if _MORE_THAN_RATIONAL.search(text, start, stop) or mark.start() >= last_line or is_last:
            return Reading(None, f"no number behind the last marker: {_shown(text[mark.start() : stop])}", end=stop)
        return None
    direct = not text[start : found.start].strip(_DRESSING)
    if kind == "hash" and not direct:
        no_number = Reading(None, f"no number behind the last ####: {_shown(text[start:stop])}", end=stop)
        return no_number if is_last else None
    if kind == "hash" and not is_last and _HEADING.match(text, found.end, stop):
        return None  # a numbered heading
    if kind in ("colon", "tag") and not direct:
        return _without_marker(text, start, stop) if is_last or kind == "tag" else None
    if kind == "colon" and not is_last and first_number(text, found.end, stop) is not None:
        return None  # the answer begins here; where it ends is said by something later
    return _of_sentence(text, mark, start, stop, is_last)


def _segment(text: str, start: int, next_line: bool) -> tuple[int, int]:
    """The rest of the marker's line, or the next line that is not empty where nothing is left of it."""
    stop = _line_end(text, start)
    while next_line and not text[start:stop].strip(_DRESSING + "\r") and stop < len(text):
        start, stop = stop + 1, _line_end(text, stop + 1)
    return start, stop


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _of_sentence(text: str, mark: re.Match[str], start: int, stop: int, is_last: bool) -> Reading | None:
    """The first number of a marker's sentence that is not denied, or what its last equation comes to."""
    stop = min(stop, start + MAX_LINE)
    first = first_number(text, start, stop)
    end = _SENTENCE_END.search(text, start, stop)
    if first is None or (end and end.start() < first.start and text[start : end.start()].strip(_DRESSING)):
        words = _in_words(text, start, stop)
        nothing = Reading(None, f"no number in the marker's sentence: {_shown(text[start:stop])}", end=stop)
        return words or (nothing if is_last else None)
    end = _SENTENCE_END.search(text, first.end, stop)
    stop = end.start() if end else stop
    if _MORE_THAN_RATIONAL.search(text, start, stop):
        return Reading(None, f"more than a rational number: {_shown(text[start:stop])}", end=stop)
    found = [one for one in numbers(text, start, stop) if not _is_denied(text, one)]
    if not found:
        rest = _without_marker(text, stop, len(text))
        denied = Reading(None, f"denied: {_shown(text[mark.start() : stop])}", end=stop)
        return rest if rest.value is not None else denied
    said = found[0] if found[0].start == first.start else found[-1]
    behind = after_equals(text, said.end, before_reason(text, said.end, stop))
    if behind is not None and not (
        is_expression(text, behind.end, stop) and text[said.end : behind.start].strip() == "="
    ):
        said = behind
    elif behind is None and is_expression(text, said.end, stop):
        said = after_verb(text, said.end, stop) or said
    return _single(text, said, stop)


def _is_denied(text: str, found: WrittenNumber) -> bool:
    return is_denied(text, found.start, found.end) or is_questioned(text, found.end)


def _single(text: str, found: WrittenNumber, stop: int) -> Reading:
    """The reading of a number, if it stands alone."""
    if is_expression(text, found.end, stop):
        return Reading(None, f"an expression, not a number: {_shown(text[found.start : stop])}", end=stop)
    second = _SECOND.match(text, found.end, stop)
    if second:
        other = first_number(text, second.end(), stop)
        aside = other is not None and _EACH.match(text, other.end, stop) is not None  # 12 balls, 4 in each box
        if not aside and (other is None or other.value is None or other.value != found.value):
            return Reading(None, f"more than one number: {_shown(text[found.start : stop])}", end=stop)
    if found.value is None or found.bounded:
        return Reading(None, f"not a single number: {_shown(text[found.start : stop])}", end=found.end)
    return Reading(found.value, found.text, found.others, found.end)


def _boxed(text: str, start: int) -> Reading:
    depth, stop = 1, start
    while depth and stop < min(len(text), start + MAX_BOX):
        depth += {"{": 1, "}": -1}.get(text[stop], 0)
        stop += 1
    if depth:
        return Reading(None, "the last box is not closed", end=len(text))
    stop -= 1
    inside = text[start:stop]
    if _MORE_THAN_RATIONAL.search(inside):
        return Reading(None, f"more than a rational number: {_shown(inside)}", end=stop)
    found = numbers(text, start, stop)
    behind = after_equals(text, start, stop)
    if behind is not None:
        found = [number for number in found if number.start >= behind.start]
    if not found and (words := _in_words(text, start, stop)) is not None:
        return words
    if not found or len({number.value for number in found}) != 1:
        count = "no" if not found else "more than one"
        return Reading(None, f"{count} number in the box: {_shown(inside)}", end=stop)
    if _is_denied(text[:stop], found[0]):
        return Reading(None, f"denied: {_shown(inside)}", end=stop)
    return _single(text, found[0], stop)


def _in_words(text: str, start: int, stop: int) -> Reading | None:
    """A number in words that a segment without digits begins with: `the answer is eighteen`."""
    while start < stop and text[start] in _DRESSING:
        start += 1
    match = NUMBER_WORDS.match(text, start, stop)
    value = None if match is None else read_number_words(match)
    if match is None or value is None or first_number(text, match.end(), stop) is not None:
        return None
    return Reading(Fraction(value), match[0], end=match.end())


def _without_marker(text: str, start: int, stop: int) -> Reading:
    """The number that the last line with numbers in [start, stop) comes to."""
    beginning = start
    while stop > beginning:
        start = max(text.rfind("\n", beginning, stop) + 1, beginning)
        start = _cut(text, start, stop)
        found = [number for number in numbers(text, start, stop) if not number.ordinal]
        if found:
            return _of_line(text, start, stop, found)
        stop = max(text.rfind("\n", beginning, stop), beginning)
    ordinals = numbers(text, beginning, len(text)) if len(text) - beginning < SHOWN else []
    if len(ordinals) == 1:
        return _of_line(text, beginning, len(text), ordinals)
    words = _in_words(text, beginning, len(text)) if len(text) - beginning < SHOWN else None
    return words if words is not None and words.text.lower() != "one" else Reading(None, "no number")


def _cut(text: str, start: int, stop: int) -> int:
    """Where a line is read from: its beginning, or, of a long one, a white space near its end."""
    if stop - start <= MAX_LINE:
        return start
    space = text.find(" ", stop - MAX_LINE, stop)
    return space if space >= 0 else stop - MAX_LINE


def _of_line(text: str, start: int, stop: int, found: list[WrittenNumber]) -> Reading:
    said = [number for number in found if not number.bounded and not _is_denied(text, number)]
    if not said:
        return Reading(None, f"denied, or only a bound: {_shown(text[start:stop])}", end=found[-1].end)
    number = chosen_number(text, start, stop, said)
    if number is not None and (is_operand(text, start, number) or _is_irrational(text, number, stop)):
        number = None
    if number is None or (number.value is not None and more_than_one(text, start, stop, said, number)):
        why = "an expression, not a number" if number is None else "more than one number"
        return Reading(None, f"{why}: {_shown(text[start:stop])}", end=found[-1].end)
    if number.value is None:
        return Reading(None, f"not a single number: {_shown(number.text)}", end=number.end)
    return Reading(number.value, number.text, number.others, number.end)


def _is_irrational(text: str, number: WrittenNumber, stop: int) -> bool:
    """Whether a number is a factor of a root or of pi, or stands under a root: 2√3, 12π."""
    before = text[max(0, number.start - 7) : number.start].rstrip("{( ")
    return _IRRATIONAL.match(text, number.end, stop) is not None or before.endswith(("√", "\\sqrt", "π"))


def _shown(text: str) -> str:
    text = " ".join(text[: 4 * SHOWN].split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
