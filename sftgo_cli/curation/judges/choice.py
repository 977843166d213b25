"""The same option of a multiple-choice question: by its letter or its text, read by chosen_option.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import cell, require_most, shown
from sftgo_cli.curation.chosen_option import read_choice
from sftgo_cli.curation.named_options import LETTERS
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

VERSION = 2
SOURCE = "the rule is ours [R]"
PATH_OPTIONS: tuple[str, ...] = ()


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
