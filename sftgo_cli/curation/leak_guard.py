"""Finds the phrase by which a paraphrase gives away that it was written from a reference answer.

S3FT's reviewers found targets such as "my response, which is similar to the reference answer, ..." [S]; the list is ours
[R]. A phrase counts only where it can hardly be about the question itself: `reference`, `given`, `provided` and the like
beside answer, solution, response or explanation; `my response`, `your response`; talk of rephrasing and of one's own
words; and tags or field names of our prompts. Ordinary words alone (reference, response, answer, given) do not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TEXT = r"(?:answer|solution|response|explanation|reply|output|text|code|implementation)s?"
_KIND = r"(?:reference|ground[- ]truth|gold(?:en)?|model|sample|expert)"
_PHRASES = (
    rf"\b(?:reference|ground[- ]truth|gold(?:en)?) {_TEXT}\b",
    rf"\b(?:the|this|that|your|a) {_KIND} (?:answer|solution|response|explanation|implementation)s?\b",
    r"\b(?:as|like) (?:given|stated|shown|described|in|per) (?:in |by )?the reference\b(?! \w)",
    r"\b(?:the|this) reference (?:says|states|gives|shows|concludes|uses|is|was|provided|above|below)\b",
    r"\b(?:according to|based on|matches|agrees with|consistent with|similar to|from|following) the reference\b(?! \w)",
    rf"\b(?:the|your|this) (?:provided|supplied) {_TEXT}\b",
    r"\b(?:the|your|this) given (?:answer|solution|response|explanation)s?\b",
    r"\b(?:answer|solution|response|explanation)s? (?:you|that was|which was|that were) (?:provided|gave|given|supplied)\b",
    r"\b(?:answer|solution|response|explanation)s? (?:you have|you've) (?:provided|given|supplied)\b",
    r"\b(?:my|your) (?:own )?(?:response|paraphrase|rephrasing|rewording|rewrite|rewritten answer)s?\b",
    r"\b(?:my|your) (?:own )?version of the (?:answer|solution)\b",
    r"\bin (?:my|your) own (?:words|style)\b",
    r"\b(?:re-?phras|para-?phras|re-?word)(?:e|es|ed|ing)\b",
    r"\b(?:re-?written|restated) (?:answer|solution|response|version|explanation)\b",
    r"\b(?:here is|here's|below is) (?:a|the|my|your) (?:re-?written|restated|revised|alternative)\b",
    r"\b(?:original|above) (?:answer|solution|response|explanation)\b",
    r"</?(?:question|reference|prediction|answer)>",
)
_LEAK = re.compile("|".join(_PHRASES), re.IGNORECASE)
_WHITE = re.compile(r"\s+")


def leaked(text: str, prompt_words: Sequence[str] = ()) -> str | None:
    """The first phrase of `text` that gives away the scaffolding, or None.

    Args:
        prompt_words: further phrases of the user's own prompt file, found as whole words in any case.
    """
    text = _WHITE.sub(" ", text.replace("\u2019", "'"))
    found = _LEAK.search(text)
    own = [
        re.search(rf"(?<!\w){re.escape(' '.join(words.split()))}(?!\w)", text, re.IGNORECASE)
        for words in prompt_words
        if words.strip()
    ]
    matches = sorted((match.start(), match[0]) for match in (found, *own) if match is not None)
    return matches[0][1] if matches else None
