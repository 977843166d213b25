"""GSM8K's annotated calculations: the arithmetic parser against Python's own parser and exact fractions."""

from __future__ import annotations

import ast
import operator
import random
import time
from fractions import Fraction

import pytest

from sftgo_cli.curation.equations import check_calculations, equation_list, value_of

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def reference(node: ast.expr) -> Fraction:
    """The value of a Python expression of whole numbers, exactly."""
    if isinstance(node, ast.Constant):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp):
        value = reference(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    assert isinstance(node, ast.BinOp)
    return OPERATIONS[type(node.op)](reference(node.left), reference(node.right))


def random_expression(generator: random.Random, depth: int) -> str:
    if depth == 0 or generator.random() < 0.2:
        return str(generator.randint(0, 30))
    left, right = random_expression(generator, depth - 1), random_expression(generator, depth - 1)
    text = f"{left}{generator.choice([' ', ''])}{generator.choice('+-*/')}{right}"
    return generator.choice([text, f"({text})", f"-({text})"])


def test_values_agree_with_python_grammar() -> None:
    generator = random.Random(0)
    for _ in range(2000):
        text = random_expression(generator, 4)
        try:
            expected: Fraction | None = reference(ast.parse(text, mode="eval").body)
        except ZeroDivisionError:
            expected = None
        assert value_of(text) == expected, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48/2", "24"),
        ("200*40*.01", "80"),
        ("1,000+1", "1001"),
        ("$5*3", "15"),
        ("20%*50", "10"),
        ("50 %", "1/2"),
        ("3 x 4", "12"),
        ("3×4÷2", "6"),
        ("5 − 7", "-2"),
        ("--3", "3"),
        ("+2", "2"),
        ("2(3)", "6"),
        ("560//10", "56"),
        ("7//2", "3"),
        ("-7//2", "-4"),
        ("5.", "5"),
        ("1/0", None),
        ("1//0", None),
        ("1/(2-2)", None),
        ("", None),
        ("1+", None),
        ("(1", None),
        ("1)", None),
        ("1 2", None),
        ("2**3", None),
        ("2^3", None),
        ("1e5", None),
        ("__import__('os')", None),
        ("a+b", None),
        ("1;2", None),
        ("9**9**9**9", None),
    ],
)
def test_values(text: str, expected: str | None) -> None:
    assert value_of(text) == (None if expected is None else Fraction(expected))


def test_calculations_of_a_text() -> None:
    text = (
        "48/2 = << 48 / 2 = 24 >>24, then $<<24+48=71>>71, 1/3 is <<1/3=0.333>>0.333 and <<6=6>> <<1/0=0>> <<5>> <<=>>"
    )
    assert equation_list(text) == ["48/2=24", "24+48=71", "1/3=0.333", "6=6", "1/0=0", "5", "="]
    assert [right for _, right in check_calculations(text)] == [True, False, True, True, False, False, False]
    assert check_calculations("no annotation, 2+2=5") == []
    assert check_calculations("cut off <<2+2=") == []


def test_tolerance_is_absolute_and_counts_every_side() -> None:
    assert check_calculations("<<1/3=0.332>>") == [("1/3=0.332", False)]  # off by 0.00133
    assert check_calculations("<<1/3=0.3324>>") == [("1/3=0.3324", True)]  # off by 0.00093
    assert check_calculations("<<1/3=0.33>>", tolerance=0.01) == [("1/3=0.33", True)]
    assert check_calculations("<<1+1=2=3>>")[0][1] is False
    assert check_calculations("<<1+1=2=4/2>>")[0][1] is True


def test_limits_of_depth_and_size() -> None:
    assert value_of("(" * 40 + "1" + ")" * 40) == 1
    assert value_of("(" * 400 + "1" + ")" * 400) is None
    assert value_of("+".join(["1"] * 501)) is None
    assert check_calculations(f"<<{'1+' * 600}1=601>>")[0][1] is False
    start = time.process_time()
    for piece in ("<<", "<<1", "(", "-", "1+", "<<1=", ">>", "<<1=1>>"):
        check_calculations(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 20.0  # about 1 s
