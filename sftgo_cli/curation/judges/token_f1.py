"""Enough words in common with an accepted answer: SQuAD's F1.

    common = number of words in both, counted with repetition
    F1 = 2 P R / (P + R),  P = common / words of the answer,  R = common / words of the accepted answer
    accepted = max over the accepted answers of F1 >= threshold

`normalize: careful` counts words as careful_words.py reads them (10.5 is not 105, C++ not C; two is 2), and rejects an
answer that contradicts the accepted one whatever words they share (contradictions.py): another year, North for South
Korea, a denial. `squad` counts the words of SQuAD's normalized text (lower case, no punctuation, no articles), split at
white space, and nothing else. An accepted answer without such words counts 1 for the same text, else 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.curation.accepted_answers import accepted_answers, normalized, require_most, shown
from sftgo_cli.curation.contradictions import comparable, contradiction
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.recipe.options import MethodOptions

VERSION = 2
SOURCE = "SQuAD's F1, arXiv 1606.05250; threshold and `careful` are ours [R]"
PATH_OPTIONS: tuple[str, ...] = ()


class Options(MethodOptions):
    """Recipe options of `judge: {name: token_f1}`."""

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.5, description="Smallest F1 that is accepted")
    normalize: Literal["careful", "squad"] = Field(
        "careful", description="Words with their signs, and no contradiction (careful), or SQuAD's F1 alone (squad)"
    )
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


def f1(answer: str, right: str, normalize: str = "squad") -> float:
    """The F1 of two texts, in [0, 1]; SQuAD's with `squad`."""
    mine, wanted = _words(answer, normalize), _words(right, normalize)
    if not mine or not wanted:
        return float(answer.strip() == right.strip())
    common = (Counter(mine) & Counter(wanted)).total()
    return 2 * common / (len(mine) + len(wanted))


def _words(text: str, normalize: str) -> list[str]:
    return normalized(text).split() if normalize == "squad" else [word.text for word in comparable(text)]


def _verdict(question: Question, answer: str, options: Options) -> Verdict:
    rights = accepted_answers(question, options.answer_column)
    if not rights:
        return Verdict(False, "the row has no accepted answer")
    scored = sorted(((f1(answer, right, options.normalize), right) for right in rights), key=lambda one: -one[0])
    against = None
    for score, right in scored:
        if score < options.threshold:
            break
        against = contradiction(answer, right) if options.normalize == "careful" else None
        if against is None:
            return Verdict(True, f"F1 {score:.3f} >= {options.threshold:g} against {shown(right)!r}")
    score, best = scored[0]
    if against is not None:
        return Verdict(False, f"F1 {score:.3f}, but {against}, against {shown(best)!r}")
    return Verdict(False, f"F1 {score:.3f} < {options.threshold:g} against {shown(best)!r}")
