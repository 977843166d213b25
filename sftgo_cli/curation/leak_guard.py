"""Finds the phrase by which a paraphrase gives away that it was written from a reference answer.

S3FT's reviewers found targets such as "my response, which is similar to the reference answer, ..." [S]; the list is ours
[R]. A phrase counts only where it can hardly be about the question itself: `reference`, `worked`, `provided`, `given above`
and the like beside answer, solution, response or explanation, before it or behind; `my response`, `your response`; talk of
rephrasing and of one's own words; being shown or told the answer; an answer that says or confirms; tags of our prompts.
Beside these a prompt's own words: the phrases that its comment line `# gives away:` lists, and every run of RUN words.
Ordinary words alone (reference, response, answer, given) do not count, nor does what question or gold say themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

RUN = 6  # so many words of a prompt in its order are no accident

_TEXT = r"(?:answer|solution|response|explanation|reply|output|text|code|implementation|rationale|derivation)s?"
_ANSWER = r"(?:answer|solution|response|explanation|rationale|derivation|working)s?"
_KIND = (
    r"(?:reference|ground[- ]truth|gold(?:en)?|model|sample|expert|worked(?:[- ]out)?|known|official|expected|suggested|"
    r"supplied|provided|pre-?written|existing|previous|earlier|hidden|example)"
)
_HANDED = (
    r"(?:provided|supplied|shown|presented|included|quoted|listed|given (?:above|below|here|to (?:me|us)|"
    r"in the (?:prompt|reference|task)))"
)
_PHRASES = (
    rf"\b(?:reference|ground[- ]truth|gold(?:en)?) {_TEXT}\b",
    rf"\b(?:the|this|that|your|a|my|its) {_KIND},? (?:correct |right )?(?:answer|solution|response|explanation|"
    rf"implementation|rationale|"
    r"derivation)s?\b",
    rf"\b(?:the|this|that|your) (?:{_KIND} )?(?:correct |right |final )?{_ANSWER} (?:(?:that|which) (?:was|is|were|"
    rf"has been) |as |is )?"
    rf"(?:{_HANDED}|above|below)\b",
    r"\b(?:as|like) (?:given|stated|shown|described|in|per) (?:in |by )?the reference\b(?! \w)",
    rf"\b(?:as|like) (?:\w+ )?(?:in|by|per) the {_ANSWER}\b",
    rf"\bas the {_ANSWER} (?:says|states|shows|explains|notes|mentions|puts|indicates|suggests)\b",
    rf"\bthe (?:given |provided |correct )?{_ANSWER} (?:says|states|mentions|notes|explains|concludes|confirms|"
    rf"indicates|tells)\b",
    r"\b(?:the|this) reference (?:says|states|gives|shows|concludes|uses|is|was|provided|above|below)\b",
    r"\b(?:according to|based on|matches|agrees with|consistent with|similar to|from|following) the reference\b(?! \w)",
    rf"\b(?:according to|based on|agree(?:s|ing)? with|consistent with|similar to|following|drawn from|using|per|"
    rf"confirmed by|"
    rf"verified by|in line with|in accordance with|identical to|same as) (?:the|your|this|"
    rf"that) (?:\w+ )?{_ANSWER}\b(?! (?:of|to|for|set)\b)",
    rf"\bfrom (?:the|your|this|that) (?:worked|given|provided|known|correct|right|above|shown|sample|{_KIND}) {_ANSWER}\b",
    rf"\bmatch(?:es|ing)? (?:the|your) (?:\w+ )?{_ANSWER}\b",
    rf"\b(?:the|your|this) (?:provided|supplied) {_TEXT}\b",
    r"\b(?:the|your|this) given (?:answer|solution|response|explanation)s?\b",
    r"\b(?:answer|solution|response|explanation)s? (?:you|that was|which was|that were) (?:provided|gave|given|"
    r"supplied|showed|shown)\b",
    r"\b(?:answer|solution|response|explanation)s? (?:you have|you've|i was|i have been|i've been|we were) "
    r"(?:provided|given|supplied|shown|told)\b",
    rf"\b(?:i|we) (?:was|were|have been|am|are|'ve been) (?:given|shown|provided|told|supplied|"
    rf"handed)(?: with)? (?:the|an?|this|your) (?:\w+ )?{_ANSWER}\b",
    rf"\byou (?:gave|showed|provided|shared|told|supplied|sent)(?: me| us)? (?:the|an?|this|your) (?:\w+ )?{_ANSWER}\b",
    r"\banswer key\b",
    r"\b(?:known|told|said) to be (?:right|correct)\b",
    r"\bfor (?:my|your) eyes only\b",
    r"\bas (?:you )?(?:requested|instructed|asked),? (?:here|i|this|in)\b",
    r"\bwithout (?:mentioning|referring to|saying) (?:the|that|it)\b",
    rf"\bthe same (?:content|conclusion|reasoning|result|meaning|approach)(?: and \w+)* as (?:the|your|that|above|"
    rf"in the) ?(?:\w+ )?(?:{_ANSWER}|above|one)\b",
    r"\b(?:my|your) (?:own )?(?:response|paraphrase|rephrasing|rewording|rewrite|rewritten answer)s?\b",
    r"\b(?:my|your) (?:own )?version of the (?:answer|solution)\b",
    r"\bin (?:my|your) own (?:words|style|wording)\b|\b(?:my|your) (?:own|usual) (?:wording|style)\b",
    r"\b(?:re-?phras|para-?phras|re-?word)(?:e|es|ed|ing)\b",
    r"\b(?:re-?written|restated|reformulated) (?:answer|solution|response|version|explanation)\b",
    r"\b(?:here is|here's|below is) (?:a|the|my|your) (?:re-?written|restated|revised|alternative|reformulated|reworked)\b",
    r"\b(?:original|above) (?:answer|solution|response|explanation)\b",
    r"</?(?:question|reference|prediction|answer)>",
)
_LEAK = re.compile("|".join(_PHRASES), re.IGNORECASE)
_WHITE = re.compile(r"\s+")
_WORDS = re.compile(r"\w+(?:'\w+)?")


def prompt_runs(prompt: str) -> frozenset[tuple[str, ...]]:
    """Every run of RUN words of a prompt's text, in lower case; no run crosses a field `{question}`."""
    runs: set[tuple[str, ...]] = set()
    for part in re.split(r"\{[^{}]*\}", prompt.replace("\u2019", "'")):
        words = _WORDS.findall(part.lower())
        runs |= {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}
    return frozenset(runs)


def leaked(
    text: str,
    prompt_words: Sequence[str] = (),
    runs: frozenset[tuple[str, ...]] = frozenset(),
    said: Sequence[str] = (),
) -> str | None:
    """The first phrase of `text` that gives away the scaffolding, or None.

    Args:
        prompt_words: further phrases of the prompt file, found as whole words in any case.
        runs: the prompt's own runs of words (prompt_runs).
        said: question and gold; a phrase that stands in one of them may be quoted.
    """
    text = _WHITE.sub(" ", text.replace("\u2019", "'"))
    known = [_WHITE.sub(" ", one.replace("\u2019", "'")).lower() for one in said]
    matches = [(match.start(), match[0]) for match in _LEAK.finditer(text)]
    for words in prompt_words:
        if words.strip():
            pattern = rf"(?<!\w){re.escape(' '.join(words.split()))}(?!\w)"
            matches += [(match.start(), match[0]) for match in re.finditer(pattern, text, re.IGNORECASE)]
    found = list(_WORDS.finditer(text)) if runs else []
    for at in range(len(found) - RUN + 1):
        if tuple(match[0].lower() for match in found[at : at + RUN]) in runs:
            matches.append((found[at].start(), text[found[at].start() : found[at + RUN - 1].end()]))
    new = sorted((start, phrase) for start, phrase in matches if not any(phrase.lower() in one for one in known))
    return new[0][1] if new else None
