"""The same text as one of the accepted answers, up to what does not matter.

    accepted = any(normalized(answer) == normalized(right) for right in accepted answers)

`normalize: careful` ignores case, white space, quotes, sentence punctuation and articles, and keeps signs, decimal points
and operators where they carry meaning: 10.5 is not 105, -5 not 5, C++ not C (careful_words.py). `squad` is SQuAD's
normalization, which drops all punctuation and articles; `none` compares the texts as they are, outer white space aside.
An accepted answer of which nothing is left (`The`, `-`) is compared as it is written, so that an empty answer never passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from sftgo_cli.curation.accepted_answers import accepted_answers, normalized, require_most, shown
from sftgo_cli.curation.careful_words import careful, joined
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.recipe.options import MethodOptions

VERSION = 2
SOURCE = "SQuAD's exact match, arXiv 1606.05250; `careful` is ours [R]"
PATH_OPTIONS: tuple[str, ...] = ()


class Options(MethodOptions):
    """Recipe options of `judge: {name: exact}`."""

    normalize: Literal["careful", "squad", "none"] = Field(
        "careful",
        description="What does not count: case, articles, punctuation without meaning (careful), all punctuation (squad)",
    )
    answer_column: str | None = Field(None, description="Column with a text or a list of accepted texts; null: gold")

    @field_validator("normalize", mode="before")
    @classmethod
    def reads_booleans(cls, value: Any) -> Any:
        """`true` and `false`, as the option was before, mean careful and none."""
        return {True: "careful", False: "none"}[value] if isinstance(value, bool) else value


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
        "judge exact does not fit: {missing} of {rows} rows have no accepted answer",
        "name the column of accepted answers with answer_column",
    )


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts."""
    return lambda pairs: [_verdict(question, answer, options) for question, answer in pairs]


def _verdict(question: Question, answer: str, options: Options) -> Verdict:
    rights = accepted_answers(question, options.answer_column)
    if not rights:
        return Verdict(False, "the row has no accepted answer")
    more = f" (or {len(rights) - 1} others)" if len(rights) > 1 else ""
    accepted = any(_same(answer, right, options.normalize) for right in rights)
    return Verdict(accepted, f"got {shown(answer)!r}, gold is {shown(rights[0])!r}{more}")


def _same(answer: str, right: str, normalize: str) -> bool:
    if normalize == "squad":
        wanted = normalized(right)
        return normalized(answer) == wanted if wanted else answer.strip() == right.strip()
    if normalize == "careful" and careful(right):
        return careful(answer) == careful(right) or joined(answer) == joined(right)
    return answer.strip() == right.strip()
