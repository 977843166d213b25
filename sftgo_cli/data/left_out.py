"""What a row holds and the chat template does not write, by kind: found in the rendered text.

A system prompt that a template ignores changes what is learnt; reasoning or a call of an answer that is to be trained,
and is not in the text, is lost supervision. Both are counted, the second stops the run unless the recipe allows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sftgo_cli.data.attribution import Attribution
from sftgo_cli.data.message_forms import Conversation
from sftgo_cli.data.perturbation import Part

SYSTEM, USER, TOOL_RESULTS, ANSWERS = "system prompts", "user messages", "tool results", "answer text"
REASONING, TOOL_CALLS, TOOLS = "reasoning", "tool calls", "tool descriptions"
OF_ANSWERS = (ANSWERS, REASONING, TOOL_CALLS)
BY_ROLE = {"system": SYSTEM, "developer": SYSTEM, "user": USER, "assistant": ANSWERS}
UNMARKED = " outside {% generation %}"
UNTRAINED = " (not trained on)"  # of the assistant's, in turns that are only read
REASONING_ENDS = ("</think>", "[/THINK]", "</thinking>", "</reasoning>")


@dataclass(frozen=True)
class LeftOut:
    """How many of a row's messages lose something of one kind, and whether it was to be trained on."""

    kind: str
    num_messages: int
    supervised: bool


def left_out(
    conversation: Conversation,
    found: Attribution,
    wanted: Collection[int],
    spans: Mapping[int, Sequence[tuple[int, int]]] | None,
) -> tuple[LeftOut, ...]:
    """What the rendered conversation lacks; with `spans` also what stands in it and is not supervised."""
    counts: Counter[tuple[str, bool]] = Counter()
    for number, part in enumerate(found.parts):
        supervised = part.message in wanted
        if part in found.lost:
            counts[_kind(conversation, part), supervised] += 1
        elif supervised and spans is not None and not _covered(found, number, spans[part.message]):
            counts[_kind(conversation, part) + UNMARKED, True] += 1
    return tuple(LeftOut(kind, count, supervised) for (kind, supervised), count in sorted(counts.items()))


def _kind(conversation: Conversation, part: Part) -> str:
    if part.kind == "tools":
        return TOOLS
    if part.kind == "calls":
        return TOOL_CALLS
    message = conversation.messages[part.message]
    inline = message["role"] == "assistant" and any(end in str(message["content"]) for end in REASONING_ENDS)
    if part.kind == "reasoning" or inline:
        return REASONING
    return BY_ROLE.get(str(message["role"]), TOOL_RESULTS)


def _covered(found: Attribution, number: int, spans: Sequence[tuple[int, int]]) -> bool:
    places = np.flatnonzero(found.owner == number)
    inside = np.zeros(len(places), dtype=np.bool_)
    for start, end in spans:
        inside |= (places >= start) & (places < end)
    return bool(inside.all())
