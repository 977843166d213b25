"""Numbers as people and models write them, found in text and read exactly. Nothing is ever evaluated.

Read: 18, 18.00, .5, 1,000, 12,34,567, 1{,}000, full-width digits, signs (- and the Unicode minus), $18.50, -$5, $-5,
USD 18, 3/4, 1 1/2, 1½, \\frac{3}{4}, 1\\frac{1}{2}, 1.5e-3, 3 x 10^5, 50% (a percent sign is a unit: 50% is 50, not 0.5),
1.5 million (thousand to trillion scale the number). Any other word behind a number is a unit and is ignored.
Found, but without a value: clock times and ratios (3:30), dates (1/2/2020), a zero denominator, more than 400 digits, an
exponent beyond 400. Not numbers: digits that belong to a word (H2O), an exponent (m^2) or an index (x_1).
Thousands may be set off by a comma, a LaTeX `\\,` or a no-break or thin space (1 000 with a plain one is two numbers:
`12 200-gram bags`). Not read: number words (eighteen), decimal commas (1,5 is two numbers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 400
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
_VULGAR |= {"⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}
_CHARACTERS = str.maketrans(
    {
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **dict.fromkeys("−﹣-‒–", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u2007", " "),
        **dict(zip(",.:%=/", ",.:%=/", strict=True)),
        **{sign: f" {fraction}" for sign, fraction in _VULGAR.items()},
        **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", (f"^{digit}" for digit in range(10)), strict=True)),
        "⁄": "/",
        "\u200b": "",
    }
)
_GROUP_SPACE = re.compile(r"(?<=[0-9])(?:[\u00a0\u2009\u202f\u2007]|\\,)(?=[0-9]{3}(?![0-9]))")
_RUPEES = re.compile(r"\b[Rr]s\. ?(?=[0-9])")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mathit|operatorname)\s?(?=\{)|\\(?:left|right|displaystyle)\b|\\[!;:]"
)
_DEGREES = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ\b)")
_FRACTION = re.compile(r"([0-9]?)\\[dt]?frac(?:\{\s?([0-9]{1,50})\s?\}\{\s?([0-9]{1,50})\s?\}|([0-9])([0-9]))")
_NUMBER = re.compile(
    r"(?P<sign>[-+])?(?P<currency>[$€£¥₹] ?)?(?P<inner_sign>[-+])?"
    r"(?:(?P<whole>[0-9]{1,3}(?:,[0-9]{3}){1,200}(?![0-9])|[0-9]{1,2}(?:,[0-9]{2}){1,6},[0-9]{3}(?![0-9])|[0-9]+)"
    r"(?P<decimal>\.[0-9]+)?|(?P<bare>\.[0-9]+))"
    r"(?:[eE](?P<exponent>[-+]?[0-9]+)| ?[*×x] ?10 ?(?:\^|\*\*) ?\{? ?(?P<ten>[-+]?[0-9]+) ?\}?)?"
)
_OVER = re.compile(r" ?/ ?([0-9]+)(?![0-9.,]*[0-9])")
_MIXED = re.compile(r" {1,2}(?:and )?([0-9]{1,4}) ?/ ?([0-9]{1,4})(?![0-9/])")
_UNIT = re.compile(r"(?P<percent> ?%| per ?cent\b)|[ -](?P<scale>thousand|million|billion|trillion)\b", re.IGNORECASE)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_NO_VALUE = re.compile(r"(?:[:/][0-9]+)+")  # a clock time, a ratio, a date
_CURRENCY_CODE = re.compile(r"(?:^|[^A-Za-z])(?:USD|US|EUR|GBP|CAD|AUD|INR|Rs|RM)$")


@dataclass(frozen=True)
class WrittenNumber:
    """A number in a text: where it stands (sign, currency, percent and scale word included), and its exact value."""

    start: int
    end: int
    value: Fraction | None  # None: written like a number, but without a value of its own
    text: str
    ordinal: bool = False
    unscaled: Fraction | None = None  # without the scale word, where there is one: 4 of `4 million`


def plain(text: str) -> str:
    """The text with LaTeX and Unicode spellings of numbers replaced by plain ones; one pass per spelling, linear in time."""
    text = _RUPEES.sub("₹", _GROUP_SPACE.sub(",", text).translate(_CHARACTERS))
    if "\\" in text or "{,}" in text:
        text = text.replace("{,}", ",").replace("\\%", "%").replace("\\$", "$").replace("\\ ", " ").replace("\\,", " ")
        text = text.replace("\\times", "×").replace("\\cdot", "×").replace("\\div", "÷").replace("\\approx", "≈")
        text = _WRAPPER.sub("", _DEGREES.sub("°", text))
        text = _FRACTION.sub(_plain_fraction, text)
    return text


def _plain_fraction(match: re.Match[str]) -> str:
    before = f"{match[1]} " if match[1] else ""
    return f"{before}{match[2] or match[4]}/{match[3] or match[5]}"


def first_number(text: str, start: int = 0, stop: int | None = None) -> WrittenNumber | None:
    """The first number of `plain` text that begins in [start, stop)."""
    return next(iter(_numbers(text, start, stop)), None)


def numbers(text: str, start: int = 0, stop: int | None = None) -> list[WrittenNumber]:
    """All numbers of `plain` text that begin in [start, stop), in order."""
    return list(_numbers(text, start, stop))


def _numbers(text: str, start: int, stop: int | None) -> Iterator[WrittenNumber]:
    stop = len(text) if stop is None else stop
    while (match := _NUMBER.search(text, start, stop)) is not None:
        if _inside_word(text, match):
            start = match.end()
            continue
        found = _read(text, match, stop)
        yield found
        start = found.end


def _inside_word(text: str, match: re.Match[str]) -> bool:
    """Whether the digits continue a word, an index or an exponent: H2O, x_1, m^2, version 1.2.3."""
    digits = match.start("whole") if match["whole"] else match.start("bare")
    at = match.start() if match.start() < digits and match["currency"] else digits
    before = text[max(0, at - 2) : at]
    if not before:
        return False
    if before[-1] in "_^" or before in ("^{", "_{", "^-", "^+") or before[-1].isdigit():
        return True
    if before[-1].isalpha():
        return match["currency"] is None and not _CURRENCY_CODE.search(text, max(0, at - 5), at)
    return before[-1] == "." and before[:1].isdigit()


def _sign(text: str, match: re.Match[str]) -> tuple[int, int]:
    """-1 or 1, and where the number begins; a hyphen behind a word, a number or a bracket joins or subtracts: 16-12."""
    start = match.start()
    if match["sign"] and start and (text[start - 1].isalnum() or text[start - 1] in ")]}%°"):
        return (-1 if match["inner_sign"] == "-" else 1), start + 1
    negative = (match["sign"] == "-") != (match["inner_sign"] == "-")
    return (-1 if negative else 1), start


def _read(text: str, match: re.Match[str], stop: int) -> WrittenNumber:
    sign, start = _sign(text, match)
    value, end = _decimal(match), match.end()
    is_whole = not (match["decimal"] or match["bare"] or match["exponent"] or match["ten"])
    if is_whole and value is not None:
        value, end = _with_fraction(text, value, end, stop)
    more = _NO_VALUE.match(text, end, stop)
    if more or _after_colon(text, match):
        value, end = None, more.end() if more else end
    value = None if value is None else sign * value
    unscaled, unit = None, _UNIT.match(text, end, stop)
    if unit:
        end = unit.end()
        if unit["scale"] and value is not None:
            unscaled, value = value, value * SCALES[unit["scale"].lower()]
    ordinal = is_whole and _ORDINAL.match(text, end, stop) is not None
    return WrittenNumber(start, end, value, text[start : min(end, start + 60)], ordinal, unscaled)


def _after_colon(text: str, match: re.Match[str]) -> bool:
    """Whether a number and a colon stand before it, as in a time or a ratio: 3:30."""
    before = text[max(0, match.start() - 2) : match.start()]
    return len(before) == 2 and before[1] == ":" and before[0].isdigit() and match["currency"] is None


def _decimal(match: re.Match[str]) -> Fraction | None:
    whole = (match["whole"] or "0").replace(",", "")
    fraction = (match["decimal"] or match["bare"] or ".0")[1:]
    exponent = match["exponent"] or match["ten"] or "0"
    if len(whole) + len(fraction) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent)) > MAX_DIGITS:
        return None
    return Fraction(int(whole + fraction)) * Fraction(10) ** (int(exponent) - len(fraction))


def _with_fraction(text: str, whole: Fraction, end: int, stop: int) -> tuple[Fraction | None, int]:
    """A whole number together with the fraction behind it: 3/4, 1 1/2; and where they end."""
    mixed = _MIXED.match(text, end, stop)
    if mixed and int(mixed[1]) < int(mixed[2]):
        return whole + Fraction(int(mixed[1]), int(mixed[2])), mixed.end()
    over = _OVER.match(text, end, stop)
    if over is None:
        return whole, end
    if len(over[1]) > MAX_DIGITS or int(over[1]) == 0:
        return None, over.end()
    return whole / int(over[1]), over.end()
