"""A program that passes its row's tests, in a sandbox (MBPP, HumanEval and their like). Needs bubblewrap.

The tests are the column `test` (`def check(candidate)` as HumanEval has it, assertions, or functions `test_...`) or MBPP's
`test_list` with its `test_setup_code` and `test_imports`; the function asked for is the column `entry_point`, else the
one that most assertions call; `code_prompt`, a function's head, is put before answers that are only its body. How a
program is made of an answer: `sandbox/program_text.py`.

Accepted: the tests ran to their end and every assertion was run and held, in a process that the program cannot reach.
Programs have the standard library only, and may start no process or thread and write no file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import cell, require_most
from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.curation.sandbox.bubblewrap import require_sandbox
from sftgo_cli.curation.sandbox.runs import Case, Limits, outcomes
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

VERSION = 1
SOURCE = "Chen et al. 2021 (arXiv 2107.03374), Austin et al. 2021 (arXiv 2108.07732); the sandbox is ours"
PATH_OPTIONS = ("num_workers",)
USUAL_TESTS = ("test", "test_list")
USUAL_ENTRY_POINT, USUAL_CODE_PROMPT = "entry_point", "code_prompt"
SETUP = ("test_imports", "test_setup_code")  # MBPP's; in this order before the tests
_ENTRY_POINT = re.compile(r"[^\W\d]\w*(\(\))?(\.[^\W\d]\w*(\(\))?)*")


class Options(MethodOptions):
    """Recipe options of `judge: {name: unit_tests}`."""

    tests: str | None = Field(None, description="Column with the tests, a text or a list; null: test, else test_list")
    entry_point: str = Field(
        USUAL_ENTRY_POINT, description="Column with the function's name; else found from the tests"
    )
    code_prompt: str = Field(USUAL_CODE_PROMPT, description="Column with the head that an answer may continue")
    timeout: Annotated[float, Field(gt=0.0, le=3600.0)] = Field(3.0, description="Seconds for a program and its tests")
    memory_mb: Annotated[int, Field(ge=64)] = Field(512, description="Memory of a program, in MiB")
    num_workers: Annotated[int, Field(ge=1)] | None = Field(None, description="Programs at a time; null: one per core")


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The Python that runs the programs."""
    return {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read besides prompt and gold."""
    tests = USUAL_TESTS if options.tests is None else (options.tests,)
    return (*tests, *SETUP, options.entry_point, options.code_prompt)


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Look for tests in every row, and probe the sandbox.

    Raises:
        UserError: fewer than half of the rows have tests, or a column that the options name is missing.
        EnvironmentProblem: there is no sandbox that holds.
    """
    require_most(
        questions,
        lambda question: isinstance(_case(question, "", options), Case),
        "judge unit_tests does not fit: {missing} of {rows} rows have no tests that can be run",
        "name the column of the tests with tests, or choose another judge",
    )
    require_sandbox()


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts. Raises EnvironmentProblem where no sandbox holds."""
    bwrap = require_sandbox()
    limits = Limits(options.timeout, options.memory_mb)
    num_workers = options.num_workers or len(os.sched_getaffinity(0))

    def judge(pairs: list[tuple[Question, str]]) -> list[Verdict]:
        cases = [_case(question, answer, options) for question, answer in pairs]
        wanted = [case for case in cases if isinstance(case, Case)]
        found = iter(outcomes(bwrap, wanted, limits, num_workers) if wanted else [])
        verdicts = []
        for case in cases:
            outcome = None if isinstance(case, str) else next(found)
            verdicts.append(
                Verdict(False, f"no tests: {case}") if outcome is None else Verdict(outcome.accepted, outcome.reason)
            )
        return verdicts

    return judge


def _case(question: Question, answer: str, options: Options) -> Case | str:
    """What is to be run, or why there is nothing."""
    column = _tests_column(question, options)
    tests = _text(cell(question, column), column, question)
    if "assert" not in tests:
        return "the row has no assertion"
    entry_point = _optional(question, options.entry_point, USUAL_ENTRY_POINT)
    if entry_point is not None and not _ENTRY_POINT.fullmatch(entry_point):
        return f"{entry_point[:60]!r} is no function's name"
    setup = [_text(question.values.get(name), name, question) for name in SETUP]
    code_prompt = _optional(question, options.code_prompt, USUAL_CODE_PROMPT)
    return Case(answer, "\n".join([*filter(None, setup), tests]), entry_point, code_prompt)


def _tests_column(question: Question, options: Options) -> str:
    """The column of a row's tests: the one that the options name, else the first usual one that is there and filled."""
    if options.tests is not None:
        return options.tests
    filled = [name for name in USUAL_TESTS if question.values.get(name)]
    present = [name for name in USUAL_TESTS if name in question.values]
    return (filled or present or [USUAL_TESTS[0]])[0]


def _optional(question: Question, column: str, usual: str) -> str | None:
    """A column that need not be there, unless the options name it; an empty one counts as missing."""
    value = question.values.get(column) if column == usual else cell(question, column)
    return _text(value, column, question) or None


def _text(value: Any, column: str, question: Question) -> str:
    """A column's text; the items of a list as lines."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    for item in items:
        if not isinstance(item, str):
            what = f"column {column} holds {type(item).__name__}, the judge needs a text or a list of texts"
            raise UserError(what, question.where, "name the right columns in the judge's options")
    return "\n".join(items)
