"""Where an answer names the options of a multiple-choice question, by letter or by text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sftgo_cli.curation.careful_words import careful_words, prepared

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_TEXT = 20_000  # characters of an answer that are read, from its end

_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|bf|rm|boldsymbol)\s?(?=\{)")
_QUOTED = re.compile(r"(?<!\w)'(\(?[A-Za-z]\)?)[.,]?'(?!\w)")
_EDGES = re.compile(r"[*`]+|__+|\bN/A\b|\\[ ,;!]|\$")
_LETTER = re.compile(
    r"(?<![A-Za-zÀ-ɏ0-9_'\-&.])(?:(?P<bracket>[(\[{])(?P<wrapped>[A-Za-z])(?=[)\]}.])|(?P<upper>[A-Z])|(?P<lower>[a-z])(?=\)|[.,!]?\s*$))"
    r"(?![A-Za-zÀ-ɏ0-9_'&]|-[A-Za-z0-9]|\.[A-Za-z0-9])"
)
_AFTER_ARTICLE = re.compile(
    r"(?:[^\w\s]|$|\s*\n| {1,2}(?:[-–—=(\[&/+]|[a-z]+s \(?[B-Z]\b|(?:is|isn't|was|are|and|or|nor|seems?|looks|because|"
    r"since|as it|rather|"
    r"instead|would|"
    r"must|can|can't|cannot|could|over|but|not|has to|should|then|due|for the|says|states|matches|fits|contradicts|makes "
    r"sense|does|doesn't|ist|est|es|è|é|und|oder|et|ou|y|o|by|at|in my)\b))",
)
_OPTION_BEFORE = re.compile(
    r"\b(?:options?|choices?|letters?|answers?|statements?|alternatives?|antwort|réponse|opción|opcja|вариант)[ :]{1,2}\(?$"
    r"|\b(?:answer|option|choice)\b[^.\n]{0,20} is[ :]{1,2}\(?$"
    r"|(?:选项?|選項?|选择|答案|[是为為はは]|答え|정답[은은]?)\s?\(?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Mention:
    """An option that is named at [start, end) of the read text."""

    index: int
    start: int
    end: int
    by_letter: bool


def read_text(answer: str) -> str:
    """The text in which mentions are looked for: one spelling of signs, no LaTeX around words, no bold, outer space gone."""
    text = prepared(answer[-MAX_TEXT:])
    if "\\" in text:
        text = _WRAPPER.sub("", text).replace("{(", "(").replace(")}", ")")
    text = _QUOTED.sub(r"\1", text)
    return _EDGES.sub(lambda match: " " if match[0].startswith("\\") else "", text).strip()


@lru_cache(maxsize=4096)
def option_words(text: str) -> tuple[str, ...]:
    """An option's text as words; as it is written where nothing is left of it."""
    return tuple(word.text for word in careful_words(read_text(text))) or (text.strip(),)


def mentions(text: str, options: Sequence[tuple[str, ...]]) -> list[Mention]:
    """All mentions in a read text, in order; of options whose words overlap the longer one."""
    words = careful_words(text)
    found: list[Mention] = []
    taken = [False] * len(words)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word.text, []).append(place)
    for index in sorted(range(len(options)), key=lambda index: -len(options[index])):
        option = options[index]
        for place in places.get(option[0], []) if option else []:
            stop = place + len(option)
            if any(taken[place:stop]) or tuple(word.text for word in words[place:stop]) != option:
                continue
            if len(option) == 1 and len(option[0]) == 1 and option[0].isalpha():
                continue  # an option `a`, which is a letter
            taken[place:stop] = [True] * len(option)
            found.append(Mention(index, words[place].start, words[stop - 1].end, by_letter=False))
    covered = [(mention.start, mention.end) for mention in found]
    for match in _LETTER.finditer(text):
        letter = match["wrapped"] or match["upper"] or match["lower"]
        index, (start, end) = LETTERS.find(letter.upper()), match.span()
        if any(start < stop and begin < end for begin, stop in covered) or not _is_letter(
            text, match, index, len(options)
        ):
            continue
        found.append(Mention(index, start, end, by_letter=True))
    return sorted(found, key=lambda mention: mention.start)


def _is_letter(text: str, match: re.Match[str], index: int, count: int) -> bool:
    """Whether a single letter names an option: not the article A, the pronoun I, or a variable far beyond the options."""
    before = text[max(0, match.start() - 30) : match.start()]
    if match["lower"] or (match["wrapped"] or "").islower():
        bracket = match["wrapped"] is not None or text[match.end() : match.end() + 1] == ")"
        return index < count and (bracket or _OPTION_BEFORE.search(before) is not None)
    if index >= count:
        return False
    if match["wrapped"] or match[0] not in "AI" or _OPTION_BEFORE.search(before):
        return True
    if match[0] == "I" and not re.match(r"[.):]|$", text[match.end() :]):
        return False
    return _AFTER_ARTICLE.match(text, match.end()) is not None
