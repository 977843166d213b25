"""Answers made elsewhere: the text in a column of the row, or, of a list of texts, one for each answer that is wanted.

The k-th of several answers to a question is the k-th text of its list. What is asked for through a prompt file, a
paraphrase, is taken from `paraphrase_column` where one is named. No model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sftgo_cli.curation.questions import Answer, CurationContext, Done, Question, Request
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

VERSION = 2
SOURCE = "the data"
PATH_OPTIONS: tuple[str, ...] = ()


class Options(MethodOptions):
    """Where the answers are."""

    column: str = Field(min_length=1, description="Column with the answer, or with a list of them")
    paraphrase_column: str | None = Field(
        None, min_length=1, description="Column with the paraphrase of gold, for s3ft; null: there is none"
    )


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """Nothing: the column is part of the rows, and its name is an option."""
    return {}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read."""
    return (options.column,) if options.paraphrase_column is None else (options.column, options.paraphrase_column)


def describe(options: Options, context: CurationContext) -> str:
    """`column candidate`."""
    return f"column {options.column}"


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError when a row has no text in the column; an empty text is an empty answer."""
    for question in questions:
        for column in columns(options):
            _texts(question, column)


def generate(wanted: Sequence[Request], options: Options, context: CurationContext, done: Done) -> None:
    """Take the answers from the rows.

    Raises:
        UserError: a row has fewer texts than answers are wanted of it.
    """
    answers = []
    for number, request in enumerate(wanted):
        column = options.paraphrase_column if request.prompt_hash and options.paraphrase_column else options.column
        texts, place = _texts(request.question, column), request.sample
        if place >= len(texts):
            raise UserError(
                f"column {column!r} holds {len(texts)} {'answer' if len(texts) == 1 else 'answers'}, "
                f"and number {place + 1} is wanted",
                request.question.where,
                "give the row a longer list, or ask for fewer answers",
            )
        answers.append((number, Answer(texts[place].strip(), finished=True, num_tokens=0)))
    if answers:
        done(answers)


def _texts(question: Question, column: str) -> list[str]:
    value = question.values.get(column)
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) for text in texts):
        return list(texts)
    known = ", ".join(sorted(question.values)) or "nothing"
    found = f"the row has {known}" if column not in question.values else f"found {type(value).__name__}"
    raise UserError(
        f"no answer in column {column!r} ({found})",
        question.where,
        "give a text, or a list of texts, in every row; generator.column names the column",
    )
