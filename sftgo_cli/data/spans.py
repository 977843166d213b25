"""Which characters of a rendered conversation are the assistant's, message by message.

With `{% generation %}` markers the template says so itself (but for a header that it marks as well); without,
`turns.py` finds out. A span includes the
end-of-turn marker and no white space after it. A template that ends a turn with the next turn's header gets that token
written after the last turn, too, so that stopping is learnt there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sftgo_cli.data.attribution import Attribution, attribute
from sftgo_cli.data.message_forms import Conversation, reasoning_of
from sftgo_cli.data.perturbation import Part
from sftgo_cli.data.templates import ChatTemplate, render, render_marked, shared_prefix
from sftgo_cli.data.turns import turn_spans
from sftgo_cli.errors import UserError

Span = tuple[int, int]
WEIGHTS = ("weights", "remove loss_weight from messages that are not the assistant's, or change data.train_on")
ROLES = ("groups", "choose another data.chat_template, or group by another key than grouping.roles")


def answer_spans(
    template: ChatTemplate, conversation: Conversation, wanted: Sequence[int], where: str
) -> tuple[str, dict[int, list[Span]]]:
    """The rendered text, and the character spans of each wanted assistant message.

    Raises:
        UserError: the template fails on the conversation, or a turn cannot be found in what it writes.
    """
    found, spans = attributed_spans(template, conversation, wanted, where)
    return found.text, spans


def attributed_spans(
    template: ChatTemplate, conversation: Conversation, wanted: Sequence[int], where: str
) -> tuple[Attribution, dict[int, list[Span]]]:
    """As `answer_spans`, with whose each character of the text is.

    Raises:
        UserError: as `answer_spans`.
    """
    if template.has_markers:
        text, marks = render_marked(template, conversation, where)
        found = attribute(template, conversation, where, text)
        marked = _marked(conversation, found, marks, wanted)
        return found, _said(conversation, found, _without_headers(template, conversation, found, marked, where))
    found = attribute(template, conversation, where)
    spans = turn_spans(template, conversation, found, wanted, where)
    for i in wanted:
        message = conversation.messages[i]
        texts = (str(message["content"]).strip(), reasoning_of(message).strip())
        if not spans[i] and any(text and text in found.text for text in texts):
            raise UserError(
                f"cannot tell which text is message {i + 1}: the chat template has no {{% generation %}} markers and "
                "does not write the message as it stands",
                where,
                "add {% generation %} markers to the template, or choose another data.chat_template",
            )
    return _stopped(template, conversation, found, _said(conversation, found, spans))


def _said(conversation: Conversation, found: Attribution, spans: dict[int, list[Span]]) -> dict[int, list[Span]]:
    """The spans without the end of a turn whose calls the template leaves out, or all of whose words: a model that
    learns to end there learns to end instead of calling."""
    kept = {}
    for i, own in spans.items():
        places = found.places_of(i)
        if Part(i, "calls") in found.lost or not len(places):
            end = int(places[-1]) + 1 if len(places) else 0
            own = [(start, min(stop, end)) for start, stop in own if start < end]
        kept[i] = own
    return kept


def _stopped(
    template: ChatTemplate, conversation: Conversation, found: Attribution, spans: dict[int, list[Span]]
) -> tuple[Attribution, dict[int, list[Span]]]:
    """With the token that the next turn would begin with, where that is what ends a turn."""
    last = len(conversation.messages) - 1
    if not template.stops or conversation.messages[last]["role"] != "assistant":
        return found, spans
    role = "tool" if conversation.messages[last].get("tool_calls") else "user"
    stop = template.stops.get(role, template.stops["user"])
    text = found.text.rstrip()
    owner = np.concatenate([found.owner[: len(text)], np.full(len(stop), -1, dtype=np.int32)])
    if last in spans:
        spans = {**spans, last: [*spans[last][:-1], (spans[last][-1][0], len(text) + len(stop))]}
    return Attribution(text + stop, found.parts, owner, found.lost), spans


def _marked(
    conversation: Conversation, found: Attribution, marks: Iterable[Span], wanted: Sequence[int]
) -> dict[int, list[Span]]:
    """The marks of each wanted message: a mark is the message's whose characters it holds, else the one's before it."""
    kept = [span for span in (_trim(found.text, *mark) for mark in _joined(marks)) if span[0] < span[1]]
    answers = [i for i, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    if len(kept) == len(answers):
        return {i: [mark] for i, mark in zip(answers, kept, strict=True) if i in wanted}
    messages = found.messages()
    spans: dict[int, list[Span]] = {i: [] for i in wanted}
    for start, end in kept:
        inside = messages[start:end]
        held = inside[np.isin(inside, answers)]
        before = messages[:start][np.isin(messages[:start], answers)]
        of = int(held[0]) if len(held) else int(before[-1]) if len(before) else -1
        if of in spans:
            spans[of].append((start, end))
    return spans


def message_regions(
    template: ChatTemplate, conversation: Conversation, text: str, where: str, need: tuple[str, str] = WEIGHTS
) -> list[Span]:
    """The characters of every message, header included, one after the other, covering the whole text.

    Args:
        need: for the error: what of the messages needs a place, and what to do where it has none.

    Raises:
        UserError: the template does not write the conversation message after message.
    """
    ends = [0]
    for i in range(1, len(conversation.messages)):
        before = render(template, conversation.upto(i), where)
        end = shared_prefix(before, text, template.added_tokens)
        if not _only_added(before[end:], template.added_tokens):
            raise UserError(
                f"the chat template changes messages before number {i + 1}, so their {need[0]} have no place",
                where,
                need[1],
            )
        ends.append(max(end, ends[-1]))
    return list(zip(ends, [*ends[1:], len(text)], strict=True))


def content_span(conversation: Conversation, i: int, found: Attribution, turn: Span, where: str) -> tuple[Span, int]:
    """Where message i's own text lies in the rendered one, and how many white space characters at its beginning are
    not written.

    Raises:
        UserError: the template writes it changed, or it cannot be told where.
    """
    content, text = str(conversation.messages[i]["content"]), found.text
    core = content.strip()
    part = Part(i, "content")
    places = np.flatnonzero(found.owner == found.parts.index(part)) if part in found.parts else np.zeros(0, np.int64)
    start = text.find(core, max(turn[0], int(places[0]) - len(core)), turn[1]) if core and len(places) else -1
    if start < 0 or not start <= int(places[0]) < start + len(core):
        raise UserError(
            f"the chat template does not write message {i + 1} as it stands, so its segments have no place",
            where,
            "give the message as one text, or choose another data.chat_template",
        )
    lead, tail = content[: len(content) - len(content.lstrip())], content[len(content.rstrip()) :]
    before = next(k for k in range(len(lead), -1, -1) if text.endswith(lead[len(lead) - k :], turn[0], start))
    end = start + len(core)
    after = next(k for k in range(len(tail), -1, -1) if text.startswith(tail[:k], end))
    return (start - before, end + after), len(lead) - before


def _joined(marks: Iterable[Span]) -> list[Span]:
    """Marks that touch as one: white space between them is the assistant's."""
    joined: list[Span] = []
    for start, end in sorted(marks):
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def _without_headers(
    template: ChatTemplate, conversation: Conversation, found: Attribution, spans: dict[int, list[Span]], where: str
) -> dict[int, list[Span]]:
    """The marks from where the turn begins: some templates mark its header too (SmolLM3), which every prompt ends with."""
    turns = turn_spans(template, conversation, found, spans, where)
    return {
        i: [(max(start, turns[i][0][0]) if end > turns[i][0][0] else start, end) for start, end in own]
        if turns[i]
        else own
        for i, own in spans.items()
    }


def _trim(text: str, start: int, end: int) -> Span:
    return start, start + len(text[start:end].rstrip())


def _only_added(text: str, added_tokens: tuple[str, ...]) -> bool:
    """Whether nothing but added tokens and white space is left."""
    for token in added_tokens:
        text = text.replace(token, "")
    return not text.strip()
