"""Numbers as people and models write them, found in text and read exactly. Nothing is ever evaluated.

Read: 18, 18.00, .5, 1,000, 12,34,567, 1{,}000, digits of any script, $18.50, -$5, $-5, USD 18, 3/4, 1 1/2, 1½,
\\frac{3}{4}, 1\\frac{1}{2}, 1.5e-3, 3 x 10^5, 10^3, 50% (a percent sign is a unit: 50% is 50, not 0.5). Signs: -, the
Unicode minus, `minus`, `negative` and their like in other languages where nothing stands before from which it is taken away.
Multipliers: 18k, 2M, $5m, $4bn; 1.5 million, 3 dozen, 5 lakh, 3万, 2 Millionen (words scale the number, but may be the
question's unit: both readings are kept). Any other word behind a number is a unit and is ignored.
An amount of two units is one number with a reading in each: 5 hours 30 minutes is 330 and 5.5.
Found, but without a value: clock times and ratios (3:30), dates (1/2/2020), ranges (10-12, 10 to 12), bounds (> 18, more
than 18), a zero denominator, what can be read in two ways (number_locales.py), more than 400 digits, an exponent beyond
400. Not numbers: digits that belong to a word (H2O), an exponent (m^2) or an index (x_1).
How other countries write numbers: number_locales.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from sftgo_cli.curation.amounts import compound
from sftgo_cli.curation.number_locales import AMBIGUOUS

MAX_DIGITS = 400
_SCALES = {
    100: "hundred|hundert|सौ",
    12: "dozens?",
    10**3: "thousands?|tausend|mille|mila|тысяч[аи]?|тыс\\.?|tsd\\.?|हज़ार|हजार|千|천",
    10**4: "[万萬만]",
    10**5: "lakhs?|लाख",
    10
    ** 6: "millions?|millionen|mio\\.?|mln\\.?|millones|millón|milioni|milione|milhões|milhão|миллион(?:а|ов)?|млн\\.?|百万",
    10**7: "crores?|करोड़",
    10**8: "[亿億억]",
    10**9: "billions?|milliarden?|mrd\\.?|milliards?|miliardi|миллиард(?:а|ов)?|млрд\\.?",
    10**12: "trillions?",
}
_SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9, "mn": 10**6, "mm": 10**6, "bn": 10**9, "t": 10**12}

_NUMBER = re.compile(
    r"(?P<sign>[-+](?![-+]))?(?P<currency>[$€£¥₹] ?)?(?P<inner_sign>[-+])?"
    r"(?:(?P<whole>[0-9]{1,3}(?:,[0-9]{3}){1,200}(?![0-9])|[0-9]{1,2}(?:,[0-9]{2}){1,6},[0-9]{3}(?![0-9])|[0-9]+)"
    r"(?P<decimal>\.[0-9]+)?|(?P<bare>\.[0-9]+))"
    r"(?:[eE](?P<exponent>[-+]?[0-9]+)| ?[*×x] ?10 ?(?:\^|\*\*) ?\{? ?(?P<ten>[-+]?[0-9]+) ?\}?)?"
)
_POWER_OF_TEN = re.compile(r"\^ ?\{? ?([-+]?[0-9]{1,4}) ?\}?(?![0-9])")
_OVER = re.compile(r" ?/ ?([0-9]+)(?![0-9.,]*[0-9])")
_AND_A_HALF = re.compile(r" and (?:an?|one)[ -](?P<part>half|third|quarter)\b", re.IGNORECASE)
_PARTS = {"half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4)}
_MIXED = re.compile(r" {1,2}(?:and )?([0-9]{1,4}) ?/ ?([0-9]{1,4})(?![0-9/])")
_PERCENT = re.compile(r" ?%| per ?cent\b", re.IGNORECASE)
_SCALE = re.compile(
    "|".join(rf"(?P<s{size}>[ -]?(?:{words}))" for size, words in _SCALES.items()) + r"(?![a-zà-ÿ])", re.IGNORECASE
)
_SUFFIX = re.compile(
    r"(?:(?P<attached>[kKMB]|(?: ?(?:bn|mn))|[kmb](?= (?:dollars|euros|pounds|people)\b)| ?[kKM](?=[€$£]))|"
    r"(?P<paid> ?(?:[kKmMbBT]|bn|mn|mm)))(?![\w'/^²³])"
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_NO_VALUE = re.compile(r"(?:[:/][0-9]+)+|,[0-9]{1,2}(?![0-9])")  # a clock time, a ratio, a date
_DIGIT_RANGE = re.compile(r" ?[-~] ?[$€£¥₹]?(?P<to>[0-9][0-9.,]*)(?:-[0-9]+)?(?![0-9]| ?[=×*/])")
_WORD_RANGE = re.compile(
    r"(?P<unit>(?: [^\W\d]+){0,2}) (?:to|bis|à|a|до|do) (?:about |up to )?[$€£¥₹]?(?P<to>[0-9][0-9.,]*)"
    r"(?! ?[=×*/+^-] ?[0-9])(?P<unit2>(?: [^\W\d]+){0,2})",
    re.IGNORECASE,
)
_SHARE = re.compile(r"(?: [^\W\d]+)? out of (?:the |every )?[0-9]+| in [0-9]+(?=\s*(?:$|[.!,](?:\s|$)|chance))")
_PLUS_MINUS = re.compile(r" ?(?:±|\+/-|\+-) ?[0-9]")
_CENTS = re.compile(r",? (?:and )?([0-9]{1,2}) (?:cents?|pence)\b", re.IGNORECASE)
_CURRENCY_CODE = re.compile(r"(?:^|[^A-Za-z])(?:USD|US|EUR|GBP|CAD|AUD|INR|CHF|JPY|CNY|RMB|Rs|RM)$")
_MINUS_WORD = re.compile(
    r"(?P<before>\S?)[ ]*(?:\b(?:minus|negative|moins|menos|meno|минус|eksi|minus\.)\b[ ]|[负負]|マイナス)[$€£¥₹]?$",
    re.IGNORECASE,
)
_NOTHING_TO_TAKE_FROM = re.compile(
    r"(?:^|[.,:;!?=(\[{*_`\"'\n$>≈]|\b(?:is|are|was|were|be|equals?|to|of|about|at|answer|result|than|by|or|and|it'?s|"
    r"ist|est|es|è|é|lautet|i\.e|[a-z] ?=|from|get|got|gets|gives?|have|has|exactly|just|also|only|therefore|so|thus|"
    r"равен|равно))\s*$|[是为は은는]\s*$",
    re.IGNORECASE,
)
_BELOW_ZERO = re.compile(r" ?°? ?(?:degrees? ?)?(?:[CF]\b|Celsius|Fahrenheit)? ?below (?:zero|0)\b", re.IGNORECASE)
_BOUND = re.compile(
    r"(?:(?:(?<![<>])[<>≤≥]|\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|other) than|exceed(?:s|"
    r"ing)?|over|"
    r"under|above|below|beyond|almost|nearly|plus de|moins de|mehr als|weniger als|más de|"
    r"menos de)\b) ?)(?:about )?[$€£¥₹]?$",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\b(?:between|zwischen|entre|tra|fra|między|между|tussen) [$€£¥₹]?$", re.IGNORECASE)
_ONE_UNIT_BEFORE = re.compile(
    r"\b(?:an?|one|half an) (?:hour|day|week|minute|year|month|foot|yard|mile|pound|dollar|gallon|kilo|meter|"
    r"metre)(?:,| and|, and) $",
    re.IGNORECASE,
)
_AND = re.compile(r"(?: [^\W\d]+){0,2} (?:and|und|et|y|e|i|и|en) [$€£¥₹]?[0-9][0-9.,]*", re.IGNORECASE)
_TWO_SIDED = re.compile(
    r"(?: [^\W\d]+){0,2},? (?:but|and|or) (?:at most|at least|(?:no|not) more|less|fewer|more|under|over)\b",
    re.IGNORECASE,
)
LOOK_BACK = 40


@dataclass(frozen=True)
class WrittenNumber:
    """A number in a text: where it stands (sign, currency, percent and scale word included), and its exact value."""

    start: int
    end: int
    value: Fraction | None  # None: written like a number, but without a value of its own
    text: str
    ordinal: bool = False
    others: tuple[Fraction, ...] = ()  # further readings: 4 of `4 million`, 5.5 of `5 hours 30 minutes`
    bounded: bool = False  # > 18, more than 18: what is compared with it is not said


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
    if before[-1].isalpha() and before[-1] < "\u0900":  # beyond, scripts that write no spaces begin
        return match["currency"] is None and not _CURRENCY_CODE.search(text, max(0, at - 5), at)
    return before[-1] == "." and before[:1].isdigit()


def _sign(text: str, match: re.Match[str]) -> tuple[int, int]:
    """-1 or 1, and where the number begins; a hyphen behind a word, a number or a bracket joins or subtracts: 16-12."""
    start = match.start()
    if match["sign"] and start and (text[start - 1].isalnum() or text[start - 1] in ")]}%°"):
        return (-1 if match["inner_sign"] == "-" else 1), start + 1
    negative = (match["sign"] == "-") != (match["inner_sign"] == "-")
    if not match["sign"] and not match["inner_sign"]:
        word = _MINUS_WORD.search(text, max(0, start - 14), start)
        if word:
            at = word.start() + len(word["before"])
            if _NOTHING_TO_TAKE_FROM.search(text[max(0, at - LOOK_BACK) : at].rstrip(" ")):
                return -1, at
    return (-1 if negative else 1), start


def _read(text: str, match: re.Match[str], stop: int) -> WrittenNumber:
    sign, start = _sign(text, match)
    value, end = _decimal(match), match.end()
    is_whole = not (match["decimal"] or match["bare"] or match["exponent"] or match["ten"])
    if (
        is_whole
        and value == 10
        and (power := _POWER_OF_TEN.match(text, end, stop))
        and abs(int(power[1])) <= MAX_DIGITS
    ):
        value, end, is_whole = Fraction(10) ** int(power[1]), power.end(), False
    if is_whole and value is not None:
        value, end = _with_fraction(text, value, end, stop)
    without = _without_value(text, match, end, stop)
    if without is not None:
        return WrittenNumber(start, without, None, text[start : min(without, start + 60)])
    digits = match.start("whole") if match["whole"] else match.start("bare")
    amount = compound(text, digits, stop) if is_whole and not match["currency"] else None
    if amount is None and match["currency"] and value is not None and (cents := _CENTS.match(text, end, stop)):
        amount = (value + Fraction(int(cents[1]), 100), 100 * value + int(cents[1])), cents.end()
    if amount is not None:
        first, *more = (sign * reading for reading in amount[0])
        return WrittenNumber(start, amount[1], first, text[start : min(amount[1], start + 60)], others=tuple(more))
    value = None if value is None else sign * value
    value, others, end = _scaled(text, match, value, end, stop)
    if value is not None and (below := _BELOW_ZERO.match(text, end, stop)):
        value, end = -abs(value), below.end()
    ordinal = is_whole and _ORDINAL.match(text, end, stop) is not None
    bounded = _is_bounded(text, start)
    return WrittenNumber(start, end, value, text[start : min(end, start + 60)], ordinal, others, bounded)


def _is_bounded(text: str, start: int) -> bool:
    """Whether the number is what another one is compared with: > 18, more than 18."""
    before = text[max(0, start - LOOK_BACK) : start]
    return _BOUND.search(before) is not None


def _without_value(text: str, match: re.Match[str], end: int, stop: int) -> int | None:
    """Where something ends that is written with this number, but is none: a time, a date, a range, two readings."""
    more = _NO_VALUE.match(text, end, stop)
    if more or _after_colon(text, match):
        return more.end() if more else end
    if text[max(0, match.start() - 2) : match.start()].rstrip(" ").endswith("±"):
        return end
    if text[end : end + 1] == AMBIGUOUS:
        return end + 1
    if (share := _SHARE.match(text, end, stop)) is not None:
        return share.end()
    if (margin := _PLUS_MINUS.match(text, end, stop)) is not None:
        return margin.end()
    digits = _DIGIT_RANGE.match(text, end, stop)
    if digits and not (" " in digits[0] and "-" in digits[0]):
        return digits.end()
    if (sides := _TWO_SIDED.match(text, end, stop)) is not None:
        return sides.end()
    if _BETWEEN.search(text, max(0, match.start() - LOOK_BACK), match.start()) and (
        and_ := _AND.match(text, end, stop)
    ):
        return and_.end()
    if _ONE_UNIT_BEFORE.search(text, max(0, match.start() - LOOK_BACK), match.start()):
        return end
    words = _WORD_RANGE.match(text, end, stop)
    if words and (not words["unit"] or words["unit"].strip()[:4] == words["unit2"].strip()[:4]):
        return words.end("to")
    return None


def _scaled(
    text: str, match: re.Match[str], value: Fraction | None, end: int, stop: int
) -> tuple[Fraction | None, tuple[Fraction, ...], int]:
    """The value with the multiplier behind it, other readings, and where it ends (a percent sign is passed over)."""
    percent = _PERCENT.match(text, end, stop)
    if percent:
        return value, (), percent.end()
    scale = _SCALE.match(text, end, stop)
    if scale:
        size = int(str(scale.lastgroup)[1:])
        if (more := _SCALE.match(text, scale.end(), stop)) is not None:  # 18 hundred thousand
            return None, (), more.end()
        return (None, (), scale.end()) if value is None else (value * size, (value,), scale.end())
    suffix = _SUFFIX.match(text, end, stop)
    if suffix and (suffix["attached"] or match["currency"]):
        size = _SUFFIXES[suffix[0].strip().lower()]
        return (None if value is None else value * size), (), suffix.end()
    return value, (), end


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
    half = _AND_A_HALF.match(text, end, stop)
    if half:
        return whole + _PARTS[half["part"].lower()], half.end()
    mixed = _MIXED.match(text, end, stop)
    if mixed and int(mixed[1]) < int(mixed[2]):
        return whole + Fraction(int(mixed[1]), int(mixed[2])), mixed.end()
    over = _OVER.match(text, end, stop)
    if over is None:
        return whole, end
    if len(over[1]) > MAX_DIGITS or int(over[1]) == 0:
        return None, over.end()
    return whole / int(over[1]), over.end()
