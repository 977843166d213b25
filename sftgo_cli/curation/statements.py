"""What people do to a number or an option besides naming it: deny it, take it back, ask about it.

    denied        isn't 20; can't be 20; not 20 but 18; 20 is wrong; anything but 20; 18 instead of 20; I doubt it is 20
    taken back    20. No wait, it's 18; 20, I mean 18; 20? No, 18; 20. Hmm, that's not right
A denial reaches to the end of its clause and not beyond a verb that states something: `those who do not play are 18` is 18.
"""

from __future__ import annotations

import re

ANSWER_WORDS = (
    r"(?:antwort|lösung|ergebnis|réponse|respuesta|risposta|resposta|antwoord|ответ|відповідь|odpowiedź|odpověď|cevap|yanıt|"
    r"svaret|svar|vastaus|jawaban(?:nya)?|đáp án|câu trả lời|答案|答え|答|정답|답|उत्तर|जवाब|الجواب|الإجابة)"
)
COPULAS = (
    r"(?:(?<!\w)(?:ist|sind|lautet|beträgt|est|sont|es|son|è|sono|é|são|is|zijn|jest|to|wynosi|je|är|er|on|adalah|là|равен|"
    r"равно|هو|هي)(?!\w)|[是为為は은는])"
)
LOOK = 120  # characters around a mention that are looked at

_NOT = (
    r"(?:\b(?:not|never|hardly|scarcely|cannot|neither|nor|nicht|kein(?:e[nrms]?)?|niet|ikke|inte|nie|pas|не|değil|"
    r"exclud(?:e[sd]?|ing)|eliminat(?:e[sd]?|ing)|rul(?:e[sd]?|ing) out|reject(?:s|ed|ing)?|discard(?:s|ed|ing)?|"
    r"unlike|without)\b|n't\b"
    r"|\bn'est pas\b|\bne (?:sont|vaut|fait|peut) pas\b|\bno (?:es|son|está|puede|longer)\b|\bnon (?:(?:è|sono|può)\b|"
    r"(?=[\d$€£-]))|\bnão\b|"
    r"不是|并非|不|没有|ではな)"
)
_STATES = (
    r"(?!\d|(?:is|are|was|were|equals?|has|had|makes?|made|leaves?|left|costs?|gives?|gets?|got|becomes?|it's|he's|she's|that's|"
    r"ist|sind|est|es|son|but|so|then|therefore|because|since|sondern|mais|sino|который|sie|il|elle)\b)"
)
_DENIED_BEFORE = re.compile(
    rf"(?:{_NOT}:?(?:[ \t*_`\"'(\\$€£]+{_STATES}[\w'/&-]+){{0,5}}[ \t*_`\"'(\[{{\\$€£]*"
    r"|(?:n't|not|never|hardly) (?:think|believe|say|guess|suppose|mean|agree|see|imply|claim|choose|pick|"
    r"sure)\b[^.,;!?\n]{0,60}"
    r"|\b(?:doubt|disagree|refuse|(?:it is|it's) (?:false|wrong|untrue|incorrect|impossible|unlikely|not true)|"
    r"reject)\b[^.;!?\n]{0,60}"
    r"|\b(?:by no means|in no way|far from|different from|close to|nowhere near|unequal to)\b[^.,;!?\n]{0,25}"
    r"|\b(?:anything|everything|all|any|nothing)(?: \w+)? (?:but|except)(?: for)?[\s*_`\"'(\[{\\$€£]*"
    r"|\b(?:rather than|instead of|except(?: for)?|apart from|as opposed to|other than|over)[\s*_`\"'(\[{\\$€£]*"
    r"|\bno way\b[^.,;!?\n]{0,25}"
    r"|\b(?:(?:wrong|incorrect|false):|(?:mistake|error|misconception|trap) (?:is|was|would be|of)\b)[^.,;!?\n]{0,25}"
    r"|\b(?:wrong|incorrect|false|bad) (?:answers?|options?|choices?|ones?|results?)\b[^.;!?\n]{0,20}"
    r"|[≠≁]\s*)$",
    re.IGNORECASE,
)
_WRONG = (
    r"(?:wrong|incorrect|false|untrue|impossible|mistaken|invalid|ruled out|eliminated|excluded|out\b|off\b|no good|"
    r"not?t? (?:right|correct|true|it|the|an?|possible|valid|what|one)|too (?:much|many|high|low|big|small|large)|"
    r"falsch|faux|fausse|incorrecto|incorrecta|неверно|wrong)"
)
_ALL_BUT = re.compile(
    r"\b(?:everything|all|any|every|anything|nothing)(?: \w+)? (?:but|except)(?: for)?[\s*_`\"'(\[{\\$€£]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    rf"[ \t*_`\"')\]}}\\$]*(?:\w+ ){{0,2}}?(?:(?:is|was|seems|looks|would be|must be|has to be|can be|are|were|ist|est|"
    rf"es|:|=)"
    rf"(?: (?:just|also|clearly|obviously|definitely|simply|therefore|thus))*\s*{_WRONG}"
    r"|(?:is not|isn't|are not|aren't|was not|wasn't|cannot be|can't be|couldn't be|can not be|must not be|does not|doesn't)"
    r"(?:$|\s*[.,;!?]| (?:be |seem )?(?:right|correct|true|it\b|the (?:right|correct|final|answer|one)|my answer|possible|"
    r"valid|what|one of|an? (?:answer|option|solution)|work\b|fit\b|match\b|make sense|add up|hold))"
    rf"|,? (?:then )?(?:you|they|that|this|it)(?: are| is|'re|'s| would be|'d be) {_WRONG}|不对|是错|错误)",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.!\n?]{0,40}\?+[\s*_`\"')\]]*(?P<rest>\S[^\n]{0,80})?")
_DENIAL = re.compile(
    rf"(?:no|nope|nein|non|not (?:at all|really|quite)|i (?:don't|do not) (?:think|believe)|i doubt|doubtful|unlikely|"
    rf"absolutely not|certainly not|definitely not|impossible|wrong|incorrect|false|never|(?:that|this|it)(?: is|"
    rf"'s) {_WRONG}"
    r"|(?:that|this|it) (?:isn't|is not|can't|cannot|does not|doesn't))\b",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"(?:^|[.,;:!?)\]*}—–>\n]|\s-|\.\.\.)[\s*_`(\"$]{0,6}(?:(?:oh|ah|er|erm|argh|hmm{1,4}|uh|um|but|well|okay|ok|so|and|or)\b[,.\s]{0,4}){0,3}"
    r"(?P<cue>no\b(?=\s{0,3}[,.;:!—–-]|\s{0,3}$|\s+(?:wait|sorry|it|that|the answer|actually)\b|\s+\(?[$A-Z0-9]\b)"
    r"|nope\b|wait\b(?=\s*[,.!:;—–-]|\s+(?:no|that|this|i|let|a|it|the)\b)|actually\b|correction\b|edit\b\s*:|oops\b|sorry\b"
    r"|scratch that|strike that|i mean\b|i meant\b|hold on\b|make that\b|or rather\b|my (?:mistake|bad)\b|"
    r"on second thoughts?\b|(?:that|this)(?:'s| is| was)(?: only| just)? for\b"
    r"|let me correct\b|i(?:'ve| have)? (?:made (?:an? )?(?:\w+ )?(?:mistake|error)|forgot|forgotten|miscounted|"
    r"misread|miscalculated|"
    r"overlooked|missed)\b|i was wrong\b|mistake\b|hmm+\b|rather\b(?! than)"
    rf"|(?:that|this|it)(?: is|'s| was) {_WRONG}|(?:that|this|it) (?:isn't|can't be|cannot be|does not|"
    rf"doesn't) (?:right|correct|work|it)"
    r"|nein\b|non\b(?=\s*,)|quatsch\b|moment\b(?=\s*[,.!:])|pardon\b|perdón\b|нет\b|不对|等等|等一下|いや)",
    re.IGNORECASE,
)
_SAYS_WRONG = re.compile(
    r"\b(?:no|nope|wrong|incorrect|mistake|error|forgot|oops|not (?:right|correct|true)|isn't (?:right|correct)|"
    r"scratch|strike|"
    r"can't be|cannot be|doesn't (?:work|add)|misread|miscounted|miscalculated|nein|不对)\b|不对",
    re.IGNORECASE,
)


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether the mention at [start, end) of a text (quotes plain) is denied by the words of its clause."""
    before = text[max(0, start - LOOK) : start]
    after = bool(_DENIED_AFTER.match(text, end, min(len(text), end + LOOK)))
    if after and _ALL_BUT.search(before):
        return False  # everything but B is wrong
    return after or bool(_DENIED_BEFORE.search(before))


def is_questioned(text: str, end: int) -> bool:
    """Whether the sentence of the mention asks, and what follows says no: `20? No, 18`, `Is it 20? That's wrong`."""
    asked = _QUESTION.match(text, end, min(len(text), end + LOOK))
    return bool(asked and asked["rest"] and _DENIAL.match(asked["rest"]))


def first_correction(text: str, start: int) -> int | None:
    """Where the first correction begins, its cue included, or None."""
    found = _CORRECTION.search(text, start)
    return None if found is None else found.start("cue")


def says_wrong(text: str) -> bool:
    """Whether a text says that something before it was wrong."""
    return bool(_SAYS_WRONG.search(text))
