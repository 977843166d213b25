"""Which characters of a rendered conversation come from which message: found by changing the messages, not by search.

    text      = render(messages)
    perturbed = render(messages with every letter moved k places on in its alphabet)      k = 1..9 says whose it is
    text[p] != perturbed[p]   =>   character p came from the part with that k

A letter becomes another letter of its alphabet and a digit another digit, so lengths stay and templates take the same
branches; texts that stand in the template itself (`</think>`, ...), tags and special tokens stay as they are. With more
parts than nine the same is done again with the next digit of the part's number in base nine.

What no rendering shows was left out by the template: a system prompt, reasoning of an earlier turn, a tool's result.
That is found here as well, in the text and not by reading the template.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sftgo_cli.data.message_forms import REASONING, REASONING_NAMES, Conversation, reasoning_of
from sftgo_cli.data.messages import Message
from sftgo_cli.data.templates import ChatTemplate, render
from sftgo_cli.errors import UserError

Kind = Literal["tools", "content", "reasoning", "calls"]
NUM_SHIFTS = 9  # digits have no more
NOBODY = -1
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


@dataclass(frozen=True)
class Attribution:
    """The rendered text and whose its characters are.

    `owner` is int32[len(text)]: the number of a part, or NOBODY where the template itself wrote. `lost` holds the parts
    that are not in the text, or not all of them.
    """

    text: str
    parts: list[Part]
    owner: npt.NDArray[np.int32]
    lost: frozenset[Part] = field(default_factory=frozenset)

    def messages(self) -> npt.NDArray[np.int64]:
        """int64[len(text)]: the message that each character came from, -1 for the tools, -2 for the template."""
        of_part = np.array([*(part.message for part in self.parts), -2], dtype=np.int64)
        return of_part[self.owner]

    def places_of(self, message: int) -> npt.NDArray[np.int64]:
        """Where the message's characters stand, ascending."""
        return np.flatnonzero(self.messages() == message)

    def runs(self) -> list[tuple[int, int, int]]:
        """(message, start, end) of the stretches from a message's first to its last character before another's."""
        places = np.flatnonzero(self.owner != NOBODY)
        if not len(places):
            return []
        messages = self.messages()[places]
        borders = np.flatnonzero(np.diff(messages)) + 1
        starts, ends = np.r_[0, borders], np.r_[borders, len(places)] - 1
        return [(int(messages[a]), int(places[a]), int(places[b]) + 1) for a, b in zip(starts, ends, strict=True)]


def attribute(template: ChatTemplate, conversation: Conversation, where: str, text: str | None = None) -> Attribution:
    """Whose the characters of the rendered conversation are.

    Args:
        text: the rendered conversation, if it is there already.

    Raises:
        UserError: the template fails on the conversation.
    """
    text = render(template, conversation, where) if text is None else text
    parts = list(_parts(conversation))
    found = Attribution(text, parts, np.full(len(text), NOBODY, dtype=np.int32))
    changes: dict[Part, Changed] = {}
    for numbers in _numberings(conversation, parts):
        owner = _owners(template, conversation, found, numbers, changes, where)
        if owner is not None:
            found = replace(found, owner=owner)
            break
    return _completed(template, conversation, where, found, changes)


def _parts(conversation: Conversation) -> Iterator[Part]:
    if conversation.tools:
        yield Part(-1, "tools")
    for i, message in enumerate(conversation.messages):
        if str(message["content"]).strip():
            yield Part(i, "content")
        if reasoning_of(message).strip():
            yield Part(i, "reasoning")
        if message.get("tool_calls"):
            yield Part(i, "calls")


def _numberings(conversation: Conversation, parts: list[Part]) -> Iterator[list[int]]:
    """Numbers of the parts, first all different, then equal for equal ones: some templates compare messages."""
    yield list(range(len(parts)))
    first: dict[str, int] = {}
    of_part = [conversation.messages[part.message] if part.message >= 0 else None for part in parts]
    keys = [json.dumps([part.kind, of], sort_keys=True, default=str) for part, of in zip(parts, of_part, strict=True)]
    numbers = [first.setdefault(key, number) for number, key in enumerate(keys)]
    if len(first) < len(parts):
        yield numbers


def _owners(
    template: ChatTemplate,
    conversation: Conversation,
    base: Attribution,
    numbers: list[int],
    changes: dict[Part, Changed],
    where: str,
) -> npt.NDArray[np.int32] | None:
    """int32[len(text)] part numbers, or None where a perturbed conversation is rendered to another length. `changes` gets
    what was changed of each part."""
    text, parts = base.text, base.parts
    codes = _codes(text)
    found = np.zeros(len(codes), dtype=np.int64)
    places = np.ones(len(codes), dtype=np.bool_)
    scale = 1
    while scale <= max(numbers, default=0) or scale == 1:
        shifts = {part: 1 + number // scale % NUM_SHIFTS for part, number in zip(parts, numbers, strict=True)}
        try:
            perturbed = render(template, _perturbed(template, conversation, shifts, changes), where)
        except UserError:
            return None
        if len(perturbed) != len(text):
            return None
        shift = _shift_between(codes, _codes(perturbed))
        places &= shift > 0
        found += np.where(shift > 0, shift - 1, 0) * scale
        scale *= NUM_SHIFTS
    places &= found < len(parts)
    owner = np.where(places, found, NOBODY).astype(np.int32)
    return owner if len(set(numbers)) == len(parts) else _in_order(owner, numbers)


def _in_order(owner: npt.NDArray[np.int32], numbers: list[int]) -> npt.NDArray[np.int32]:
    """Equal parts told apart by their order: each further stretch of one number is the next part with that number."""
    places = np.flatnonzero(owner != NOBODY)
    if not len(places):
        return owner
    borders = np.flatnonzero(np.diff(owner[places])) + 1
    waiting = {number: [i for i, other in enumerate(numbers) if other == number] for number in set(numbers)}
    owner = owner.copy()
    for stretch in np.split(places, borders):
        members = waiting[int(owner[stretch[0]])]
        owner[stretch] = members.pop(0) if len(members) > 1 else members[0]
    return owner


def _codes(text: str) -> npt.NDArray[np.int64]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)


def _shift_between(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
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


def _perturbed(
    template: ChatTemplate, conversation: Conversation, shifts: Mapping[Part, int], changes: dict[Part, Changed]
) -> Conversation:
    protected = _protected(template.literals, template.added_tokens)
    for part, shift in shifts.items():
        done = Changed()

        def change(text: str, shift: int = shift) -> str:
            nonlocal done
            changed = _moved(text, shift, protected)
            places = np.flatnonzero(_codes(text) != _codes(changed))
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


def _completed(
    template: ChatTemplate, conversation: Conversation, where: str, found: Attribution, changes: Mapping[Part, Changed]
) -> Attribution:
    """The attribution with the parts that the common perturbation did not show (no letters in them, or a template that
    took another branch), each looked for alone, and with what is not in the text, or not all of it."""
    lost = set()
    for number, part in enumerate(found.parts):
        shown, changed = int((found.owner == number).sum()), changes.get(part, Changed())
        if not shown:
            owner = _alone(template, conversation, where, found, number)
            if not (owner == number).any():
                lost.add(part)
        elif shown < changed.count:
            lost.add(part)
            continue
        else:
            owner = _filled(conversation, found, number, changed)
        found = replace(found, owner=owner)
    return replace(found, lost=frozenset(lost))


def _filled(conversation: Conversation, found: Attribution, number: int, changed: Changed) -> npt.NDArray[np.int32]:
    """The owners with all characters of a text, also those that no perturbation changes (punctuation, tags), where the
    text stands as it is."""
    part = found.parts[number]
    if part.kind not in ("content", "reasoning"):
        return found.owner
    message = conversation.messages[part.message]
    text = str(message["content"]) if part.kind == "content" else reasoning_of(message)
    core = text.strip()
    lead = len(text) - len(text.lstrip())
    start = int(np.argmax(found.owner == number)) - changed.first + lead
    if start < 0 or not found.text.startswith(core, start):
        return found.owner
    owner = found.owner.copy()
    owner[start : start + len(core)] = number
    return owner


def _alone(
    template: ChatTemplate, conversation: Conversation, where: str, found: Attribution, number: int
) -> npt.NDArray[np.int32]:
    """The owners with those of one part, found by changing nothing else, ever more coarsely."""
    protected = _protected(template.literals, template.added_tokens)
    for changed in _coarser(conversation, found.parts[number], protected):
        try:
            other = render(template, changed, where)
        except UserError:
            continue
        if len(other) == len(found.text) and other != found.text:
            free = (_codes(other) != _codes(found.text)) & (found.owner == NOBODY)
            return _up_to_the_next(found.owner, free, number)
    return found.owner


def _up_to_the_next(owner: npt.NDArray[np.int32], free: npt.NDArray[np.bool_], number: int) -> npt.NDArray[np.int32]:
    """`owner` with the part's number at the first of the free places, up to those of another part: a function's name
    may be written once more in the header of its result."""
    if not free.any():
        return owner
    first = int(np.argmax(free))
    others = np.flatnonzero(owner[first:] != NOBODY)
    end = first + int(others[0]) if len(others) else len(owner)
    inside = (np.arange(len(owner)) < end) & free
    return np.where(inside, np.int32(number), owner)


def _coarser(conversation: Conversation, part: Part, protected: re.Pattern[str]) -> Iterator[Conversation]:
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
