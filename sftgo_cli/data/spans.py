"""Which characters of a rendered conversation are the assistant's, message by message.

With `{% generation %}` markers the template says so itself. Without, a turn is found by prefix rendering: it starts
where the conversation before it, rendered with the generation prompt, ends, and it ends where the conversation up to it
ends. Templates that write an earlier turn differently once more turns follow (reasoning taken out, an end-of-text
token only at the very end) break that rule; for these the same conversation is rendered with only this turn's text
replaced, which shows where the turn lies. What neither explains is refused. A span includes the end-of-turn marker
and no white space after it.

Where a message's own text lies within its turn is found in the same way, and compared with what stands there: white
space that the template took away at its ends is allowed, anything else that was changed is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftgo_cli.data.messages import Message
from sftgo_cli.data.templates import PROBE_QUESTION, ChatTemplate, render, render_marked, shared_prefix
from sftgo_cli.errors import UserError

Span = tuple[int, int]
STAND_IN = "zqstandinzq"
PROBE_ANSWER = "Good day"
WEIGHTS = ("weights", "remove loss_weight from messages that are not the assistant's, or change data.train_on")
ROLES = ("groups", "choose another data.chat_template, or group by another key than grouping.roles")


def answer_spans(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    wanted: Sequence[int],
    where: str,
) -> tuple[str, dict[int, list[Span]]]:
    """The rendered text, and the character spans of each wanted assistant message.

    Raises:
        UserError: the template fails on the conversation, or a turn cannot be found in what it writes.
    """
    if not template.has_markers:
        text = render(template, messages, tools, where)
        return text, {i: [_turn(template, messages, tools, i, text, where)] for i in wanted}
    text, marks = render_marked(template, messages, tools, where)
    marks = [span for span in (_trim(text, *mark) for mark in marks) if span[0] < span[1]]
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if len(marks) == len(answers):
        return text, {i: [mark] for i, mark in zip(answers, marks, strict=True) if i in wanted}
    turns = {i: _turn(template, messages, tools, i, text, where) for i in wanted}
    return text, {i: [mark for mark in marks if mark[0] < end and mark[1] > start] for i, (start, end) in turns.items()}


def message_regions(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    text: str,
    where: str,
    need: tuple[str, str] = WEIGHTS,
) -> list[Span]:
    """The characters of every message, header included, one after the other, covering the whole text.

    Args:
        need: for the error: what of the messages needs a place, and what to do where it has none.

    Raises:
        UserError: the template does not write the conversation message after message.
    """
    ends = [0]
    for i in range(1, len(messages)):
        before = render(template, messages[:i], tools, where)
        end = shared_prefix(before, text, template.added_tokens)
        if not _only_added(before[end:], template.added_tokens):
            raise UserError(
                f"the chat template changes messages before number {i + 1}, so their {need[0]} have no place",
                where,
                need[1],
            )
        ends.append(max(end, ends[-1]))
    return list(zip(ends, [*ends[1:], len(text)], strict=True))


def content_span(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    i: int,
    text: str,
    turn: Span,
    where: str,
) -> tuple[Span, int]:
    """Where message i's own text lies in `text`, and how many white space characters at its beginning are not written.

    Raises:
        UserError: the template writes it changed, or it cannot be told where.
    """
    content = str(messages[i]["content"])
    split = _around(template, messages, tools, i, text, where)
    if split is not None and text.startswith(split[0]) and text.endswith(split[1]):
        start, end = len(split[0]), len(text) - len(split[1])
        skipped = _unwritten(content, text[start:end]) if turn[0] <= start <= end else None
        if skipped is not None:
            return (start, end), skipped
    core = content.strip()
    start = text.find(core, *turn) if core else -1
    if start >= 0 and text.find(core, start + 1, turn[1]) < 0:
        return (start, start + len(core)), len(content) - len(content.lstrip())
    raise UserError(
        f"the chat template does not write message {i + 1} as it stands, so its segments have no place",
        where,
        "give the message as one text, or choose another data.chat_template",
    )


def _unwritten(content: str, written: str) -> int | None:
    """How many characters at the beginning of `content` are missing in `written`; None where more than white space at
    the ends is."""
    skipped = (len(content) - len(content.lstrip())) - (len(written) - len(written.lstrip()))
    is_same = skipped >= 0 and content.startswith(written, skipped) and content.strip() == written.strip()
    return skipped if is_same else None


def stop_marker(template: ChatTemplate) -> str:
    """What ends an assistant turn under this template, after checking that its first token is trained.

    Raises:
        UserError: the template writes no end of turn, or leaves it out of what is trained.
    """
    conversation = [PROBE_QUESTION, {"role": "assistant", "content": PROBE_ANSWER}]
    where = "chat template, on a probe conversation"
    text, spans = answer_spans(template, conversation, None, [1], where)
    found = text.rfind(PROBE_ANSWER)
    if found < 0:
        raise UserError("the chat template leaves out the assistant's text", where, "choose another data.chat_template")
    tail = text[found + len(PROBE_ANSWER) :]
    marker = tail.strip()
    if not marker:
        raise UserError(
            "the template never trains its stop token: it writes nothing after the assistant's text",
            where,
            "write eos_token or an end-of-turn token after the answer",
        )
    positions = [(marker.find(token), -len(token)) for token in template.added_tokens if token in marker]
    first, length = min(positions, default=(0, -len(marker)))
    end = found + len(PROBE_ANSWER) + tail.find(marker) + first - length
    trained = {position for start, stop in spans[1] for position in range(start, stop)}
    if not trained.issuperset(range(found, end)):
        raise UserError(
            f"the template never trains its stop token {marker[first : first - length]!r}",
            where,
            "move it inside {% generation %} ... {% endgeneration %}",
        )
    return marker


def _turn(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    i: int,
    text: str,
    where: str,
) -> Span:
    span = _by_prefix(template, messages, tools, i, text, where)
    if span is None:
        span = _by_stand_in(template, messages, tools, i, text, where)
    if span is None:
        raise UserError(
            f"cannot tell which text is message {i + 1}: the chat template has no {{% generation %}} markers and "
            "rewrites the conversation around it",
            where,
            "add {% generation %} markers to the template, or choose another data.chat_template",
        )
    return _trim(text, *span)


def _trim(text: str, start: int, end: int) -> Span:
    return start, start + len(text[start:end].rstrip())


def _by_prefix(
    template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None, i: int, text: str, where: str
) -> Span | None:
    """The turn's span where both renderings are prefixes of `text`."""
    if i == 0 or not template.generation_prompt:
        return None
    try:
        head = render(template, messages[:i], tools, where, prompt=True)
        if not text.startswith(head) or not head.endswith(template.generation_prompt):
            return None
        if i == len(messages) - 1:
            return len(head), len(text)
        upto = render(template, messages[: i + 1], tools, where)
    except UserError:
        return None  # some templates refuse conversations that end here; the stand-in keeps the conversation whole
    return (len(head), len(upto)) if text.startswith(upto) and len(upto) >= len(head) else None


def _by_stand_in(
    template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None, i: int, text: str, where: str
) -> Span | None:
    """The turn's span from renderings of the same conversation with only this turn's text replaced."""
    split = _around(template, messages, tools, i, text, where)
    if split is None:
        return None
    before, after = split
    start = _turn_start(template, messages, tools, i, text, before, where)
    if start is None or not text.startswith(before[:start]):
        return None
    if i == len(messages) - 1:
        return start, len(text)
    if not text.endswith(after):
        return None
    ended = _around(template, messages[: i + 1], tools, i, text, where)
    if ended is None:
        return None
    common = shared_prefix(ended[1], after, template.added_tokens)
    if not _only_added(ended[1][common:], template.added_tokens):
        return None
    end = len(text) - len(after) + common
    return (start, end) if start <= end else None


def _turn_start(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    i: int,
    text: str,
    before: str,
    where: str,
) -> int | None:
    """Where the turn opens in `before`, the text up to its stand-in: after its generation prompt, where that is written
    after the previous message's text; else where its own text begins."""
    opening = template.generation_prompt
    found = before.rfind(opening) if opening else -1
    if found < 0:
        return len(before)
    if i > 0:
        previous = _around(template, messages, tools, i - 1, text, where)
        if previous is not None and text.endswith(previous[1]) and found < len(text) - len(previous[1]):
            return len(before)
    return found + len(opening)


def _around(
    template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None, i: int, text: str, where: str
) -> tuple[str, str] | None:
    """The text before and after message i's own text, found by putting a stand-in there; None where it is not written
    exactly once."""
    stand_in = STAND_IN
    while stand_in in text:
        stand_in += "q"
    replaced = [*messages[:i], {**messages[i], "content": stand_in}, *messages[i + 1 :]]
    try:
        parts = render(template, replaced, tools, where).split(stand_in)
    except UserError:
        return None
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _only_added(text: str, added_tokens: tuple[str, ...]) -> bool:
    """Whether nothing but added tokens and white space is left."""
    for token in added_tokens:
        text = text.replace(token, "")
    return not text.strip()
