"""The same option of a multiple-choice question: by its letter or its text.

How an answer is read, the first that applies:
1. its whole text is one option's text (normalized as SQuAD does);
2. what follows the last `answer is`, `answer:`, `\\boxed{`, `option` or `choice` is a letter or one option's text;
3. it begins with a letter: `B`, `(B)`, `B.`, `B) Paris`, `B: because ...` (`A` and `I` need the punctuation);
4. one option, and no other, is named in it, and no negation (`not`, `n't`, `never`, `except`, ...).
A letter followed by the text of another option, options of equal text, or two options in (4) are ambiguous: rejected.
Letters count from A in the order of the row's choices; lower-case ones only alone or with punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import cell, normalized, require_most, shown
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

VERSION = 1
SOURCE = "the rule is ours [R]"
PATH_OPTIONS: tuple[str, ...] = ()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_MARKER = re.compile(
    r"\banswer\b[^\n.:=?!]{0,40}?(?:\b(?:is|was|would be|should be)\b(?! not\b)[ \t]*:?|[:=])"
    r"|\\boxed ?\{|^[ \t*]{0,4}A ?:|\b(?:option|choice)\b(?=[ *\"'(]{1,3}[A-Z]\b)",
    re.IGNORECASE | re.MULTILINE,
)
_DRESSING = " \t\r\n*_`$\"'“”‘’"
_TEXT = re.compile(r"^\\(?:text|textbf|mathrm|mathbf) ?\{")
_WRAPPED = re.compile(r"(?:\(([A-Za-z])\)|\[([A-Za-z])\]|\{([A-Za-z])\})")
_LETTER = re.compile(r"([A-Za-z])(?=[*_`$\"'“”]{0,4}(?:$|[.):,;!?\]}\n]|\s*[-–—]\s))")
_FREE_LETTER = re.compile(r"([A-Z])(?= )")
_AFTER_A = re.compile(r" (?:because|since|as|for|due)\b")
_NEGATION = re.compile(
    r"\b(?:not|never|except|neither|nor|cannot|without|unlike|incorrect|wrong|false)\b|n['’]t\b", re.IGNORECASE
)


class Options(MethodOptions):
    """Recipe options of `judge: {name: choice}`."""

    choices_column: str = Field("choices", description="Column with the list of options")
    gold_column: str | None = Field(
        "gold",
        description="Column with the right option: its index from 0, its letter or its text; null: the gold answer",
    )


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """Nothing but the options."""
    return {}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read besides prompt and gold."""
    return tuple(name for name in (options.choices_column, options.gold_column) if name is not None)


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError where a row has no list of options, or fewer than half have a right one that is clear."""
    require_most(
        questions,
        lambda question: isinstance(_gold(question, _choices(question, options), options), int),
        "judge choice does not fit: {missing} of {rows} rows have no option that is clearly the right one",
        "name the columns with choices_column and gold_column",
    )


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts."""
    return lambda pairs: [_verdict(question, answer, options) for question, answer in pairs]


def _verdict(question: Question, answer: str, options: Options) -> Verdict:
    choices = _choices(question, options)
    gold = _gold(question, choices, options)
    if isinstance(gold, str):
        return Verdict(False, f"gold: {gold}")
    right = f"gold is {LETTERS[gold]} ({shown(choices[gold])})"
    got = read_choice(answer, choices)
    if isinstance(got, str):
        return Verdict(False, f"{got}, {right}")
    return Verdict(got == gold, f"got {LETTERS[got]} ({shown(choices[got])}), {right}")


def _choices(question: Question, options: Options) -> list[str]:
    value = cell(question, options.choices_column)
    fits = (
        isinstance(value, list)
        and 2 <= len(value) <= len(LETTERS)
        and all(isinstance(one, str | int | float) for one in value)
    )
    if not fits:
        what = f"column {options.choices_column} is not a list of 2 to {len(LETTERS)} texts"
        raise UserError(what, question.where, "name the column of the options with choices_column")
    return [str(one) for one in value]


def _gold(question: Question, choices: list[str], options: Options) -> int | str:
    """The index of the right option, or why there is none."""
    value = question.gold if options.gold_column is None else cell(question, options.gold_column)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < len(choices) else f"index {value} of {len(choices)} options"
    return read_choice(value, choices) if isinstance(value, str) else f"{value!r} is no option"


def read_choice(answer: str, choices: Sequence[str]) -> int | str:
    """The index of the option that an answer names, or why it names none."""
    texts = [normalized(choice) or choice.strip() for choice in choices]
    whole = _by_text(answer, texts)
    if whole is not None:
        return whole
    for mark in reversed(list(_MARKER.finditer(answer))[-20:]):
        behind = _TEXT.sub("", answer[mark.end() : mark.end() + 2000].lstrip(_DRESSING))
        found = _leading(behind, texts, marked=True)
        if found is not None:
            return found
    found = _leading(answer.lstrip(_DRESSING), texts, marked=False)
    return found if found is not None else _named(answer, texts)


def _by_text(text: str, texts: Sequence[str]) -> int | str | None:
    words = normalized(text) or text.strip()
    same = [index for index, option in enumerate(texts) if option and option == words]
    return None if not same else same[0] if len(same) == 1 else "ambiguous: options of equal text"


def _leading(text: str, texts: Sequence[str], marked: bool) -> int | str | None:
    """The option that a text begins with, as a letter or, behind a marker, as one option's text."""
    match = _WRAPPED.match(text) or _LETTER.match(text) or _FREE_LETTER.match(text)
    if match is not None and match.re is _FREE_LETTER and match[1] in "AI" and not (marked and _AFTER_A.match(text, 1)):
        match = None
    if match is not None:
        letter = next(group for group in match.groups() if group)
        index = LETTERS.find(letter.upper())
        if index >= len(texts):
            return f"no option {letter.upper()}" if marked else None
        rest = text[match.end() :].lstrip(_DRESSING + ".):,;]}-–—").split("\n", 1)[0]
        other = _by_text(rest, texts)
        if isinstance(other, int) and other != index:
            return f"ambiguous: letter {LETTERS[index]} with the text of {LETTERS[other]}"
        second = re.match(r"\s*(?:or|and|/|,|&)\s*\(?([A-Z])\b(?!')", text[match.end() :].lstrip(")*]}"))
        if second and second[1] != LETTERS[index] and second[1] in LETTERS[: len(texts)]:
            return f"ambiguous: {LETTERS[index]} and {second[1]}"
        return index
    if not marked:
        return None
    line = text.split("\n", 1)[0]
    for part in (line, re.split(r"[.;!?](?:\s|$)", line, maxsplit=1)[0], line.split(",", 1)[0], line.split("}", 1)[0]):
        found = _by_text(part, texts)
        if found is not None:
            return found
    return None


def _named(answer: str, texts: Sequence[str]) -> int | str:
    """The only option whose words are in the answer; an option inside the words of a longer one does not count."""
    words = f" {normalized(answer)} "
    named = []
    for index in sorted(range(len(texts)), key=lambda index: -len(texts[index])):
        if texts[index] and f" {texts[index]} " in words:
            named.append(index)
            words = words.replace(f" {texts[index]} ", " \0 ")
    if not named:
        return "no option named"
    if len(named) > 1:
        return f"ambiguous: {', '.join(LETTERS[index] for index in sorted(named))} are named"
    if texts.count(texts[named[0]]) > 1:
        return "ambiguous: options of equal text"
    if _NEGATION.search(words) or (_NEGATION.search(answer) and not _NEGATION.search(texts[named[0]])):
        return f"ambiguous: {LETTERS[named[0]]} is named beside a negation"
    return named[0]
