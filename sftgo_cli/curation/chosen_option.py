"""Which option of a multiple-choice question an answer names: by its letter or its text.

How an answer is read, the first that applies:
1. its whole text is one option's letter or text (careful_words.py);
2. what follows the last marker (`answer is`, `correct option:`, `\\boxed{`, `<answer>`, other languages' words for answer)
   in its sentence is an option that is not denied; a marker behind which no option is named decides for none;
3. the options that the text affirms: named behind `so`, `choose`, `it's` or before `is correct`, as the first or the last
   word; else the only option that is named without being denied, asked about or taken back (statements.py).
`A, no wait, B` is B; `not A, it's B` is B; `A, C and D are wrong` names none. Several options (`A or B`), a letter with the
text of another option, and options of equal text are ambiguous: rejected. Letters count from A in the order of the row's
choices; lower-case ones only alone or in brackets; A and I are no letters where they are an article or a pronoun.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sftgo_cli.curation.accepted_answers import shown
from sftgo_cli.curation.named_options import LETTERS, Mention, mentions, option_words, read_text
from sftgo_cli.curation.statements import (
    ANSWER_WORDS,
    COPULAS,
    LOOK,
    first_correction,
    is_denied,
    is_questioned,
    says_wrong,
)

MAX_MENTIONS = 200  # of a longer answer the last ones are read
_WORDS = (
    "answer",
    "option",
    "choice",
    "one",
    "solution",
    "response",
    "correct",
    "candidate",
    "selection",
    "alternative",
)
_NAMES = r"(?:answer|option|choice|one|pick|selection|alternative|response|solution|candidate)s?"
_MARKER = re.compile(
    rf"\b{_NAMES}\b[^\n.:=?!]{{0,40}}?\b(?:is|was|are|would be|should be|must be|will be|can be|cannot be|can't be|"
    rf"isn't|has to be)"
    r"(?!\w)[ \t]*:?"
    rf"|\b(?:{_NAMES}|correct|ans)[*_\"')]{{0,3}} ?(?:[:=→]|\.(?= ?\(?[A-Z]\b)|-(?= ))"
    r"|\bans(?:wer)?(?= \(?[A-Z]\b)|\\(?:boxed|fbox) ?\{|<answer>|(?<!#)####(?!#)|^[ \t*]{0,4}A ?:(?= ?\(?[A-Z]\b)"
    rf"|{ANSWER_WORDS}(?:[^\n.:=?!]{{0,40}}?{COPULAS}|\s*[:=]|\s+(?=\(?[A-Z]))",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|<")
_RIGHT = (
    r"(?:correct|right|true|(?:the )?(?:best|better|answer|one|only)|valid|it\b|richtig|correcte?|correcta?|juste|"
    r"verdadera?|верно)"
)
_AFFIRMED_AFTER = re.compile(
    rf"[\s)\]}}.:*_\"']*(?:\w+ ){{0,2}}?(?:(?:is|are|was|must be|has to be|would be|seems?|looks|ist|est|es|è|é|:)"
    rf"(?: (?:therefore|thus|clearly|definitely|also|indeed|the|most|my|probably))* ?{_RIGHT}|"
    rf"makes (?:the most )?sense|fits|it is\b|wins)"
    rf"|\)\s*{_RIGHT}",
    re.IGNORECASE,
)
_AFFIRMED_BEFORE = re.compile(
    r"(?:\b(?:so|therefore|thus|hence|choose|chose|select|pick|go with|going with|went with|it's|it is|that's|that is|"
    r"that leaves|"
    r"leaves|leaving|must be|has to be|should be|would be|left with|leaves us with|only|but|instead|rather|actually|"
    r"definitely|say|i think|i believe|"
    r"i mean|sondern|mais|sino|而是|选|選|选择)[,:]?(?: (?:it's|it is|is|rather|the|answer|option|choice|letter|with|"
    r"just))*)[\s(\[{\"':]*$",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"[\s)\]}]*(?:\.{3})?(?:,|/|&|\+)?\s*(?:(?:and|or|nor|und|oder|et|ou|y|o|和|或)\b)?\s*(?:maybe|perhaps|possibly|even|also|both|option|"
    r"choice)?[\s(\[{]*(?:option |choice )?",
    re.IGNORECASE,
)
_NEUTRAL = re.compile(r"\b(?:between|among|of|torn|options?|whether|either)\b[^.;!?\n]{0,20}$", re.IGNORECASE)
_CONDITIONAL = re.compile(r"\bif not\b|\bunless\b", re.IGNORECASE)
_ASKED = re.compile(r"[\s)\]*]*\?")
_CONTRAST = re.compile(r"\b(?:but|however|yet|though|so|therefore|thus|hence)\b", re.IGNORECASE)
_ROW = re.compile(
    r"(?:^|[\s;,.(])\(?(?P<letter>[A-Z])\)?\s?[:.)–—-]*\s*(?:is |= ?)?(?:(?P<yes>yes|correct|true|right|✓|✔|✅|☑)|"
    r"(?P<no>no|incorrect|false|wrong|not (?:correct|true|right)|✗|✘|❌|✖|x))(?![\w'])",
    re.IGNORECASE,
)
_LABEL_END = re.compile(r"\s*(?:$|[-–—.):,;!\]}\"=(]|\n|(?:because|since|as|for|due|rather|instead|and not|not)\b)")
_NO_RIGHT = re.compile(r"[\s)]*(?:wrong|false|incorrect|no)\b", re.IGNORECASE)


def read_choice(answer: str, choices: Sequence[str]) -> int | str:
    """The index of the option that an answer names, or why it names none."""
    options = [option_words(choice) for choice in choices]
    text = read_text(answer)
    whole = _whole(text, options)
    if whole is not None:
        return whole
    table = _table(text, options)
    if table is not None:
        return table
    named = _without_marker_words(text, mentions(text, options))[-MAX_MENTIONS:]
    if not named:
        return "no option named"
    if any(options.count(options[mention.index]) > 1 and not mention.by_letter for mention in named):
        return "ambiguous: options of equal text"
    groups = _groups(text, named)
    corrected = _behind_correction(text, groups)
    if isinstance(corrected, str):
        return corrected
    marked = _marked(text, corrected)
    return marked if marked is not None else _unmarked(text, corrected)


def _without_marker_words(text: str, named: list[Mention]) -> list[Mention]:
    """The mentions without an option that is only a marker's own word: `answer` in `the answer is B`."""
    marks = [(mark.start(), mark.end()) for mark in _MARKER.finditer(text)]
    letters = any(mention.by_letter for mention in named)
    inside = [one for one in named if not one.by_letter and any(a <= one.start and one.end <= b for a, b in marks)]
    return [one for one in named if not (letters and one in inside and text[one.start : one.end].lower() in _WORDS)]


def _table(text: str, options: Sequence[tuple[str, ...]]) -> int | None:
    """The one option that a list of verdicts on several says yes to: `A: no. B: yes. C: no.`"""
    rows = [
        match
        for match in _ROW.finditer(text)
        if match["letter"].isupper() and LETTERS.find(match["letter"]) < len(options)
    ]
    said = {match["letter"] for match in rows if match["yes"]}
    return LETTERS.find(said.pop()) if len(said) == 1 and len({match["letter"] for match in rows}) > 1 else None


def _whole(text: str, options: Sequence[tuple[str, ...]]) -> int | str | None:
    """The option that is all of a text, or its letter with its own text: `B) Paris`."""
    same = [index for index, option in enumerate(options) if option == option_words(text)]
    if same:
        return same[0] if len(same) == 1 else "ambiguous: options of equal text"
    label = re.match(r"[-\s\"'(\[]*([A-Za-z])(?:[).:,\]\"']+|\s*[-–—=:]\s|\s*$)\s*", text)
    if label is None or (index := LETTERS.find(label[1].upper())) >= len(options):
        return None
    rest = text[label.end() :]
    if index == 0 and ":" in label[0] and (letter := re.fullmatch(r"\(?([A-Z])\)?[.!]?", rest.strip())):
        index = LETTERS.find(letter[1])  # A as in `answer`: `A: B`
        return index if index < len(options) else f"no option {letter[1]}"
    if not rest.strip(" .!)]}\"'"):
        return index
    others = [place for place, option in enumerate(options) if option == option_words(rest)]
    if not others:
        return None
    return index if index in others else f"ambiguous: letter {LETTERS[index]} with the text of {LETTERS[others[0]]}"


@dataclass(frozen=True)
class _Group:
    """Mentions that a list joins (`A, C and D`), and what is said about them together."""

    mentions: tuple[Mention, ...]
    denied: bool  # or asked about and answered with no
    neutral: bool  # between A and B

    @property
    def indices(self) -> set[int]:
        return {mention.index for mention in self.mentions}

    @property
    def start(self) -> int:
        return self.mentions[0].start

    @property
    def end(self) -> int:
        return self.mentions[-1].end


def _groups(text: str, named: Sequence[Mention]) -> list[_Group]:
    lists: list[list[Mention]] = []
    for mention in named:
        again = bool(lists) and mention.index in {one.index for one in lists[-1]} and len(lists[-1]) > 1
        if lists and not again and _belong_together(text, lists[-1][-1], mention):
            lists[-1].append(mention)
        else:
            lists.append([mention])
    found: list[_Group] = []
    for members in lists:
        before = is_denied(text, members[0].start, members[0].end)
        after = is_denied(text, members[-1].start, members[-1].end) or bool(_NO_RIGHT.match(text, members[-1].end))
        commas = "".join(text[one.end : other.start] for one, other in pairwise(members))
        if before and not after and len(members) == 2 and "," in commas and not re.search(r"\w", commas):
            found += [_Group((members[0],), True, False), _Group((members[1],), False, False)]  # not A, B
            continue
        denied = before or after or is_questioned(text, members[-1].end)
        several = len({mention.index for mention in members}) > 1
        asked = several and _ASKED.match(text, members[-1].end) is not None and members[-1] is not named[-1]
        neutral = asked or (
            several and _NEUTRAL.search(text[max(0, members[0].start - 40) : members[0].start]) is not None
        )
        found.append(
            _Group(tuple(members), denied, neutral and not re.search(r"\beither\b", text[: members[0].start][-12:]))
        )
    return found


def _belong_together(text: str, one: Mention, other: Mention) -> bool:
    """Whether a list joins two mentions, or they are a letter and its text: `A, C`, `B) Paris`, `Paris (B)`."""
    between = text[one.end : other.start]
    if "\n" in between:
        return False
    if one.by_letter != other.by_letter and not between.strip(" )]}:=.-–—(\"'"):
        goes_on = re.match(r"['s]{0,2} +(?!and\b|or\b)[a-z]", text[other.end : other.end + 8]) is not None
        return one.index == other.index or not (one.by_letter and goes_on)  # `B. Rome is in Italy` explains
    return _LIST.fullmatch(between) is not None


def _behind_correction(text: str, groups: list[_Group]) -> list[_Group] | str:
    """The groups behind the last correction that names an option; a text when all is taken back."""
    cue = first_correction(text, groups[0].end)
    while cue is not None:
        later = [group for group in groups if group.start >= cue]
        if not any(not group.denied for group in later):
            kept = [group for group in groups if group.start < cue and not group.denied]
            return "taken back" if says_wrong(text[cue : cue + 200]) and kept else groups
        groups = later
        cue = first_correction(text, groups[0].end)
    return groups


def _marked(text: str, groups: Sequence[_Group]) -> int | str | None:
    """The option behind the last marker, or why there is none; None without a marker."""
    for mark in reversed(list(_MARKER.finditer(text))[-20:]):
        if any(mark.start() < group.end and group.start < mark.end() for group in groups):
            continue  # `option B is ...`
        if mark.start() < groups[0].start - LOOK and not any(group.start >= mark.end() for group in groups):
            continue
        end = _SENTENCE_END.search(text, _begun(text, mark.end()))
        stop = end.start() if end else len(text)
        behind = [group for group in groups if mark.end() <= group.start < stop]
        said = [group for group in behind if not group.denied and not group.neutral]
        if said:
            direct = said[0] if said[0] is behind[0] else said[-1]
            return _single(direct)
        later = [group for group in groups if group.start >= mark.end()]
        if any(not group.denied for group in later):
            return _unmarked(text, later)
        if later or not re.search(r"[\w]", text[mark.end() : stop]):
            return "denied" if later else None
        return f"no option behind the last marker: {shown(text[mark.start() : stop])}"
    return None


def _begun(text: str, at: int) -> int:
    """Where the first word behind a marker begins."""
    word = re.compile(r"[^\s(\[{\"':]").search(text, at)
    return word.start() if word else at


def _unmarked(text: str, groups: Sequence[_Group]) -> int | str:
    said = [group for group in groups if not group.denied and not group.neutral]
    if _CONDITIONAL.search(text):
        return "named on a condition"
    if not said:
        return "every option that is named is denied"
    strong = [group for group in said if _is_strong(text, group)]
    indices = set().union(*(group.indices for group in strong or said))
    if len(strong or said) == 1:
        return _single((strong or said)[0])
    if len(indices) > 1:
        last, earlier = (strong or said)[-1], (strong or said)[:-1]
        settled = last in strong and _CONTRAST.search(text, earlier[-1].end, last.start) is not None
        if settled and len(last.indices) == 1:
            return _single(last)  # A is tempting, but B is right
    if len(indices) > 1:
        return f"ambiguous: {', '.join(LETTERS[index] for index in sorted(indices))} are named"
    return _single((strong or said)[-1])


def _is_strong(text: str, group: _Group) -> bool:
    """Whether a text settles on an option there."""
    first, last = group.mentions[0], group.mentions[-1]
    leads = first.by_letter and not re.search(r"\w", text[: first.start]) and bool(_LABEL_END.match(text, first.end))
    line = text.rfind("\n", 0, first.start) + 1
    closes = line > 0 and not re.search(r"\w", text[line : first.start]) and not re.search(r"\w", text[last.end :])
    before = text[max(0, first.start - 60) : first.start]
    return leads or closes or bool(_AFFIRMED_BEFORE.search(before)) or bool(_AFFIRMED_AFTER.match(text, last.end))


def _single(group: _Group) -> int | str:
    if len(group.indices) > 1:
        return f"ambiguous: {', '.join(LETTERS[index] for index in sorted(group.indices))}"
    return group.mentions[0].index
