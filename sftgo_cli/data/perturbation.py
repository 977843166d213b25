"""Messages with every letter moved on in its alphabet: lengths stay, and templates take the same branches.

A letter becomes another letter of its alphabet and a digit another digit. Texts that stand in the template itself
(`</think>`, ...), tags and special tokens stay as they are, for a template may look for them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sftgo_cli.data.message_forms import REASONING, REASONING_NAMES, Conversation, reasoning_of
from sftgo_cli.data.messages import Message
from sftgo_cli.data.templates import ChatTemplate

Kind = Literal["tools", "content", "reasoning", "calls"]
NUM_SHIFTS = 9  # digits have no more
# First character and size of alphabets whose members can stand for one another; each is longer than NUM_SHIFTS.
ALPHABETS = (
    ("0", 10), ("A", 26), ("a", 26), ("À", 23), ("à", 23), ("Ā", 48), ("Α", 17), ("α", 25), ("А", 32), ("а", 32),
    ("א", 27), ("ء", 26), ("ف", 10), ("अ", 53), ("ก", 46), ("Ạ", 90), ("ぁ", 86), ("ァ", 90), ("㐀", 6592),
    ("一", 20902), ("가", 11172),
)  # fmt: skip
FIRST = [ord(first) for first, _ in ALPHABETS]
STARTS = np.array(FIRST, dtype=np.int64)
SIZES = np.array([size for _, size in ALPHABETS], dtype=np.int64)
TAG = r"<[^<>\n]{1,60}>|\[/?[A-Z_]{2,30}\]"


@dataclass(frozen=True)
class Part:
    """One part of what a template writes: a message's text, reasoning or calls, or the offered tools (message -1)."""

    message: int
    kind: Kind


@dataclass(frozen=True)
class Changed:
    """How many characters of a part a perturbation changed, and which was the first of its text."""

    count: int = 0
    first: int = 0


def codes_of(text: str) -> npt.NDArray[np.int64]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)


def shift_between(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64[L]: by how many places each letter was moved on in its alphabet; 0 where it stayed, or is none."""
    alphabet = np.maximum(np.searchsorted(STARTS, before, side="right") - 1, 0)
    start, size = STARTS[alphabet], SIZES[alphabet]
    inside = (before >= start) & (before < start + size) & (after >= start) & (after < start + size)
    return np.where(inside, (after - before) % size, 0)


class _Alphabet(dict[int, int]):
    """For `str.translate`: each letter to the one that stands `shift` places on in its alphabet, as they are met."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def __missing__(self, code: int) -> int:
        alphabet = bisect_right(FIRST, code) - 1
        start, size = FIRST[alphabet], ALPHABETS[alphabet][1]
        moved = start + (code - start + self.shift) % size if start <= code < start + size else code
        self[code] = moved
        return moved


MOVES = [_Alphabet(shift) for shift in range(NUM_SHIFTS + 1)]


@lru_cache(maxsize=64)
def _protected(literals: frozenset[str], added_tokens: tuple[str, ...]) -> re.Pattern[str]:
    """What is left as it stands: tags, special tokens, and every text that the template itself may look for."""
    words = {word.strip() for word in literals if len(word.strip()) > 2} | {token for token in added_tokens if token}
    found = [re.escape(word) for word in sorted(words, key=len, reverse=True) if any(map(str.isalnum, word))]
    return re.compile("|".join([*found, TAG]))


def _moved(text: str, shift: int, protected: re.Pattern[str]) -> str:
    pieces, end = [], 0
    for match in protected.finditer(text):
        pieces += [text[end : match.start()].translate(MOVES[shift]), match.group()]
        end = match.end()
    return "".join([*pieces, text[end:].translate(MOVES[shift])])


def perturbed_by(
    template: ChatTemplate, conversation: Conversation, shifts: Mapping[Part, int], changes: dict[Part, Changed]
) -> Conversation:
    protected = _protected(template.literals, template.added_tokens)
    for part, shift in shifts.items():
        done = Changed()

        def change(text: str, shift: int = shift) -> str:
            nonlocal done
            changed = _moved(text, shift, protected)
            places = np.flatnonzero(codes_of(text) != codes_of(changed))
            first = done.first if done.count or not len(places) else int(places[0])
            done = Changed(done.count + len(places), first)
            return changed

        conversation = _with_changed(conversation, part, change)
        changes[part] = done
    return conversation


def _with_changed(conversation: Conversation, part: Part, change: Callable[[str], str]) -> Conversation:
    """The conversation with one part's texts changed: of the tools, all their descriptions."""
    if part.kind == "tools":
        return replace(conversation, tools=_each_description(conversation.tools, change))
    changed = _with_part(conversation.messages[part.message], part.kind, change)
    return conversation.replaced(part.message, changed)


def _each_description(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {
            key: change(item) if key == "description" and isinstance(item, str) else _each_description(item, change)
            for key, item in value.items()
        }
    return [_each_description(item, change) for item in value] if isinstance(value, list) else value


def _with_part(message: Message, kind: Kind, change: Callable[[str], str]) -> Message:
    """The message with one part's texts changed."""
    if kind == "content":
        return {**message, "content": change(str(message["content"]))}
    if kind == "reasoning":
        changed = change(reasoning_of(message))
        return {**message, **{name: changed for name in REASONING_NAMES if message.get(name)}, REASONING: changed}
    return {**message, "tool_calls": [_with_arguments(call, change) for call in message["tool_calls"]]}


def _with_arguments(call: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    function = call["function"]
    return _with_function(call, "arguments", _each_text(function.get("arguments"), change))


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_text(item, change) for key, item in value.items()}
    return [_each_text(item, change) for item in value] if isinstance(value, list) else value


def coarser(template: ChatTemplate, conversation: Conversation, part: Part) -> Iterator[Conversation]:
    """The conversation with nothing but one part changed, ever more coarsely; lengths stay."""
    protected = _protected(template.literals, template.added_tokens)
    yield _with_changed(conversation, part, partial(_moved, shift=1, protected=protected))
    yield _with_changed(conversation, part, lambda text: re.sub(r"\S", "z", text))
    if part.kind != "calls":
        return
    message = conversation.messages[part.message]
    for key, change in (("arguments", _each_number), ("name", lambda name: "z" * len(name))):
        calls = [_with_function(call, key, change(call["function"].get(key))) for call in message["tool_calls"]]
        yield conversation.replaced(part.message, {**message, "tool_calls": calls})


def _with_function(call: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**call, "function": {**call["function"], key: value}}


def _each_number(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(re.sub(r"\d", lambda digit: "1" if digit.group() == "9" else "9", str(value)))
    if isinstance(value, dict):
        return {key: _each_number(item) for key, item in value.items()}
    return [_each_number(item) for item in value] if isinstance(value, list) else value
