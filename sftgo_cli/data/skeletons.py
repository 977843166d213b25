"""Rows that are rendered like an earlier one need no comparison of renderings: the text between the messages is the same.

    text == gap_0 + message_0 + gap_1 + message_1 + ... + gap_n

Where that holds with the gaps of an earlier row of the same roles, the turns stand where they stood there. It is checked
for every row, character by character, and holds for nearly all of them; a rendering costs a tenth of an attribution.
Rows with tools, calls, reasoning, segments or variables of their own always take the long way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sftgo_cli.data.attribution import Attribution
from sftgo_cli.data.message_forms import Conversation, reasoning_of
from sftgo_cli.data.templates import ChatTemplate, render

Span = tuple[int, int]
MAX_REMEMBERED = 1000
Anchor = tuple[bool, int]  # after the message's last character (else: from its first), and how far from there


@dataclass(frozen=True)
class Skeleton:
    """The text before, between and after the messages, and where each wanted turn lies relative to its message."""

    gaps: tuple[str, ...]
    turns: Mapping[int, tuple[tuple[Anchor, Anchor], ...]]


def known_turns(
    template: ChatTemplate, conversation: Conversation, wanted: Sequence[int], where: str
) -> tuple[str, dict[int, list[Span]]] | None:
    """The rendered text and the spans of the wanted turns, where an earlier row shows them; None where none does.

    Raises:
        UserError: the template fails on the conversation.
    """
    skeleton = template.skeletons.get(_key(conversation, wanted))
    if skeleton is None or not _is_plain(conversation):
        return None
    contents = [str(message["content"]) for message in conversation.messages]
    pieces, places, end = [skeleton.gaps[0]], [], len(skeleton.gaps[0])
    for content, gap in zip(contents, skeleton.gaps[1:], strict=True):
        places.append((end, end + len(content)))
        pieces += [content, gap]
        end += len(content) + len(gap)
    text = render(template, conversation, where)
    if text != "".join(pieces):
        return None
    return text, {
        i: [(places[i][start[0]] + start[1], places[i][stop[0]] + stop[1]) for start, stop in anchors]
        for i, anchors in skeleton.turns.items()
    }


def remember(
    template: ChatTemplate,
    conversation: Conversation,
    wanted: Sequence[int],
    found: Attribution,
    spans: Mapping[int, Sequence[Span]],
) -> None:
    """Keeps what a row shows for later ones, if its messages stand one after the other as they are."""
    runs = found.runs()
    contents = [str(message["content"]) for message in conversation.messages]
    if not _is_plain(conversation) or [i for i, _, _ in runs] != list(range(len(contents))):
        return
    if any(found.text[start:end] != contents[i] for i, start, end in runs):
        return
    borders = [0, *(place for _, start, end in runs for place in (start, end)), len(found.text)]
    gaps = tuple(found.text[start:end] for start, end in zip(borders[::2], borders[1::2], strict=True))
    turns = {
        i: tuple((_anchor(start, runs[i]), _anchor(end, runs[i])) for start, end in own) for i, own in spans.items()
    }
    if len(template.skeletons) >= MAX_REMEMBERED:
        template.skeletons.clear()
    template.skeletons[_key(conversation, wanted)] = Skeleton(gaps, turns)


def _anchor(place: int, run: tuple[int, int, int]) -> Anchor:
    _, start, end = run
    return (False, place - start) if place <= start else (True, place - end)


def _key(conversation: Conversation, wanted: Sequence[int]) -> tuple[object, ...]:
    return (*(message["role"] for message in conversation.messages), *wanted)


def _is_plain(conversation: Conversation) -> bool:
    if conversation.tools or conversation.variables:
        return False
    return not any(
        message.get("tool_calls") or reasoning_of(message) or message["content"] != str(message["content"]).strip()
        for message in conversation.messages
    ) and all(message["content"] for message in conversation.messages)
