"""English number words: eighteen, twenty-five, one hundred and five, two thousand, minus four, a dozen."""

from __future__ import annotations

import re

_SMALL = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
SMALL_NUMBERS = {word: str(number) for word, number in (_SMALL | _TENS).items()}
_LARGE = {"hundred": 100, "dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ANY = "|".join([*_SMALL, *_TENS, *_LARGE])
NUMBER_WORDS = re.compile(
    rf"(?P<sign>(?:minus|negative) )?(?P<words>(?:an? )?\b(?:{_ANY})(?:(?: and |[ -])(?:{_ANY}))*)\b(?! half| quarter)",
    re.IGNORECASE,
)


def read_number_words(match: re.Match[str]) -> int | None:
    """The number of a match of NUMBER_WORDS, or None where the words make none: five six."""
    total, current, last = 0, 0, ""
    for word in re.findall(r"[a-z]+", match["words"].lower()):
        if word in ("and", "a", "an"):
            continue
        if word in _SMALL:
            if last in _SMALL or (last in _TENS and not 0 < _SMALL[word] < 10):
                return None
            current += _SMALL[word]
        elif word in _TENS:
            if last in _SMALL or last in _TENS:
                return None
            current += _TENS[word]
        elif word in ("hundred", "dozen"):
            current = max(1, current) * _LARGE[word]
        else:
            if total and total < _LARGE[word]:
                return None
            total, current = total + max(1, current) * _LARGE[word], 0
        last = word
    return -(total + current) if match["sign"] else total + current
