"""Spellings of numbers from LaTeX, Unicode and other countries, replaced by the plain English one: 1'500 -> 1,500.

Read everywhere: digits of any script (१८, １８), 1'500, 1.234.567, 1.234,56, 0,5, 12,50 €, no-break spaces as thousands.
Read only in a text whose words are mostly those of a language that writes decimal commas (German, French, Spanish, ...):
1,5 is 1.5, 1.500 is 1,500, 1 500 is 1,500; and there 1,500 is ambiguous. What stays ambiguous (`3,5` without such words:
a decimal comma or a list; `1.500 €`) is written with a NUL behind it, and has no value.
"""

from __future__ import annotations

import re
import unicodedata

AMBIGUOUS = "\0"  # behind a number that can be read in two ways
_SETTLED = "\1"  # behind one whose comma is known to set off thousands; for this file only

_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
_VULGAR |= {"⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−﹣－‒–‑", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u2007\u3000", " "),
        **dict(zip("，．：％＝／！？（）＋＜＞", ",.:%=/!?()+<>", strict=True)),
        **{sign: f" {fraction}" for sign, fraction in _VULGAR.items()},
        **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", (f"^{digit}" for digit in range(10)), strict=True)),
        **dict.fromkeys("。।", ". "),
        **dict.fromkeys("、；", ", "),
        "⁄": "/",
        "\u200b": "",
        "¢": " cents",
        "…": "...",
        "⩽": "≤",
        "⩾": "≥",
        "’": "'",
        "٫": ".",
        "٬": ",",
        AMBIGUOUS: " ",
        _SETTLED: " ",
    }
)
_GROUP_SPACE = re.compile(r"(?<=[0-9])(?:[\u00a0\u2009\u202f\u2007]|\\,)(?=[0-9]{3}(?![0-9]))")
_RUPEES = re.compile(r"\b[Rr]s\.? ?(?=[0-9])")
_REAIS = re.compile(r"\b(?:R|US|A|C|AU|CA|NZ|HK|S)\$")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname|bf|rm)\s?(?=\{)|\\(?:left|right|displaystyle|quad)\b|\\[!;:]"
)
_DEGREES = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ\b)")
_FRACTION = re.compile(r"([0-9]?)\\[dt]?frac(?:\{\s?([0-9]{1,50})\s?\}\{\s?([0-9]{1,50})\s?\}|([0-9])([0-9]))")
_COMMANDS = {
    "{,}": ",",
    "\\%": "%",
    "\\$": "$",
    "\\ ": " ",
    "\\,": " ",
    "\\times": "×",
    "\\cdot": "×",
    "\\div": "÷",
    "\\approx": "≈",
    "\\neq": "≠",
    "\\geq": "≥",
    "\\leq": "≤",
    "\\pm": "±",
    "\\euro": "€",
    "\\pounds": "£",
    "\\sim": "≈",
}
_SHORT_COMMANDS = re.compile(r"\\(ne|ge|le|gt|lt|to)(?![a-z])")
_SHORT = {"ne": "≠", "ge": "≥", "le": "≤", "gt": ">", "lt": "<", "to": "→"}

_APOSTROPHES = re.compile(r"(?<![0-9'])[0-9]{1,3}(?:'[0-9]{3})+(?![0-9'])")
_DOTS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:\.[0-9]{3}){2,}(?:,[0-9]+)?(?![0-9]|[.,][0-9])")
_DOTS_AND_COMMA = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+(?![0-9]|[.,][0-9])")
_ONE_DOT = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}\.[0-9]{3}(?![0-9]|[.,][0-9])")
_SPACES = re.compile(r"(?<![0-9.,])(?<![0-9] )[1-9][0-9]{0,2}(?: [0-9]{3})+(?:,[0-9]+)?(?![0-9]|[.,][0-9]| [0-9])")
_PAID_SPACES = re.compile(r"(?<=[$€£])[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9]|[.,][0-9]| [0-9])")
_AROUND = " \t\r\n*$€£"  # what may stand around a number that is the whole text
_DIGITS_AND_SPACES = re.compile(r"[0-9][0-9 ]*")
_COMMA = re.compile(r"(?<![0-9.,])[0-9]+,[0-9]+(?![0-9]|[.,][0-9])")
_GROUP = re.compile(r"[1-9][0-9]{0,2},[0-9]{3}")
_MONEY_BEHIND = re.compile(r" ?(?:€|EUR\b|[Ee]uros?\b|руб|zł|kr\b|₺|TL\b|Kč)")
_MONEY_BEFORE = re.compile(r"(?:R\$|€|EUR) ?$")
_UNIT_BEHIND = re.compile(r" ?(?:[%°]|[kcm]?m\b|k?g\b|[cm]?l\b|L\b|h\b|(?:Mio|Mrd|Tsd|mln|mld|млн|тыс)\b)")

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    "the is are was and answer of so total has have he she it they his her their there in to for with that this each "
    "final therefore thus result per dollars days hours".split()
)
_DECIMAL_COMMA = frozenset(
    # German, Dutch, Scandinavian
    "der die das den dem ist sind und ein eine einen antwort ergebnis lautet beträgt insgesamt also stunden tage nicht "
    "von mit für sie er es gesamt het een antwoord zijn uur totaal dus van voor niet svaret svar är och ett timer "
    # French, Italian, Spanish, Portuguese
    "la le les est sont et une des du réponse résultat donc il elle au total heures pour coûte reste el los las una "
    "respuesta resultado son por lo tanto cuesta quedan total horas y en è sono risposta risultato quindi un ore "
    "resposta é são o os as portanto resta custa da do "
    # Slavic, Turkish, Finnish, Indonesian
    "ответ равен равно итого всего часов рублей и в на odpowiedź wynosi jest i to w więc odpověď je відповідь cevap "
    "toplam saat lira vastaus on adalah jawaban jawabannya jadi jam".split()
)


def plain(text: str) -> str:
    """The text with LaTeX, Unicode and national spellings of numbers replaced by plain ones; linear in time."""
    text = _digits(_GROUP_SPACE.sub("'", text)).translate(_CHARACTERS)
    if "\\" in text or "{,}" in text:
        text = _without_latex(text)
    text = _RUPEES.sub("₹", _national(text))
    text = _REAIS.sub("$", text)
    for written, sign in (("!=", "≠"), (">=", "≥"), ("<=", "≤"), ("=>", "→"), ("->", "→"), ("==", "=")):
        text = text.replace(written, sign)
    return text


def writes_decimal_commas(text: str) -> bool:
    """Whether most of the words that tell a text's language are of one that writes decimal commas."""
    words = _WORD.findall(text.lower())
    return sum(word in _DECIMAL_COMMA for word in words) > sum(word in _ENGLISH for word in words)


def _digits(text: str) -> str:
    """ASCII digits for those of other scripts."""
    others = {c for c in set(text) if not c.isascii() and unicodedata.category(c) == "Nd"}
    return text.translate({ord(c): str(unicodedata.digit(c)) for c in others}) if others else text


def _without_latex(text: str) -> str:
    for written, sign in _COMMANDS.items():
        text = text.replace(written, sign)
    text = _SHORT_COMMANDS.sub(lambda match: _SHORT[match[1]], text)
    text = _WRAPPER.sub("", _DEGREES.sub("°", text))
    return _FRACTION.sub(_plain_fraction, text)


def _plain_fraction(match: re.Match[str]) -> str:
    before = f"{match[1]} " if match[1] else ""
    return f"{before}{match[2] or match[4]}/{match[3] or match[5]}"


def _national(text: str) -> str:
    """Thousands as commas and decimals as points; what can be read in two ways is marked."""
    text = _APOSTROPHES.sub(lambda match: match[0].replace("'", ",") + _SETTLED, text)
    text = _DOTS.sub(_turned, text)
    text = _DOTS_AND_COMMA.sub(_turned, text)
    foreign = writes_decimal_commas(text)
    # Stripped, not matched: a pattern with blanks in three places would try every way to share them out.
    if foreign or _DIGITS_AND_SPACES.fullmatch(text.lstrip(_AROUND).rstrip(_AROUND + ".")):
        text = _SPACES.sub(_turned, text)
    text = _PAID_SPACES.sub(_turned, text)
    text = _ONE_DOT.sub(lambda match: _one_dot(match, foreign), text)
    return _COMMA.sub(lambda match: _comma(match, foreign), text).replace(_SETTLED, "")


def _turned(match: re.Match[str]) -> str:
    whole, _, decimals = match[0].partition(",")
    return whole.replace(".", ",").replace(" ", ",") + (f".{decimals}" if decimals else "") + _SETTLED


def _one_dot(match: re.Match[str], foreign: bool) -> str:
    if foreign:
        return match[0].replace(".", ",") + _SETTLED
    return match[0] + (AMBIGUOUS if _MONEY_BEHIND.match(match.string, match.end()) else "")


def _comma(match: re.Match[str], foreign: bool) -> str:
    text, end = match.string, match.end()
    if text[end : end + 1] == _SETTLED:
        return match[0]
    if _GROUP.fullmatch(match[0]):
        return match[0] + (AMBIGUOUS if foreign else "")
    money = _MONEY_BEHIND.match(text, end) or _MONEY_BEFORE.search(text[max(0, match.start() - 4) : match.start()])
    is_decimal = foreign or money or _UNIT_BEHIND.match(text, end) or re.match(r"0,[0-9]", match[0])
    return match[0].replace(",", ".") if is_decimal else match[0] + AMBIGUOUS
