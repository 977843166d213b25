"""The judge `unit_tests`: rows as data sets have them, rows without tests, options, a machine without bubblewrap."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.curation.judges import unit_tests
from sftgo_cli.curation.questions import CurationContext, Question, Verdict
from sftgo_cli.errors import EnvironmentProblem, UserError

with_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
CONTEXT = CurationContext(*[None] * 9)  # type: ignore[arg-type]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "code"

HUMAN_EVAL = {
    "code_prompt": "from typing import List\n\ndef total(x: List[int]) -> int:\n    '''The sum.'''\n",
    "entry_point": "total",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
}
MBPP = {
    "test_list": ["assert total([1, 2]) == 3", "assert math.isclose(total([]), root)"],
    "test_setup_code": "root = 0",
    "test_imports": ["import math"],
}
FULL = "def total(x):\n    return sum(x)"


def question(values: dict[str, Any], number: int = 0) -> Question:
    """A row."""
    return Question(str(number), f"rows.jsonl:{number + 1}", [{"role": "user", "content": "Sum?"}], FULL, values)


def judged(answer: str, values: dict[str, Any], **options: Any) -> Verdict:
    """The verdict on one answer."""
    chosen = unit_tests.Options(**options)
    asked = question(values)
    unit_tests.check([asked], chosen, CONTEXT)
    verdict: Verdict = unit_tests.open_judge(chosen, CONTEXT)([(asked, answer)])[0]
    return verdict


@with_bwrap
@pytest.mark.parametrize("values", [HUMAN_EVAL, MBPP, {**MBPP, "test": None, "entry_point": None, "code_prompt": ""}])
def test_rows_of_both_kinds(values: dict[str, Any]) -> None:
    assert judged(FULL, values) == Verdict(True, "2 assertions held")
    assert judged(f"Here:\n```python\n{FULL}\n```", values).accepted
    wrong = judged("def total(x):\n    return 3", values)
    assert not wrong.accepted
    assert "the last call gave 3" in wrong.reason
    assert not judged("def sums(x):\n    return sum(x)", values).accepted
    assert not judged("", values).accepted


@with_bwrap
@pytest.mark.parametrize("values", [HUMAN_EVAL, MBPP])
@pytest.mark.parametrize("wrong", [0, 1])
def test_every_assertion_has_to_hold(values: dict[str, Any], wrong: int) -> None:
    """A program for which one of several assertions holds, the first or the last, is not right."""
    rows = {**values}
    tests = ["assert sums([1, 2]) == 3", "assert sums([4, 5]) == 9"]
    name = "test" if rows.get("test") else "test_list"
    rows[name] = (
        "def check(candidate):\n    " + "\n    ".join(tests).replace("sums", "candidate") if name == "test" else tests
    )
    first, second = ((0, 9), (3, 0))[wrong]
    program = f"def sums(x):\n    return {first} if x == [1, 2] else {second}"
    assert judged("def sums(x):\n    return sum(x)", {**rows, "entry_point": "sums", "code_prompt": None}).accepted
    assert not judged(program, {**rows, "entry_point": "sums", "code_prompt": None}).accepted


@with_bwrap
@pytest.mark.parametrize(
    "tests",
    [
        "    assert candidate([1, 2]) == 3\n    for _ in candidate([]):\n        assert candidate([4, 5]) == 9\n",
        "    assert candidate([1, 2]) == 3\n    if candidate([]) == []:\n        return\n"
        "    assert candidate([4, 5]) == 9\n",
    ],
    ids=["loop", "return"],
)
def test_an_assertion_that_did_not_run_is_missed(tests: str) -> None:
    """One of two held and no error came out of the tests: that is no pass."""
    verdict = judged(
        "def total(x):\n    return 3 if x == [1, 2] else []", {**HUMAN_EVAL, "test": f"def check(candidate):\n{tests}"}
    )
    assert not verdict.accepted
    assert "1 of 2 assertions did not run" in verdict.reason


@with_bwrap
def test_a_completion_of_the_code_prompt() -> None:
    assert judged("return sum(x)", HUMAN_EVAL).accepted
    assert judged(
        "def total(x: List[int]) -> int:\n    return sum(x)", HUMAN_EVAL
    ).accepted  # its import is the prompt's


@with_bwrap
def test_columns_by_other_names() -> None:
    values = {"checks": HUMAN_EVAL["test"], "function": "total", "head": HUMAN_EVAL["code_prompt"]}
    assert judged("return sum(x)", values, tests="checks", entry_point="function", code_prompt="head").accepted
    with pytest.raises(UserError, match=r"did you mean function\?.*|no column functio"):
        judged(FULL, values, tests="checks", entry_point="functio")


@with_bwrap
def test_verdicts_come_in_order() -> None:
    answers = [f"def total(x):\n    return sum(x) + {number % 3}" for number in range(24)]
    judge = unit_tests.open_judge(unit_tests.Options(num_workers=3), CONTEXT)
    verdicts = judge([(question(HUMAN_EVAL, number), answer) for number, answer in enumerate(answers)])
    assert [verdict.accepted for verdict in verdicts] == [number % 3 == 0 for number in range(24)]
    assert judge([]) == []


@with_bwrap
def test_limits_are_options() -> None:
    slow = "import time\ndef total(x):\n    time.sleep(0.4)\n    return sum(x)"
    assert not judged(slow, HUMAN_EVAL, timeout=0.5).accepted
    assert judged(slow, HUMAN_EVAL, timeout=30.0).accepted
    large = "def total(x):\n    bytearray(200 * 2**20)\n    return sum(x)"
    assert not judged(large, HUMAN_EVAL, memory_mb=128).accepted
    assert judged(large, HUMAN_EVAL, memory_mb=512).accepted


@with_bwrap
def test_rows_without_tests() -> None:
    rows = [question(HUMAN_EVAL, 0), question({"test": ""}, 1), question({"test": "pass"}, 2), question(HUMAN_EVAL, 3)]
    unit_tests.check(rows, unit_tests.Options(), CONTEXT)
    verdicts = unit_tests.open_judge(unit_tests.Options(), CONTEXT)([(row, FULL) for row in rows])
    assert [verdict.accepted for verdict in verdicts] == [True, False, False, True]
    assert verdicts[1].reason == "no tests: the row has no assertion"
    with pytest.raises(UserError, match=r"2 of 3 rows have no tests.*rows.jsonl:2"):
        unit_tests.check(rows[:3], unit_tests.Options(), CONTEXT)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"prompt": "x"}, "no column test"), ({"test": 5}, "holds int"), ({"test_list": [1]}, "holds int")],
)
def test_rows_that_do_not_fit(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"{said}.*rows.jsonl:1"):
        unit_tests.check([question(values)], unit_tests.Options(), CONTEXT)


def test_an_entry_point_is_a_name() -> None:
    with pytest.raises(UserError, match="no tests that can be run"):
        unit_tests.check([question({**HUMAN_EVAL, "entry_point": "f(); import os"})], unit_tests.Options(), CONTEXT)


def test_without_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for start in (
        lambda: unit_tests.check([question(HUMAN_EVAL)], unit_tests.Options(), CONTEXT),
        lambda: unit_tests.open_judge(unit_tests.Options(), CONTEXT),
    ):
        with pytest.raises(EnvironmentProblem, match=r"bwrap is not on the PATH.*apt-get install bubblewrap"):
            start()


@with_bwrap
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
def test_gold_solutions_are_accepted_and_others_are_not() -> None:
    texts = [(SHARED / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("human_eval", "mbpp")]
    rows = [json.loads(line) for text in texts for line in text.split("\n") if line][:120:5]
    judge = unit_tests.open_judge(unit_tests.Options(timeout=20.0), CONTEXT)
    verdicts = judge([(question(row), row["solution"].strip()) for row in rows])
    assert [verdict.reason for verdict in verdicts if not verdict.accepted] == []
    verdicts = judge([(question(row), f"def {row['entry_point']}(*given):\n    return 'no such'") for row in rows])
    assert not any(verdict.accepted for verdict in verdicts)
