"""The words of a short answer, with the signs that carry meaning: what the judges compare texts by.

SQuAD's normalization (accepted_answers.py) takes `10.5` for `105`, `-5` for `5`, `C++` for `C`. Here [R]:

    case, white space, quotes, markdown, sentence punctuation and articles do not count, as there
    numbers keep their point, sign, slash, colon and exponent; thousands commas go: 1,000 is 1000, 10.5 is not 105
    operators are words of their own where something stands beside them: C++, C#, A-, a*b, x > 5, 50%, $5, f'(x), [0, 1)
    an article counts where it can be a name: vitamin A, plan A
    a hyphen between words is a space; `&` is `and`, `percent` is `%`; NFKC: full-width, H₂O
"""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass

_DASHES = dict.fromkeys("−‐‑‒–—﹣－", "-")
_QUOTES = dict.fromkeys("’‘ʼ´", "'") | dict.fromkeys("“”„«»", '"')
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", (f"^{sign}" for sign in "0123456789-"), strict=True))
_LETTERS = str.maketrans(
    _DASHES
    | _QUOTES
    | _SUPERSCRIPTS
    | dict.fromkeys("™®©\u200b\u200c\u200d\ufeff\ufe0f", "")
    | {"≥": ">=", "≤": "<=", "≠": "!=", "×": "*", "÷": "/", "⁄": "/", "\u00a0": " "}
)


def _marks() -> str:
    """A character class of all combining marks, which belong to the word that they stand in."""
    codes = [code for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M")]
    ranges, first = [], codes[0]
    for before, code in zip(codes, [*codes[1:], sys.maxunicode], strict=True):
        if code != before + 1:
            ranges.append(f"\\u{first:04x}-\\u{before:04x}")
            first = code
    return "".join(ranges)


_W = rf"\w{_marks()}"
_TOKEN = re.compile(
    rf"(?P<number>(?<![{_W}])[0-9]+(?:,[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?|(?<![{_W}.])\.[0-9]+|[0-9]+(?:\.[0-9]+)+(?![0-9]))"
    rf"|(?P<word>[{_W}]+(?:(?:(?<![0-9])['.]|['.](?![0-9]))[{_W}]+)*)"
    r"|(?P<two>>=|<=|!=|==|&&|\|\||(?<=\w)--(?![\w-])|(?<![\w-])--(?=\w))"
    r"|(?P<sign>[^\s])"
)
_INTERVAL = re.compile(r"(?P<open>[\[(])\s*[-\w.∞+]+\s*,\s*[-\w.∞+]+\s*(?P<close>[\])])")
_OPERANDS = "([{.$€£√-+!~|'"


@dataclass(frozen=True)
class Word:
    """A word or a sign, as it is compared, and where it stands in the prepared text."""

    text: str
    start: int
    end: int
    is_sign: bool = False


def prepared(text: str) -> str:
    """The text with one spelling for each sign; case is kept."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_LETTERS)).translate(_LETTERS)
    return text


def careful_words(text: str) -> list[Word]:
    """The words and signs of a prepared text that count, in order."""
    brackets = {
        match.start(name) for match in _INTERVAL.finditer(text) for name in ("open", "close") if match[name] in "[]"
    }
    found: list[Word] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        if match["number"]:
            found.append(Word(match[0].replace(",", ""), start, end))
        elif match["word"]:
            found.append(Word(_word(match[0]), start, end))
        elif match["two"] or start in brackets or _counts(text, start):
            found.append(Word("and" if match[0] == "&" else match[0], start, end, is_sign=match[0] != "&"))
    return [word for place, word in enumerate(found) if word.text and not _is_article(text, found, place)]


def careful(text: str) -> str:
    """The careful words of a text, joined by spaces."""
    return " ".join(word.text for word in careful_words(prepared(text)))


def joined(text: str) -> str:
    """The careful words of a text whose hyphens between words are left out: e-mail is email, not e mail."""
    return careful(re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})", "", prepared(text)))


def _word(text: str) -> str:
    """A word without the apostrophes and points inside it, and without markdown's single underscores around it."""
    text = text.casefold()
    if not text.startswith("__"):
        text = text.strip("_").replace("'", "").replace(".", "")
    return "%" if text == "percent" else text


def _is_article(text: str, found: list[Word], place: int) -> bool:
    """Whether a word is an article; a capital A inside a text may be a name, and the last word is one."""
    word = found[place]
    if word.text not in ("a", "an", "the") or place + 1 == len(found) or found[place + 1].is_sign:
        return False
    return word.text != "a" or place == 0 or text[word.start] == "a"


def _counts(text: str, at: int) -> bool:
    """Whether a sign carries meaning where it stands."""
    sign = text[at]
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if not sign.isascii():
        return unicodedata.category(sign).startswith("S") and not (0x2300 <= ord(sign) < 0x2A00 or ord(sign) >= 0x1F000)
    left, right = text[max(0, at - 40) : at].rstrip()[-1:], text[at + 1 : at + 40].lstrip()[:1]
    between = (
        bool(left) and (left.isalnum() or left in ")]}'!") and bool(right) and (right.isalnum() or right in _OPERANDS)
    )
    spaced = (before.isspace() or not before) == (after.isspace() or not after)
    if sign in "=<>%$^|":
        return bool(left or right)
    if sign == "+":
        return bool(left) and (left.isalnum() or left in ")]+") and (not before.isspace() or between)
    if sign == "-":
        return _minus(text, at, before, after, between)
    if sign == "*":
        return (between and spaced) or (before.isalnum() and text.find("*") == text.rfind("*"))
    if sign == "/":
        return (between and spaced) or (not before.strip() and after.isalnum()) or (before in "~." and after.isalnum())
    if sign == "!":
        single = before.isalpha() and not text[at - 2 : at - 1].isalnum()
        return before.isdigit() or single or (not before.isalnum() and after.isalnum())
    if sign == "'":
        quoted = text[at - 2 : at - 1] == "'"
        single = before.isalpha() and not text[at - 2 : at - 1].isalnum() and not quoted and after in ("(", "")
        return (before.isdigit() and after.isdigit()) or (single and at > 0)
    if sign == ":":
        return before.isdigit() and after.isdigit()
    if sign == "#":
        return before.isalnum()
    if sign == ".":
        return not before.strip() and after.isalpha()
    if sign == "&":
        return between
    return (sign in "~@" and after.isalnum()) or (sign == "~" and after == "/")


def _minus(text: str, at: int, before: str, after: str, between: bool) -> bool:
    """A sign before a number or a name, a difference, a range, or a charge or grade behind a short name."""
    if after.isspace() or not after:
        short = re.search(r"(?<![^\W_])(?:[^\W_]{1,2}|[^\W_]*[0-9])$", text[max(0, at - 12) : at]) is not None
        return (
            short
            if not before.isspace()
            else between or (after.isspace() and text[at + 1 : at + 9].lstrip()[:1].isdigit())
        )
    if after.isdigit() or after in ".$€£∞":
        word = re.search(r"[^\W\d_]{2,}$", text[max(0, at - 12) : at])
        return word is None
    if before.isalnum() or before in ")]":
        single = re.search(r"(?<![^\W_])[^\W_]$", text[max(0, at - 2) : at]) is not None
        single_after = re.match(r"[^\W_](?![^\W_])", text[at + 1 : at + 3]) is not None
        return (single and single_after) or before in ")]" or (single and after in "([")
    return (after.isalpha() or after in "([√") and re.match(
        r"[^\W_]{1,2}(?![^\W_])|[(\[√]", text[at + 1 : at + 4]
    ) is not None
