"""GSM8K's annotated calculations `<<48/2=24>>`, checked by a small arithmetic parser; nothing is ever evaluated by Python.

    right = |left - right side| <= tolerance        of every two neighboring sides of an annotation; exact rationals

Read: + - * / ( ), // as Python rounds it (two of GSM8K's 23,716 calculations), also x and the multiplication and division
signs; signs before a number; decimals; thousands commas; percent (20% is 0.2); currency signs. Anything else, a division
by zero, an annotation without `=`, one of more than 1,000 characters or nested deeper than 50 is wrong, never an error.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

MAX_CHARACTERS = 1000
MAX_DEPTH = 50
RFT_TOLERANCE = 1e-3

_ANNOTATION = re.compile(r"<<([^<>]*)>>")
_TOKEN = re.compile(r"\s*(?:(?P<number>[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?P<percent>\s?%)?|(?P<sign>//|[-+*/()]))")
_SPELLINGS = str.maketrans(
    {"−": "-", "–": "-", "×": "*", "x": "*", "X": "*", "·": "*", "÷": "/"} | dict.fromkeys("$€£¥₹", "")
)


class _Wrong(Exception):
    """Not an arithmetic expression, or one without a value."""


def equation_list(text: str) -> list[str]:
    """The annotations of a text in order, white space removed: RFT's key of a reasoning path (arXiv 2308.01825, 3.3)."""
    return ["".join(match[1].split()) for match in _ANNOTATION.finditer(text)]


def check_calculations(text: str, tolerance: float = RFT_TOLERANCE) -> list[tuple[str, bool]]:
    """Each annotation of a text, as in `equation_list`, and whether it is right within `tolerance` (absolute).

    RFT keeps a path only if all are right within 1e-3 (arXiv 2308.01825). A text without annotations has none that is wrong.
    """
    limit = Fraction(repr(float(tolerance)))
    return [(equation, _is_right(equation, limit)) for equation in equation_list(text)]


def value_of(expression: str) -> Fraction | None:
    """The exact value of an arithmetic expression, or None where it has none."""
    if len(expression) > MAX_CHARACTERS:
        return None
    try:
        tokens = _tokens(expression.translate(_SPELLINGS))
        value, end = _sum(tokens, 0, 0)
    except _Wrong:
        return None
    return value if end == len(tokens) else None


def _is_right(equation: str, limit: Fraction) -> bool:
    if len(equation) > MAX_CHARACTERS:
        return False
    values = [value_of(side) for side in equation.split("=")]
    if len(values) < 2:
        return False
    pairs = pairwise(values)
    return all(left is not None and right is not None and abs(left - right) <= limit for left, right in pairs)


def _tokens(text: str) -> list[Fraction | str]:
    """Numbers and signs. Raises _Wrong at anything else."""
    tokens: list[Fraction | str] = []
    position, text = 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _Wrong
        if match["number"]:
            number = Fraction(match["number"].replace(",", "").removesuffix("."))
            tokens.append(number / 100 if match["percent"] else number)
        else:
            tokens.append(match["sign"])
        position = match.end()
    return tokens


def _sum(tokens: list[Fraction | str], at: int, depth: int) -> tuple[Fraction, int]:
    """Products joined by + and -, from token `at` on; the value and the token behind it."""
    value, at = _product(tokens, at, depth)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        sign = tokens[at]
        term, at = _product(tokens, at + 1, depth)
        value = value + term if sign == "+" else value - term
    return value, at


def _product(tokens: list[Fraction | str], at: int, depth: int) -> tuple[Fraction, int]:
    """Factors joined by *, /, // or nothing before a bracket: 300(.30), (2)(3)."""
    value, at = _factor(tokens, at, depth)
    while at < len(tokens) and tokens[at] in ("*", "/", "//", "("):
        sign = tokens[at]
        factor, at = _factor(tokens, at if sign == "(" else at + 1, depth)
        if sign in ("/", "//"):
            if factor == 0:
                raise _Wrong
            value = value / factor if sign == "/" else Fraction(value // factor)
        else:
            value *= factor
    return value, at


def _factor(tokens: list[Fraction | str], at: int, depth: int) -> tuple[Fraction, int]:
    negative = False
    while at < len(tokens) and tokens[at] in ("+", "-"):
        negative ^= tokens[at] == "-"
        at += 1
    if at == len(tokens) or depth > MAX_DEPTH:
        raise _Wrong
    token = tokens[at]
    if token == "(":
        value, at = _sum(tokens, at + 1, depth + 1)
        if at == len(tokens) or tokens[at] != ")":
            raise _Wrong
    elif isinstance(token, Fraction):
        value = token
    else:
        raise _Wrong
    return (-value if negative else value), at + 1
