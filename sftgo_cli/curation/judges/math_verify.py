"""The same mathematical value, decided by the math-verify package: fractions, roots, sets, intervals, matrices, equations.

It reads LaTeX between dollar signs or in a box, and plain expressions; gold that is bare LaTeX is put between dollar signs
first. It runs in a process of its own: an answer for which it takes longer than 20 s, or more than 4 GiB, is rejected.
Needs the extra: pip install 'sftgo[math]'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import cell, require_most, shown
from sftgo_cli.curation.math_worker import PATIENCE, MathWorker
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.errors import EnvironmentProblem
from sftgo_cli.recipe.options import MethodOptions

VERSION = 1
SOURCE = "math-verify (github.com/huggingface/Math-Verify)"
PATH_OPTIONS: tuple[str, ...] = ()
MOST_CHARACTERS = 20_000  # of an answer's end; its regular expressions are slow on long texts
MOST_CHECKED = 100  # rows whose gold is read before generating


class Options(MethodOptions):
    """Recipe options of `judge: {name: math_verify}`."""

    answer_column: str | None = Field(None, description="Column with the right value; null: gold's final expression")


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The package's version. Raises EnvironmentProblem where it is missing."""
    return {"math_verify": _version()}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read besides prompt and gold."""
    return () if options.answer_column is None else (options.answer_column,)


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Read gold of the first rows.

    Raises:
        EnvironmentProblem: math-verify is not installed.
        UserError: it finds nothing in more than half of them, or the column is missing.
    """
    _version()
    worker = MathWorker()
    try:
        require_most(
            questions[:MOST_CHECKED],
            lambda question: _reads(worker, _gold(question, options)),
            "judge math_verify does not fit: it finds no mathematical value in {missing} of the first {rows} gold answers",
            "choose another judge, or name the column of the right value with answer_column",
        )
    finally:
        worker.close()


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts; may be called from any thread, one at a time."""
    worker = MathWorker()
    return lambda pairs: [_verdict(worker, _gold(question, options), answer) for question, answer in pairs]


def _gold(question: Question, options: Options) -> str:
    return question.gold if options.answer_column is None else str(cell(question, options.answer_column))


def _reads(worker: MathWorker, gold: str) -> bool:
    reply = worker.compare(gold, None)
    return reply is not None and reply[1] is not None


def _verdict(worker: MathWorker, gold: str, answer: str) -> Verdict:
    reply = worker.compare(gold, answer[-MOST_CHARACTERS:])
    if reply is None:
        return Verdict(False, f"no verdict within {PATIENCE:g} s on {shown(answer[-200:])!r}")
    accepted, right, got = reply
    if right is None:
        return Verdict(False, f"gold has no mathematical value: {shown(gold)!r}")
    return Verdict(accepted, f"got {got if got is not None else 'nothing mathematical'}, gold is {right}")


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("math-verify")
    except importlib.metadata.PackageNotFoundError:
        fix = "pip install 'sftgo[math]'"
        raise EnvironmentProblem("judge math_verify needs the package math-verify", "judge.name", fix) from None
