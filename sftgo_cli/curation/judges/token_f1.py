"""Enough words in common with an accepted answer: SQuAD's F1.

    common = number of words in both, counted with repetition
    F1 = 2 P R / (P + R),  P = common / words of the answer,  R = common / words of the accepted answer
    accepted = max over the accepted answers of F1 >= threshold

Words are those of SQuAD's normalized text (lower case, no punctuation, no articles), split at white space. An accepted
answer without such words counts 1 for the same text, else 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import accepted_answers, normalized, require_most, shown
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.recipe.options import MethodOptions

VERSION = 1
SOURCE = "SQuAD's F1, arXiv 1606.05250; the threshold is ours [R]"
PATH_OPTIONS: tuple[str, ...] = ()


class Options(MethodOptions):
    """Recipe options of `judge: {name: token_f1}`."""

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.5, description="Smallest F1 that is accepted")
    answer_column: str | None = Field(None, description="Column with a text or a list of accepted texts; null: gold")


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """Nothing but the options."""
    return {}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read besides prompt and gold."""
    return () if options.answer_column is None else (options.answer_column,)


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError where fewer than half of the rows have an accepted answer, or the column does not fit."""
    require_most(
        questions,
        lambda question: bool(accepted_answers(question, options.answer_column)),
        "judge token_f1 does not fit: {missing} of {rows} rows have no accepted answer",
        "name the column of accepted answers with answer_column",
    )


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts."""
    return lambda pairs: [_verdict(question, answer, options) for question, answer in pairs]


def f1(answer: str, right: str) -> float:
    """SQuAD's F1 of two texts, in [0, 1]."""
    mine, wanted = normalized(answer).split(), normalized(right).split()
    if not mine or not wanted:
        return float(answer.strip() == right.strip())
    common = (Counter(mine) & Counter(wanted)).total()
    return 2 * common / (len(mine) + len(wanted))


def _verdict(question: Question, answer: str, options: Options) -> Verdict:
    rights = accepted_answers(question, options.answer_column)
    if not rights:
        return Verdict(False, "the row has no accepted answer")
    best = max(rights, key=lambda right: f1(answer, right))
    score = f1(answer, best)
    sign = ">=" if score >= options.threshold else "<"
    return Verdict(score >= options.threshold, f"F1 {score:.3f} {sign} {options.threshold:g} against {shown(best)!r}")
