"""The judge `numeric`: which number of an answer is its final one, how numbers are written, what it refuses."""

from __future__ import annotations

import random
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.curation.final_numbers import read_cell, read_final_number
from sftgo_cli.curation.judges import numeric
from sftgo_cli.curation.questions import CurationContext, Question
from sftgo_cli.errors import UserError

# (answer, its final number as Fraction reads it, or None where there is none)
NUMBERS: list[tuple[str, str | None]] = [
    # as it is written
    ("18", "18"),
    ("18.", "18"),
    ("18.00", "18"),
    ("018", "18"),
    (".5", "1/2"),
    ("0.125", "1/8"),
    ("-18", "-18"),
    ("+18", "18"),
    ("\u221218", "-18"),
    ("\u201318", "-18"),
    ("(18)", "18"),
    ("1,000", "1000"),
    ("1,234,567.89", "123456789/100"),
    ("12,34,567", "1234567"),
    ("1{,}000", "1000"),
    ("1\\,000", "1000"),
    ("1\u202f000", "1000"),
    ("1\u00a0000\u00a0000", "1000000"),
    ("\uff11\uff18", "18"),
    ("$18.50", "37/2"),
    ("$18.50.", "37/2"),
    ("\\$18", "18"),
    ("$18$", "18"),
    ("$-18$", "-18"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    ("$ 5", "5"),
    ("€3", "3"),
    ("£3.20", "16/5"),
    ("USD 18", "18"),
    ("USD18", "18"),
    ("Rs.500", "500"),
    ("18 dollars", "18"),
    ("18kg", "18"),
    ("18 m^2", "18"),
    ("18 m²", "18"),
    ("18 cm^{2}", "18"),
    ("18°", "18"),
    ("18^\\circ", "18"),
    ("50%", "50"),
    ("50 %", "50"),
    ("50\\%", "50"),
    ("50 percent", "50"),
    ("3/4", "3/4"),
    ("3 / 4", "3/4"),
    ("-3/4", "-3/4"),
    ("1 1/2", "3/2"),
    ("1 and 1/2", "3/2"),
    ("½", "1/2"),
    ("1½", "3/2"),
    ("1 ½", "3/2"),
    ("\\frac{3}{4}", "3/4"),
    ("\\dfrac{3}{4}", "3/4"),
    ("$\\frac34$", "3/4"),
    ("-\\frac{3}{4}", "-3/4"),
    ("1\\frac{1}{2}", "3/2"),
    ("3e5", "300000"),
    ("1.5E-3", "3/2000"),
    ("3 x 10^5", "300000"),
    ("3 \\times 10^{5}", "300000"),
    ("2 × 10⁵", "200000"),
    ("1.5 million", "1500000"),
    ("$4 billion", "4000000000"),
    ("**18**", "18"),
    ("`18`", "18"),
    ("\\(18\\)", "18"),
    ("\\[ 18 \\]", "18"),
    ("\\text{18 apples}", "18"),
    # no number, or none of its own
    ("", None),
    ("   \n", None),
    ("eighteen", "18"),
    ("one hundred and five", "105"),
    ("one", None),
    ("No one knows", None),
    ("H2O", None),
    ("x_1", None),
    ("3:30", None),
    ("1/2/2020", None),
    ("5/0", None),
    ("1e999999999", None),
    ("1e-999999999", None),
    ("9" * 5000, None),
    ("3 x 10^999999", None),
    # markers
    ("#### 18", "18"),
    ("####18", "18"),
    ("#### $18", "18"),
    ("#### **18**", "18"),
    ("#### -5", "-5"),
    ("#### 1,080", "1080"),
    ("#### 18 apples", "18"),
    ("16 - 12 = 4\n#### 18", "18"),
    ("#### 17\nwait\n#### 18", "18"),
    ("#### 18\n\n\n", "18"),
    ("#### unknown", None),
    ("It is 18.\n#### none", None),
    ("#### Step 1\n2 + 3 = 5\n#### Step 2\n5 + 5 = 10", "10"),
    ("#### Step 1\nFirst 2 + 3 = 5.\nThen 5 + 5 = 10.", "10"),
    ("#### 1. Add\n2 + 3 = 5\nSo it is 5.", "5"),
    ("A: 18", "18"),
    ("A:18", "18"),
    ("**A:** 18", "18"),
    ("A: 90,000", "90000"),
    ("A: $70000", "70000"),
    ("A: -129025", "-129025"),
    ("She makes 9 * 2 = $<<9*2=18>>18.\nA: 18", "18"),
    ("A: 0.6", "3/5"),
    ("A: cannot be determined from 18", None),
    ("It is 18.\nA: cannot be determined", None),
    ("A: She sold 24 clips in May.\nIn total 48 + 24 = 72.", "72"),
    ("A: 48 / 2 = 24 in May\n48 + 24 = 72 in all", "72"),
    ("Answer: 18", "18"),
    ("**Answer:** 18", "18"),
    ("**Answer**: $18$", "18"),
    ("Answer = 18", "18"),
    ("Final answer: 18 apples.", "18"),
    ("Answer:\n18", "18"),
    ("Answer:\n\n$18$\n", "18"),
    ("Answer: 18\n\nExplanation: 3 boxes of 6.", "18"),
    ("The answer is 18", "18"),
    ("The answer is 18.", "18"),
    ("The answer is: 18", "18"),
    ("The answer is $18.", "18"),
    ("the ANSWER is 18!", "18"),
    ("So the final answer is **18**.", "18"),
    ("The answer would be 18.", "18"),
    ("The answer to the question is 18.", "18"),
    ("The correct answer is therefore 18.", "18"),
    ("The answer is 18. It took 5 steps.", "18"),
    ("The answer is 18 dollars for 3 shirts.", "18"),
    ("The answer is 16 - 12 = 4.", "4"),
    ("The answer is x = 5.", "5"),
    ("The answer is 100 / 3 ≈ 33.33.", "3333/100"),
    ("The answer is 3/4 of a cup.", "3/4"),
    ("The answer is -7.", "-7"),
    ("The answer is 50%.", "50"),
    ("The answer is\n18", "18"),
    ("The answer is 17. No, the answer is 18.", "18"),
    ("The answer is 18.\n#### 17", "17"),
    ("#### 17\nThe answer is 18.", "18"),
    ("The answer is not 17 but 18", "18"),
    ("The answer is simple.\nThere are 18 apples.", "18"),
    ("There are 18 apples. The answer is unknown.", None),
    ("The answer is 16 - 12.", None),
    ("The answer is 3 or 4.", None),
    ("The answer is 3, 4.", None),
    ("The answer is 3 apples and 4 pears.", None),
    ("The answer is 2\\pi.", None),
    ("The answer is 3√2.", None),
    ("The answer is 2^10.", None),
    ("The answer is 3:30.", None),
    ("\\boxed{18}", "18"),
    ("$\\boxed{18}$.", "18"),
    ("\\boxed{\\frac{3}{4}}", "3/4"),
    ("\\boxed{\\$18.50}", "37/2"),
    ("\\boxed{18\\text{ m}^2}", "18"),
    ("\\boxed{x = 18}", "18"),
    ("\\boxed{1{,}234}", "1234"),
    ("\\boxed{-18}", "-18"),
    ("\\fbox{18}", "18"),
    ("The answer is $\\boxed{18}$, since 3 * 6 = 18.", "18"),
    ("\\boxed{17} and then \\boxed{18}", "18"),
    ("\\boxed{3, 4}", None),
    ("\\boxed{\\sqrt{16}}", None),
    ("\\boxed{\\frac{\\pi}{2}}", None),
    ("\\boxed{}", None),
    ("It is 18. \\boxed{\\text{none}}", None),
    ("\\boxed{18", None),
    # no marker
    ("She has 18 apples.", "18"),
    ("There are 3 boxes and 18 apples", None),
    ("48/2 = <<48/2=24>>24 clips\n48+24 = <<48+24=72>>72 clips", "72"),
    ("He has 3*6 = <<3*6=18>> apples", "18"),
    ("He jogs 10 x 5 = <<10*5=50>>50 miles for 5 days.", "50"),
    ("Total = 18, so each of the 2 gets 9.", "9"),
    ("He finishes 18 pages on the 3rd day", "18"),
    ("It was 16-12=4", "4"),
    ("18\nThat is all.", "18"),
    ("from 10-18", None),
    ("( 8.0 - 7.0 )", None),
    ("8 * 7", None),
    ("8 * 7 = 56", "56"),
    ("The 2 of them: 18!", "18"),
    ("version 1.2.3", "6/5"),
]


def question(gold: str, **values: Any) -> Question:
    return Question("0", "rows.jsonl:1", [{"role": "user", "content": "How many?"}], gold, values)


def context() -> CurationContext:
    arguments: Any = (None, Path(), None, None, None, 1, True, print, None)
    return CurationContext(*arguments)


def verdict(gold: str, answer: str, **options: Any) -> Any:
    judge = numeric.open_judge(numeric.Options(**options), context())
    return judge([(question(gold), answer)])[0]


def test_there_are_enough_cases() -> None:
    assert len(NUMBERS) >= 120
    assert len({text for text, _ in NUMBERS}) == len(NUMBERS)


@pytest.mark.parametrize(("text", "expected"), NUMBERS, ids=lambda value: repr(value)[:40])
def test_final_number(text: str, expected: str | None) -> None:
    reading = read_final_number(text)
    assert reading.value == (None if expected is None else Fraction(expected))
    assert reading.text


@pytest.mark.parametrize(
    ("gold", "answer", "accepted"),
    [
        ("#### 18", "The answer is 18.00.", True),
        ("18", "$18", True),
        ("50%", "50", True),
        ("50", "50%", True),
        ("50%", "0.5", False),
        ("0.5", "50%", False),
        ("0.75", "3/4", True),
        ("4", "$4 million", True),
        ("4000000", "$4 million", True),
        ("4 million", "4", True),
        ("4 million", "4,000,000", True),
        ("4 million", "4 billion", False),
        ("18", "-18", False),
        ("18", "17", False),
        ("18", "18.0000000000000000000000000001", True),  # the last digits of floats
        ("18", "18.00002", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.33333", False),
        ("10000001", "10000000", False),  # whole numbers are equal or not
        ("10000001", "10000000.0", False),
        ("0", "0.0000001", False),
        ("330", "5 hours 30 minutes", True),
        ("5.5", "5 hours 30 minutes", True),
        ("5", "5 hours 30 minutes", False),
        ("5 hours 30 minutes", "330", True),
        ("9007199254740993", "9007199254740992", False),  # equal as floats
        ("0.1", "0.1000000000000000055511151231257827", True),
        ("18", "no idea", False),
        ("no idea", "18", False),
        ("no idea", "no idea", False),
    ],
)
def test_verdicts(gold: str, answer: str, accepted: bool) -> None:
    assert verdict(gold, answer).accepted is accepted


def test_reasons_can_be_checked() -> None:
    assert verdict("#### 18", "A: 17").reason == "got 17, gold is 18"
    assert "no final number" in verdict("18", "none").reason
    assert "an expression" in verdict("18", "The answer is 9 * 2.").reason
    assert verdict("who knows", "18").reason == "gold has no final number (no number)"


def test_without_tolerance_numbers_are_equal_or_not() -> None:
    assert not verdict("0.1", "0.1000000000000000055511151231257827", tolerance=0.0).accepted
    assert not verdict("1/3", "0.3333333333", tolerance=0.0).accepted
    assert verdict("1/3", "2/6", tolerance=0.0).accepted
    assert verdict("100", "101", tolerance=0.01).accepted


def test_tolerance_is_relative_to_gold() -> None:
    assert not verdict("266.6666", "266.67").accepted
    assert verdict("266.6666", "266.67", tolerance=1e-3).accepted
    assert verdict("-100", "-101", tolerance=0.01).accepted
    assert not verdict("-100", "-101.001", tolerance=0.01).accepted
    assert not verdict("0", "0.0001", tolerance=0.5).accepted


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (18, "18"),
        (4.0, "4"),
        (0.1, "1/10"),
        ("1,080", "1080"),
        ("The answer is 3", "3"),
        (None, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        ([3], None),
        ("C", None),
    ],
)
def test_cells(cell: Any, expected: str | None) -> None:
    assert read_cell(cell).value == (None if expected is None else Fraction(expected))


def test_answer_column() -> None:
    options = numeric.Options(answer_column="result")
    assert numeric.columns(options) == ("result",)
    judge = numeric.open_judge(options, context())
    assert judge([(question("ends in 5", result=18), "A: 18")])[0].accepted
    with pytest.raises(UserError, match=r"no column result.*rows.jsonl:1.*results"):
        numeric.check([question("5", results=18)], options, context())


def test_check_refuses_rows_without_numbers() -> None:
    words = question("Paris is the capital")
    numeric.check([words, question("18")], numeric.Options(), context())
    with pytest.raises(UserError, match=r"2 of 3 gold answers.*rows.jsonl:1.*Paris"):
        numeric.check([words, question("18"), words], numeric.Options(), context())
    numeric.check([], numeric.Options(), context())


def test_random_numbers_in_random_dress_are_read_back() -> None:
    generator = random.Random(0)
    dresses = [
        "#### {}",
        "A: {}",
        "The answer is {}.",
        "\\boxed{{{}}}",
        "so it is {} apples",
        "**Answer:** ${}$",
        "x = {}",
    ]
    for _ in range(3000):
        value = Fraction(generator.randint(-(10**9), 10**9), 10 ** generator.randint(0, 4))
        digits = f"{float(abs(value)):,.4f}" if generator.random() < 0.5 else f"{float(abs(value)):.4f}"
        sign = "-" if value < 0 else ""
        written = sign + generator.choice(["", "$"]) + digits
        text = "Of 7 and 9:\n" + generator.choice(dresses).format(written)
        assert read_final_number(text).value == value, text


def test_random_text_never_fails_and_reads_the_same_twice() -> None:
    generator = random.Random(1)
    words = ["####", "A:", "\\boxed{", "answer is ", "\\frac{", "<<", ">>", "½", "e9", "million"]
    pieces = [*"0123456789.,-+$%/ \n#{}()=^*", *words]
    for _ in range(3000):
        text = "".join(generator.choices(pieces, k=generator.randint(0, 40)))
        first = read_final_number(text)
        assert first == read_final_number(text)
        assert first.text or first.value is not None


HOSTILE = [
    "1",
    "1,",
    "1,000",
    "11,22,",
    "-",
    "- ",
    " ",
    "\n",
    "answer ",
    "answer is ",
    "####",
    "#### ",
    "A:\n",
    "\\boxed{",
    "{",
]
HOSTILE += [
    "1/",
    "1 1/",
    "1e",
    "1e9",
    "<<",
    "<<1=",
    "<<1>>",
    "\\frac{1}{",
    "\\frac",
    "$",
    "=",
    "1=",
    "1.",
    ".",
    "1 x 10^",
    "( ",
]
HOSTILE += ["The answer is 1 ", "1 million ", "½", "**", "1:", "Answer:\n", "the answer is\n", "\\text{", "1 or ", "x_"]


def seconds_for(piece: str, size: int) -> float:
    text = "The answer is " + piece * (size // len(piece)) + "!"
    start = time.process_time()
    read_final_number(text)
    return time.process_time() - start


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_long_hostile_texts_are_read_in_linear_time(piece: str) -> None:
    assert seconds_for(piece, 100_000) < 2.0  # about 0.05 s; quadratic time would be minutes


def test_a_megabyte_of_hostile_text() -> None:
    assert (
        max(seconds_for(piece, 1_000_000) for piece in ("answer ", "11,22,", "1 1/", " ", "\\boxed{")) < 10.0
    )  # about 1 s


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_a_megabyte_of_anything(piece: str) -> None:
    assert seconds_for(piece, 1_000_000) < 10.0
