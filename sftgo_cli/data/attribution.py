"""Which characters of a rendered conversation come from which message: found by changing the messages, not by search.

    text      = render(messages)
    perturbed = render(messages with every letter moved k places on in its alphabet)      k = 1..9 says whose it is
    text[p] != perturbed[p]   =>   character p came from the part with that k

How messages are changed stands in `perturbation.py`. With more parts than nine the same is done again with the next
digit of the part's number in base nine.

What no rendering shows was left out by the template: a system prompt, reasoning of an earlier turn, a tool's result.
That is found here as well, in the text and not by reading the template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sftgo_cli.data.message_forms import Conversation, reasoning_of
from sftgo_cli.data.perturbation import NUM_SHIFTS, Changed, Part, coarser, codes_of, perturbed_by, shift_between
from sftgo_cli.data.templates import ChatTemplate, render
from sftgo_cli.errors import UserError

NOBODY = -1


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
    codes = codes_of(text)
    found = np.zeros(len(codes), dtype=np.int64)
    places = np.ones(len(codes), dtype=np.bool_)
    scale = 1
    while scale <= max(numbers, default=0) or scale == 1:
        shifts = {part: 1 + number // scale % NUM_SHIFTS for part, number in zip(parts, numbers, strict=True)}
        try:
            perturbed = render(template, perturbed_by(template, conversation, shifts, changes), where)
        except UserError:
            return None
        if len(perturbed) != len(text):
            return None
        shift = shift_between(codes, codes_of(perturbed))
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
    for changed in coarser(template, conversation, found.parts[number]):
        try:
            other = render(template, changed, where)
        except UserError:
            continue
        if len(other) == len(found.text) and other != found.text:
            free = (codes_of(other) != codes_of(found.text)) & (found.owner == NOBODY)
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
