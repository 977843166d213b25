"""Which number of a line is its result, where nothing marks it: the grammar of `18 apples in 3 boxes`.

    after an equation       what stands behind the last `=`, where no later clause follows
    else what comes `in total`
    else the last number    that is not beside the point, if another one is there:
                            in brackets `(20 - 2)`, behind because or since, a place or a time
                            (`in 3 boxes`, `for 5 days`), an aim (`to run 3 miles`), a name (`day 5`), an operand
Two numbers of one rank (`10 and 12`, `x = 10 or x = 12`, `18 apples and 3 pears`) have no result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sftgo_cli.curation.written_numbers import WrittenNumber, first_number

LONGEST_SENTENCE = 400  # characters
_OPERATOR = re.compile(
    r"(?:[\s)]*(?:\*\*?|[×÷/^+x-]|\\)\s*[($€£{-]*| (?:plus|minus|times|divided by|multiplied by) [$€£]?)\.?[0-9]"
)
_OPERATOR_BEFORE = re.compile(r"[0-9)%] ?[-+*×÷] ?[$€£(]?$")
_COMES_TO = re.compile(r"\b(?:is|equals|makes|gives|leaves|comes to)\s+[$€£]?-?\.?[0-9]")
_BARE_EXPRESSION = re.compile(r"[0-9.,+*/×÷()$ \t\r-]*")  # a line of nothing but arithmetic
_CLAUSE = re.compile(
    r"[,;.!?](?=\s)|\b(?:so|then|thus|hence|therefore|which|leaving|but|(?:we|you|he|she|they|"
    r"I) (?:get|gets|obtain|find)|this (?:gives|makes)|yields)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?;](?=\s)")
_UNIT = re.compile(
    r"(?:-| )?(?!(?:dollars?|euros?|pounds?|cents?|USD|EUR|in total|in all|altogether|left|more|and|or)\b)[^\W\d_]"
)
_PLACE = re.compile(
    r"(?:\b(?:in|for|than|over|on|after|within|from|per|every|each|during|across|among|between|into|per|before|throughout|"
    r"in|für|auf|pour|dans|en|por|para)(?: (?:the|these|those|this|his|her|their|its|my|our|your|all|each|every|only|"
    r"about|just|first|last|next|other|another|of|les|den|die|los|las)){0,3}"
    r"|\bby [a-z]+ing(?: [a-z]+)?|\bby (?:the|these|those|all|his|her|their)|(?:%|percent|half|third|quarter) of|\bat|"
    r"\bto [a-z]{2,}(?: (?:the|"
    r"his|her|all|another|these|those|about)){0,2}|[0-9] of (?:the|his|her|their|these|those|"
    r"all)) $",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:because|since|if|as long as|while|whereas|weil|denn|porque)\b", re.IGNORECASE)
_BECAUSE = re.compile(r"\b(?:because|since|weil|denn|porque)\b(?![^=]*,)", re.IGNORECASE)
_NAME = re.compile(
    r"\b(?:day|week|month|year|step|part|question|problem|chapter|page|room|section|table|figure|line|level|grade|option|"
    r"equation|eq|no|number|case|round|stage|minute|hour|age|tag|jour|día)[.]? ?#?$",
    re.IGNORECASE,
)
_AIM = re.compile(
    r"(?:%|percent|half|third|quarter) of (?:the |his |her |all |\$)?$|\bto (?:reach|hit|cover|complete|finish|fill|"
    r"buy|afford|go from|meet) (?:the |his |her |all |\$)?$"
)
_APPOSITION = re.compile(
    r", (?:an?|which is|or about) $|, (?:twice|half|double|triple|\w+ times|compared|\w+ (?:more|less|"
    r"fewer) than)\b[^.;]{0,40}$"
)
_OPERATION = r"(?:times|plus|minus|multiplied by|divided by)"
_OPERAND_BEFORE = re.compile(rf"[0-9)%] {_OPERATION} [$€£(]?$")
_OPERAND_AFTER = re.compile(rf" {_OPERATION} [$€£(]?[0-9]")
_TOTAL = re.compile(r"(?: [^\W\d]+){0,3} (?:in total|in all|altogether|all together|total\b(?! of))", re.IGNORECASE)
_REMAINS = re.compile(r"(?: [^\W\d]+){0,2} (?:left|remaining|remains?|stay|stays)\b", re.IGNORECASE)
_CONDITION = re.compile(
    r"\s*(?:So |Then |Now |Thus |Therefore,? )?(?:after|when|once|since|if|because|as|with|without|having|of|out of|in|"
    r"for|on|from|among|during|within|by|at|over|given)\b",
    re.IGNORECASE,
)
_LISTED = re.compile(r"(?: [^\W\d_]+){0,3},? (?:and|or)(?: (?:the|a|about))? ?[$€£]?$")  # 5 dogs and 3 cats
_BOTH = re.compile(r" [^.;,!?=\d]{0,40}\band [^.;,!?=\d]{0,30}")
_JOINED = re.compile(
    r"(?:(?: [^\W\d_]+){0,3},? ?(?:(?<![^\W_])(?:and|or|plus|und|oder|et|ou|y|o)\b(?: (?:maybe|perhaps|possibly|about|"
    r"then|also|"
    r"even))?|maybe|"
    r"perhaps|possibly|/)|(?: [^\W\d_]+)? ?,)(?: (?:[A-Z][a-z]+|[a-z]) ?(?:=|is|has|gets|are))? ?[$€£(]{0,2}$"
)


def is_expression(text: str, end: int, stop: int) -> bool:
    """Whether an operator and another number follow: `16 - 12` was not worked out."""
    return _OPERATOR.match(text, end, stop) is not None


def is_operand(text: str, start: int, number: WrittenNumber) -> bool:
    """Whether an operator and a number stand before it, with no equals sign: `7 - 8` was not worked out."""
    before = text[max(start, number.start - 8) : number.start]
    return _OPERATOR_BEFORE.search(before) is not None


def after_equals(text: str, start: int, stop: int) -> WrittenNumber | None:
    """The number behind the last equals sign of [start, stop)."""
    last = max(text.rfind("=", start, stop), text.rfind("≈", start, stop))
    return first_number(text, last + 1, stop) if last >= 0 else None


def after_verb(text: str, start: int, stop: int) -> WrittenNumber | None:
    """What an expression in words comes to: `16 minus 12, which is 4`."""
    verbs = list(_COMES_TO.finditer(text, start, stop))
    return first_number(text, verbs[-1].start(), stop) if verbs else None


def before_reason(text: str, start: int, stop: int) -> int:
    """Where a reason for what was said before begins, or `stop`: an equation behind it is no result."""
    reason = _BECAUSE.search(text, start, stop)
    return reason.start() if reason else stop


def chosen_number(text: str, start: int, stop: int, said: Sequence[WrittenNumber]) -> WrittenNumber | None:
    """The number that a line comes to; None for arithmetic that was not worked out."""
    last = max(text.rfind("=", start, stop), text.rfind("≈", start, stop))
    if len({number.value for number in said}) > 1 and last < 0 and _BARE_EXPRESSION.fullmatch(text, start, stop):
        return None
    behind = [number for number in said if number.start > last] if last >= 0 else []
    if behind and not _CLAUSE.search(text, behind[0].end, behind[-1].start):
        if not is_expression(text, behind[0].end, stop):
            return behind[0]
        before = [number for number in said if number.end <= last]  # 18 = 3 * 6
        if before and not text[before[-1].end : last].strip() and not is_expression(text, before[-1].start - 4, stop):
            return before[-1]
        return None if len(behind) == len(said) else behind[0]
    totals = [number for number in said if _TOTAL.match(text, number.end, stop)]
    if totals:
        return totals[-1]
    beside: list[WrittenNumber] = []
    for place, number in enumerate(said):
        one = said[place - 1]
        joined = place > 0 and one in beside and _LISTED.fullmatch(text[one.end : number.start]) is not None
        if joined or _beside_the_point(text, start, stop, number, said):
            beside.append(number)
    return ([number for number in said if number not in beside] or list(said))[-1]


def _beside_the_point(text: str, start: int, stop: int, number: WrittenNumber, said: Sequence[WrittenNumber]) -> bool:
    """Whether a number only tells where, when or why another one of its sentence holds."""
    # Of an endless sentence its last part: many numbers would each read all of it again.
    start = max(start, number.start - LONGEST_SENTENCE)
    sentence = max((match.end() for match in _SENTENCE.finditer(text, start, number.start)), default=start)
    earlier = [one for one in said if sentence <= one.start < number.start]
    before = text[sentence : number.start]
    in_brackets = before.count("(") > before.count(")")
    named = _NAME.search(before) is not None
    if (in_brackets or named or _is_operand(text, number, stop)) and len(said) > 1:
        return True
    if not earlier:
        return False
    if _APPOSITION.search(before) or _AIM.search(before) or _REASON.search(text, earlier[0].end, number.start):
        return True
    if number.value is None and _PLACE.search(before):
        return True
    return bool(_PLACE.search(before)) and bool(_UNIT.match(text, number.end, stop)) and "$" not in number.text


def _is_operand(text: str, number: WrittenNumber, stop: int) -> bool:
    """Whether an operation in words takes the number: 3 times 6."""
    before = text[max(0, number.start - 20) : number.start]
    return bool(_OPERAND_BEFORE.search(before)) or bool(_OPERAND_AFTER.match(text, number.end, stop))


def more_than_one(text: str, start: int, stop: int, said: Sequence[WrittenNumber], chosen: WrittenNumber) -> bool:
    """Whether another number of a different value stands beside the chosen one in the same rank."""
    if _TOTAL.match(text, chosen.end, stop) or _REMAINS.match(text, chosen.end, stop):
        return False
    before = [number for number in said if number.end <= chosen.start]
    if not before or before[-1].value == chosen.value:
        return False
    if len(before) > 1 and is_expression(text, before[-2].end, stop):
        return False  # $30 + $160 or $190
    between = text[before[-1].end : chosen.start]
    if chosen.text.endswith("%") and between.strip() == "is":
        return True  # 42 is 20% of 210
    if "," in between and _CONDITION.match(text, start, stop):
        return False
    return _JOINED.fullmatch(between) is not None or _BOTH.fullmatch(between) is not None
