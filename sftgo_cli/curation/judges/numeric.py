"""The same final number: GSM8K-style answers.

    accepted = |answer - gold| <= tolerance * |gold|        rational arithmetic; tolerance 0 is equality

The default tolerance of 1e-6 is for the last digits of floats (0.30000000000000004 is 0.3, 0.333333 is 1/3); two whole
numbers have to be equal all the same (10000001 is not 10000000). Which number of an answer is its final one, and what is
said about it (denied, taken back, a range): final_numbers.py; how numbers may be written: written_numbers.py. Units,
currency and percent signs are ignored (50% is 50; it is not 0.5), 18.00 is 18, 3/4 is 0.75. A scale word counts, but may
also be the question's unit, as in GSM8K: `4 million` is accepted for 4,000,000 and for 4; `5 hours 30 minutes` for 330 and
for 5.5. What can be read in two ways is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import cell, require_most
from sftgo_cli.curation.final_numbers import Reading, read_cell, read_final_number
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.recipe.options import MethodOptions

VERSION = 2
SOURCE = (
    "GSM8K, arXiv 2110.14168, and S3FT, arXiv 2502.08130 (the same final number); which number that is: our rule [R]"
)
PATH_OPTIONS: tuple[str, ...] = ()
DEFAULT_TOLERANCE = Fraction(1, 10**6)  # for the last digits of floats; whole numbers have to be equal


class Options(MethodOptions):
    """Recipe options of `judge: {name: numeric}`."""

    answer_column: str | None = Field(None, description="Column with the right number; null: gold's final number")
    tolerance: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        1e-6,
        description="Largest relative difference that still counts as equal; up to 1e-6 whole numbers have to be equal; "
        "0: exactly equal",
    )


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """Nothing but the options."""
    return {}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read besides prompt and gold."""
    return () if options.answer_column is None else (options.answer_column,)


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError where fewer than half of the gold answers hold a number, or the column is missing."""
    require_most(
        questions,
        lambda question: _gold(question, options).value is not None,
        "judge numeric does not fit: {missing} of {rows} gold answers hold no final number",
        "choose another judge, or name the column of the right number with answer_column",
    )


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts."""
    tolerance = Fraction(repr(options.tolerance))
    return lambda pairs: [_verdict(_gold(question, options), answer, tolerance) for question, answer in pairs]


def _gold(question: Question, options: Options) -> Reading:
    if options.answer_column is None:
        return read_final_number(question.gold)
    return read_cell(cell(question, options.answer_column))


def _verdict(gold: Reading, answer: str, tolerance: Fraction) -> Verdict:
    if gold.value is None:
        return Verdict(False, f"gold has no final number ({gold.text})")
    got = read_final_number(answer)
    if got.value is None:
        return Verdict(False, f"no final number ({got.text}), gold is {gold.text}")
    pairs = [(got.value, gold.value)]
    pairs += [(other, gold.value) for other in got.others] + [(got.value, other) for other in gold.others]
    accepted = any(_equal(mine, right, tolerance) for mine, right in pairs)
    return Verdict(accepted, f"got {got.text}, gold is {gold.text}")


def _equal(mine: Fraction, right: Fraction, tolerance: Fraction) -> bool:
    """Whether two numbers differ by the tolerance at most; whole numbers are not told apart by it alone."""
    if tolerance <= DEFAULT_TOLERANCE and mine.denominator == right.denominator == 1:
        return mine == right
    return abs(mine - right) <= tolerance * abs(right)
