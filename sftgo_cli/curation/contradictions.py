"""What common words cannot make up for: two texts that share most words and still say different things.

    numbers     one that gold has is missing, or the answer has another: 1945 / 1944, World War II / I, vitamin A / C
    signs       -5 / 5, C++ / C
    denials     It is safe. / It is not safe.
    opposites   North Korea / South Korea, increased / decreased, he / she
    names       Einstein developed ... / Newton developed ...
    lists       gold and silver / gold, Paris / Paris or Rome
    short golds a word is replaced: carbon dioxide / carbon monoxide, George Washington / George Bush
    places      Berlin, Germany / Germany
The rules are ours [R]; each says no where a person might, and none says yes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from sftgo_cli.curation.careful_words import Word, careful_words, prepared
from sftgo_cli.curation.number_words import SMALL_NUMBERS

SHORT = 4  # content words of a gold answer in which none may be replaced

_STOP = frozenset(
    "a an the of in on at by for from to with and or is are was were be been being it its he she they we you i his her "
    "their this that these those as into about through around during over under there which who whom whose when where "
    "because so than then also only just some any all very more most has have had do does did will would can could may "
    "might must shall should of' after before between up down out off per me my our your him them s "
    "president mr mrs ms dr sir general professor saint captain senator madame".split()
)
_NEGATIONS = frozenset(
    "not never no nor neither cannot without none nothing nobody "
    "isnt arent wasnt werent dont doesnt didnt wont wouldnt cant "
    "couldnt shouldnt hasnt havent hadnt aint anti non hardly nicht kein keine pas".split()
)
_SCALES = frozenset("dozen hundred thousand million billion trillion half third quarter thirds quarters".split())
_CALENDAR = frozenset(
    "january february march april may june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday".split()
)
_CONTRACTIONS = (
    (re.compile(r"\bcan't\b|\bcannot\b", re.IGNORECASE), "can not"),
    (re.compile(r"\bwon't\b", re.IGNORECASE), "will not"),
    (re.compile(r"(?<=\w)n't\b", re.IGNORECASE), " not"),
    (re.compile(r"\b(it|that|there|he|she|what|who|here)'s\b", re.IGNORECASE), r"\1 is"),
    (re.compile(r"(?<=\w)'re\b", re.IGNORECASE), " are"),
    (re.compile(r"(?<=\w)'s\b", re.IGNORECASE), ""),
)
_ROMAN = re.compile(r"(?=.)(?:X{0,3})(?:IX|IV|V?I{0,3})|[XVLCI]{2,7}")
_OPPOSITES = (
    "north south,east west,northern southern,eastern western,left right,up down,before after,above below,over under,"
    "higher lower,high low,more less,more fewer,most least,increase decrease,increases decreases,increased decreased,"
    "increasing decreasing,rise fall,rises falls,rose fell,rises sets,won lost,win lose,wins loses,true false,yes no,"
    "always never,first last,early late,earlier later,positive negative,male female,man woman,men women,boy girl,boys girls,"
    "he she,his her,prince princess,duke duchess,"
    "him her,mother father,brother sister,son daughter,husband wife,king queen,hot cold,warm cool,"
    "big small,large small,larger smaller,long short,longer shorter,old young,older younger,new old,black white,day night,"
    "open closed,open close,begin end,begins ends,began ended,start end,started ended,buy sell,bought sold,inside outside,"
    "internal external,major minor,maximum minimum,legal illegal,possible impossible,safe unsafe,guilty innocent,"
    "boils freezes,boil freeze,hard soft,light dark,rich poor,strong weak,fast slow,faster slower,alive dead,born died,"
    "odd even,good bad,better worse,best worst,a.m p.m,am pm,accepted rejected,accept reject,allowed forbidden,"
    "gained lost,gain lose,love hate,friend enemy,war peace,public private,urban rural,modern ancient,wide narrow,"
    "input output,upper lower,front back,top bottom,acid base,expand contract,expands contracts,import export,"
    "other this,before during,after during,"
    "proton electron,supports opposes,supported opposed,agree disagree,agreed disagreed,same different,with without"
)
_OPPOSITE: dict[str, set[str]] = {}
for _pair in _OPPOSITES.split(","):
    _one, _other = _pair.replace(".", "").split()
    _OPPOSITE.setdefault(_one, set()).add(_other)
    _OPPOSITE.setdefault(_other, set()).add(_one)


def spelled_out(text: str) -> str:
    """The prepared text without contractions: isn't is `is not`."""
    text = prepared(text)
    for contraction, words in _CONTRACTIONS:
        text = contraction.sub(words, text)
    return text


def comparable(text: str) -> list[Word]:
    """The careful words of a text for comparison: no contractions, number words as digits, no hyphen between two numbers."""
    words = careful_words(spelled_out(text))
    words = [Word(SMALL_NUMBERS.get(word.text, word.text), word.start, word.end, word.is_sign) for word in words]
    kept = []
    for place, word in enumerate(words):
        beside = words[max(0, place - 1) : place] + words[place + 1 : place + 2]
        if word.text == "-" and len(beside) == 2 and all(_has_digit(one.text) for one in beside):
            continue
        if word.text == "1" and place + 1 < len(words) and words[place + 1].text in _SCALES:
            continue  # a hundred, one hundred
        kept.append(word)
    return kept


def contradiction(answer: str, right: str) -> str | None:
    """Why an answer does not say what an accepted one says, whatever words they share; None where no rule objects."""
    mine, wanted = comparable(answer), comparable(right)
    answer, right = spelled_out(answer), spelled_out(right)
    my_words, right_words = {word.text for word in mine}, {word.text for word in wanted}
    my_numbers, right_numbers = _numbers(mine, answer), _numbers(wanted, right)
    if right_numbers - my_numbers - my_words:
        return f"without {_named(right_numbers - my_numbers)}"
    if not right_numbers & _CALENDAR:
        dated = bool(my_numbers & _CALENDAR)
        my_numbers -= _CALENDAR
        my_numbers -= {number for number in my_numbers if dated and number.isdigit() and int(number) <= 31}
    if right_numbers and my_numbers - right_numbers:
        return f"with {_named(my_numbers - right_numbers)}"
    if len(wanted) <= 2 * SHORT and (order := _in_order(wanted)) != _in_order(mine) and len(order) > 1:
        return "in another order"
    if any(_after(mine, word) != _after(wanted, word) for word in ("from", "to")) and my_words == right_words:
        return "in another direction"
    if _signs(mine) != _signs(wanted):
        return "with other signs"
    if bool(my_words & _NEGATIONS) != bool(right_words & _NEGATIONS):
        return "one of them is denied"
    for word in sorted(right_words - my_words):
        opposite = _OPPOSITE.get(word, set()) & (my_words - right_words)
        if opposite:
            return f"{_named(opposite)} for {word}"
    return _other_words(mine, wanted, answer, right)


def _other_words(mine: Sequence[Word], wanted: Sequence[Word], answer: str, right: str) -> str | None:
    my_words, right_words = {word.text for word in mine}, {word.text for word in wanted}
    missing = [word for word in wanted if word.text not in my_words and not _is_small(word)]
    extra = [word for word in mine if word.text not in right_words and not _is_small(word)]
    names_missing = [word for word in missing if right[word.start].isupper()]
    names_extra = [word for word in extra if answer[word.start].isupper()]
    if names_missing and names_extra:
        return f"{names_extra[0].text} for {names_missing[0].text}"
    if "or" in my_words - right_words and extra:
        return "with an alternative"
    if _joined_to(wanted, missing):
        return f"without {_joined_to(wanted, missing)}"
    if "and" not in right_words and _joined_to(mine, extra):
        return f"with {_joined_to(mine, extra)}"
    content = [word for word in wanted if not _is_small(word)]
    if missing and extra and len(content) <= SHORT:
        return f"{extra[0].text} for {missing[0].text}"
    if 2 * len(missing) > len(content) and len(content) <= SHORT:
        return f"without {missing[0].text}"
    comma = right.find(",")
    head = [word for word in content if word.end <= comma]
    if head and len(content) <= SHORT and all(word in missing for word in head):
        return f"without {head[0].text}"
    return None


def _joined_to(words: Sequence[Word], of: Sequence[Word]) -> str | None:
    """The word among `of` that `and` joins to another, if there is one."""
    for place, word in enumerate(words):
        if word.text == "and" and 0 < place < len(words) - 1:
            for beside in (words[place - 1], *words[place + 1 : place + 3]):
                if beside in of:
                    return beside.text
    return None


def _numbers(words: Sequence[Word], text: str) -> set[str]:
    """What tells one of its kind from another: numbers, scale words, single letters and Roman numerals behind a name."""
    found = set()
    for place, word in enumerate(words):
        written = text[word.start : word.end]
        behind_name = place > 0 and (text[words[place - 1].start].isupper() or len(written) > 1)
        roman = _ROMAN.fullmatch(written) is not None and behind_name
        letter = len(written) == 1 and written.isalpha() and written.isupper() and place > 0 and written != "I"
        dated = word.text in _CALENDAR and written[0].isupper()
        if (
            _has_digit(word.text)
            or word.text in _SCALES
            or dated
            or roman
            or (letter and _is_last_of_name(words, place, text))
        ):
            found.add(word.text)
    return found


def _is_last_of_name(words: Sequence[Word], place: int, text: str) -> bool:
    """Whether a single letter is not an initial, which a point follows: vitamin A, but not John F. Kennedy."""
    end = words[place].end
    return text[end : end + 1] != "." or place == len(words) - 1


def _after(words: Sequence[Word], of: str) -> list[str]:
    return [word.text for before, word in pairwise(words) if before.text == of]


def _in_order(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words if _has_digit(word.text)]


def _signs(words: Sequence[Word]) -> Counter[str]:
    return Counter(
        word.text for word in words if word.is_sign and word.text not in ("%", "$", "€", "£", "¥", ":", "'", "!")
    )


def _is_small(word: Word) -> bool:
    return word.is_sign or word.text in _STOP


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _named(words: set[str]) -> str:
    return ", ".join(sorted(words)[:3])
