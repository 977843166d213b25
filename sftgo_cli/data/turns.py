"""Where an assistant's turn begins and ends in a rendered conversation, for templates without `{% generation %}`.

`attribution.py` says which characters are the message's own. Between them and those of the neighbors stands what the
template writes: the end of one turn, the header of the next. That text is cut by comparing it with other renderings of
the same conversation:

- a turn begins where the generation prompt at this place ends. Where the turn does not begin like that prompt (it holds
  an empty think block, and the turn has reasoning), it begins where the renderings of an answer, a call and an answer
  with reasoning part ways: reasoning, calls and their opening words are all part of the turn;
- a turn ends where the conversation up to it, rendered alone, and the whole conversation part ways. A token that
  stands only at the very end of a conversation and has another in its place elsewhere (gpt-oss) counts as that one.

What is found is remembered by the text between the messages, which is the same for nearly all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from sftgo_cli.data.attribution import NOBODY, Attribution, attribute
from sftgo_cli.data.message_forms import REASONING, Conversation, reasoning_of
from sftgo_cli.data.messages import Message
from sftgo_cli.data.templates import ChatTemplate, render, shared_prefix
from sftgo_cli.errors import UserError

Span = tuple[int, int]
ANSWER: Message = {"role": "assistant", "content": "zq Zq zq"}  # begins like nothing that a template writes itself
QUESTION: Message = {"role": "user", "content": "zq Zq zq"}
CALL = {"id": "zqzqzqzq1", "type": "function", "function": {"name": "zqzq", "arguments": {"zq": "zq zq"}}}
TURNS: tuple[Message, ...] = (
    ANSWER,
    {**ANSWER, REASONING: "zq Zq zq"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
)
MAX_REMEMBERED = 10_000


def turn_spans(
    template: ChatTemplate, conversation: Conversation, found: Attribution, wanted: Iterable[int], where: str
) -> dict[int, list[Span]]:
    """The characters of each wanted assistant message with its end of turn: several spans where something that is not
    the assistant's stands within (the result of a tool), none where the template does not write the message."""
    runs = found.runs()
    spans: dict[int, list[Span]] = {}
    for i in wanted:
        spans[i] = []
        for number, (message, _, _) in enumerate(runs):
            if message == i:
                start = _start(template, conversation, found.text, runs, number, where)
                end = _end(template, conversation, found, runs, number, where)
                spans[i].append((start, start + len(found.text[start:end].rstrip())))
    return spans


Runs = Sequence[tuple[int, int, int]]


def _start(template: ChatTemplate, conversation: Conversation, text: str, runs: Runs, number: int, where: str) -> int:
    i, begin, _ = runs[number]
    before, gap_start = (runs[number - 1][0], runs[number - 1][2]) if number else (None, 0)
    gap = text[gap_start:begin]
    if before is not None and before > i:  # the second part of a turn, after the result of a tool
        return gap_start + _after_last_token(gap, template.added_tokens)
    key = ("start", gap, _role(conversation, before), _shape(conversation.messages[i]))
    return gap_start + _remembered(template, key, lambda: _header_length(template, conversation, i, before, gap, where))


def _header_length(
    template: ChatTemplate, conversation: Conversation, i: int, before: int | None, gap: str, where: str
) -> int:
    """How much of the text before turn i, counted from the last character of message `before`, is not the turn's."""
    closed, prompt = _prompt_gaps(template, conversation.upto(i), before, where)
    if prompt is not None and gap.startswith(prompt):
        return len(prompt)
    rendered = [_gap_before(template, conversation.upto(i, turn), i, before, where) for turn in TURNS]
    others = [other for other in rendered if other is not None] or ([] if prompt is None else [prompt])
    if others:
        shared = min(shared_prefix(gap, other, template.added_tokens) for other in others)
        # What stands there without any turn closes the message before.
        return max(shared, len(closed) if closed is not None and gap.startswith(closed) else 0)
    opening = template.generation_prompt
    at = gap.rfind(opening) if opening else -1
    return at + len(opening) if at >= 0 else _after_last_token(gap, template.added_tokens)


def _prompt_gaps(
    template: ChatTemplate, conversation: Conversation, before: int | None, where: str
) -> tuple[str | None, str | None]:
    """What stands behind message `before` at the end of the conversation, and in a prompt for the next turn: None where
    that is refused, or opens nothing here (within a turn, after a tool's result)."""
    try:
        found = attribute(template, conversation, where)
        prompt = render(template, conversation, where, prompt=True)
    except UserError:
        return None, None
    ends = [end for message, _, end in found.runs() if message == before]
    end = 0 if before is None else max(ends, default=-1)
    if end < 0 or prompt[:end] != found.text[:end]:
        return None, None
    return found.text[end:], prompt[end:] if prompt != found.text else None


def _gap_before(
    template: ChatTemplate, conversation: Conversation, i: int, before: int | None, where: str
) -> str | None:
    """What stands between the last character of message `before` and the first of message i."""
    try:
        found = attribute(template, conversation, where)
    except UserError:
        return None
    runs = found.runs()
    number = next((k for k, (message, _, _) in enumerate(runs) if message == i), None)
    if number is None:
        return None
    neighbor, end = (runs[number - 1][0], runs[number - 1][2]) if number else (None, 0)
    return found.text[end : runs[number][1]] if neighbor == before else None


def _end(
    template: ChatTemplate, conversation: Conversation, found: Attribution, runs: Runs, number: int, where: str
) -> int:
    i, _, end = runs[number]
    text = found.text
    after = runs[number + 1] if number + 1 < len(runs) else None
    gap = text[end : after[1] if after else len(text)]
    is_last = i == len(conversation.messages) - 1
    key = ("end", gap, _role(conversation, after and after[0]), _shape(conversation.messages[i]), is_last)
    if is_last and after is None:
        header = text[runs[number - 1][2] if number else 0 : runs[number][1]]
        last = partial(_last_length, template, conversation, gap, header, where)
        return end + _remembered(template, (*key, header), last)
    num_later = int((found.places_of(i) >= end).sum())
    closing = partial(_closing_length, template, conversation, i, gap, num_later, where)
    return end + _remembered(template, (*key, num_later > 0), closing)


def _unopened(template: ChatTemplate, gap: str, length: int) -> int:
    """The length up to a token that opens the next header."""
    opened = [start for start, _ in _tokens_in(gap[:length], sorted(template.openers))]
    return min(opened, default=length)


def _last_length(template: ChatTemplate, conversation: Conversation, gap: str, header: str, where: str) -> int:
    """How much of the text after the last turn closes it: all of it but the header of a turn that never comes."""
    i = len(conversation.messages) - 1
    opened = _unopened(template, gap, len(gap))
    other = _gap_after(template, conversation.upto(i + 1, QUESTION), i, 0, where)
    if other is None or opened < len(gap):
        return opened
    length = shared_prefix(gap, other, template.added_tokens)
    stray = gap[length:].strip()
    return length if stray and gap[:length].strip() and stray in header else len(gap)


def _closing_length(
    template: ChatTemplate, conversation: Conversation, i: int, gap: str, num_later: int, where: str
) -> int:
    """How much of the text after turn i closes it; see `_gap_after`."""
    alone = _gap_after(template, conversation.upto(i + 1), i, num_later, where)
    if alone is not None:
        length = shared_prefix(gap, alone, template.added_tokens)
        rest = gap[length:].lstrip()
        stop = next((stop for stop in template.stops.values() if rest.startswith(stop)), None)
        if stop is not None:
            return len(gap) - len(rest) + len(stop)
        # Where the two part ways before the turn is closed, they differ for another reason than what comes next.
        if gap.startswith(alone.rstrip()) or _after_first_token(gap[:length], template.added_tokens):
            return _unopened(template, gap, length)
    marker = template.end_of_turn
    at = gap.find(marker) if marker else -1
    if at >= 0:
        return at + len(marker)
    # The first of several tokens closes the turn; a single one opens the next.
    first = _after_first_token(gap, template.added_tokens)
    return first if _after_first_token(gap[first:], template.added_tokens) else 0


def _gap_after(template: ChatTemplate, conversation: Conversation, i: int, num_later: int, where: str) -> str | None:
    """What stands after message i and before another's characters; after all but the last `num_later` of its own, for a
    turn that goes on after the result of a tool. (Counted from the end: what is lost of a turn stands at its beginning.)
    """
    try:
        found = attribute(template, conversation, where)
    except UserError:
        return None
    own, all_places = found.places_of(i), np.flatnonzero(found.owner != NOBODY)
    count = len(own) - num_later
    if count <= 0:
        return None
    end = int(own[count - 1]) + 1
    later = all_places[all_places >= end]
    return found.text[end : int(later[0]) if len(later) else len(found.text)]


def _remembered(template: ChatTemplate, key: tuple[object, ...], compute: Callable[[], int]) -> int:
    if key not in template.cuts:
        if len(template.cuts) >= MAX_REMEMBERED:
            template.cuts.clear()
        template.cuts[key] = compute()
    return template.cuts[key]


def _role(conversation: Conversation, i: int | None) -> str | None:
    return None if i is None or i < 0 else str(conversation.messages[i]["role"])


def _shape(message: Message) -> tuple[bool, bool, bool]:
    return bool(str(message["content"]).strip()), bool(reasoning_of(message)), bool(message.get("tool_calls"))


def _tokens_in(gap: str, added_tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    for token in added_tokens:
        at = gap.find(token)
        while at >= 0:
            yield at, at + len(token)
            at = gap.find(token, at + 1)


def _after_last_token(gap: str, added_tokens: Sequence[str]) -> int:
    """Where the last added token of a text ends; its end where there is none."""
    return max((end for _, end in _tokens_in(gap, added_tokens)), default=len(gap))


def _after_first_token(gap: str, added_tokens: Sequence[str]) -> int:
    """Where the first added token of a text ends; its beginning where there is none."""
    return min(((start, -end) for start, end in _tokens_in(gap, added_tokens)), default=(0, 0))[1] * -1
