"""Amounts of two units, `5 hours 30 minutes`: one quantity, read in either unit, never its first number alone."""

from __future__ import annotations

import re
from fractions import Fraction

# units of one kind in their order, each with how many of the smallest it is
_KINDS: tuple[tuple[tuple[str, int], ...], ...] = (
    (
        (r"years?|yrs?|jahre?n?|ans?|años?|anni|anos?", 12),
        (r"months?|mos?|monate?n?|mois|mes(?:es)?|mesi", 1),
    ),
    (
        (r"weeks?|wks?|wochen?|semaines?|semanas?|settimane", 7 * 24 * 3600),
        (r"days?|tage?n?|jours?|días?|dias?|giorni", 24 * 3600),
        (r"hours?|hrs?|h|stunden?|std|heures?|horas?|ore|uur|час\w*|小时|時間|시간|घंटे", 3600),
        (r"minutes?|mins?|m|minuten|minutos?|minuti|минут\w*|分钟|分|분|मिनट", 60),
        (r"seconds?|secs?|s|sekunden?|secondes?|segundos?|секунд\w*|秒", 1),
    ),
    ((r"miles?|mi", 63360), (r"yards?|yds?", 36), (r"feet|foot|ft|'", 12), (r"inch(?:es)?|in|\"|''", 1)),
    (
        (r"kilometers?|kilometres?|km", 1_000_000),
        (r"meters?|metres?|m", 1000),
        (r"centimeters?|centimetres?|cm", 10),
        (r"millimeters?|millimetres?|mm", 1),
    ),
    ((r"pounds?|lbs?", 16), (r"ounces?|oz", 1)),
    ((r"kilograms?|kilos?|kgs?", 1000), (r"grams?|g", 1)),
    ((r"gallons?|gal", 16), (r"quarts?|qts?", 4), (r"pints?|pts?", 2), (r"cups?", 1)),
    ((r"lit(?:er|re)s?|l", 1000), (r"millilit(?:er|re)s?|ml", 1)),
    ((r"dollars?|euros?|bucks?|pounds?|reais|rupees?", 100), (r"cents?|pence|p|centavos?|paise|centimes?", 1)),
)
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_JOINED = r"\.?,? {0,2}(?:and |und |et |y |e |и )?"
_END = r"(?![A-Za-zÀ-ɏ0-9])"


def _patterns() -> list[tuple[re.Pattern[str], tuple[int, ...]]]:
    """Each kind's amounts of two or three of its units, larger ones first."""
    found = []
    for kind in _KINDS:
        for first in range(len(kind)):
            for second in range(first + 1, len(kind)):
                for third in [None, *range(second + 1, len(kind))]:
                    places = [first, second] if third is None else [first, second, third]
                    parts = [rf"{_NUMBER}[ -]?(?:{kind[place][0]})" for place in places]
                    pattern = re.compile(_JOINED.join(parts) + _END, re.IGNORECASE)
                    found.append((pattern, tuple(kind[place][1] for place in places)))
    return sorted(found, key=lambda one: -len(one[1]))


_AMOUNTS = _patterns()
_BARE = re.compile(r"([0-9]{1,2}) ?h ?([0-5][0-9])(?![0-9A-Za-z])")  # 5h30
_BEGIN = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?[ -]?[^\W\d_]{0,12}['\"]{0,2}\.?,? {0,2}(?:[^\W\d_]{1,3} )?[0-9]")


def compound(text: str, start: int, stop: int) -> tuple[tuple[Fraction, ...], int] | None:
    """The readings of an amount of several units that begins at `start`, smallest unit first, and where it ends."""
    if not _BEGIN.match(text, start, stop):
        return None
    bare = _BARE.match(text, start, stop)
    if bare:
        minutes = Fraction(60 * int(bare[1]) + int(bare[2]))
        return (minutes, minutes / 60), bare.end()
    for pattern, sizes in _AMOUNTS:
        match = pattern.match(text, start, stop)
        if match:
            total = sum(
                (Fraction(number) * size for number, size in zip(match.groups(), sizes, strict=True)), Fraction(0)
            )
            return tuple(total / size for size in reversed(sizes)), match.end()
    return None
