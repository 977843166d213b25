"""What an unquoted YAML scalar means: `1e-5` is a number, `no` and `2024-01-01` are texts, only true and false bools.

This is YAML 1.2's core schema, with `1_000` also read as a number. PyYAML follows YAML 1.1, where `1e-5` is a text and
`no` is false; neither is what a person means.
"""

from __future__ import annotations

import re

from sftgo_cli.recipe.node import Scalar

NULL = re.compile(r"(?:~|null|Null|NULL|)")
BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
INT = re.compile(r"(?:[-+]?[0-9]+(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+)")
FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
MAX_DIGITS = 300  # longer runs of digits are no number a recipe needs, and int() of them is slow


def scalar(text: str) -> Scalar:
    """The value of an unquoted scalar."""
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) > MAX_DIGITS:
        return text
    if INT.fullmatch(text):
        return _whole(text)
    if FLOAT.fullmatch(text):
        return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _whole(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:], 16)
    if text.startswith("0o"):
        return int(text[2:], 8)
    return int(text)
