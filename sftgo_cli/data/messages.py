"""Conversations: OpenAI's, ShareGPT's and ms-swift's messages, checked and brought into the one form that chat templates
read.

A message is a dict with `role` and text `content`; it may have `tool_calls` (see `tool_calls.py`), `reasoning_content`,
`name`, `tool_call_id`, and keys that are unknown here, which are passed on to the template and named. Calls that stand as
messages of their own (`tool_call`, `function_call`) and the assistant's text before them are one turn, as templates
write it. OpenAI's older `function_call` of a message becomes its `tool_calls`, a `refusal` its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sftgo_cli.data.json_text import parse_cell
from sftgo_cli.data.message_content import REASONING_KEYS, Content, read_content, read_reasoning
from sftgo_cli.data.message_weights import WEIGHT_KEYS, asks_for_training, message_weight
from sftgo_cli.data.roles import read_role
from sftgo_cli.data.segments import Segment
from sftgo_cli.data.tool_calls import read_calls
from sftgo_cli.errors import UserError

Message = dict[str, Any]

TEXT_KEYS = ("content", "value")
READ_HERE = ("role", "from", *TEXT_KEYS, "tool_calls", "function_call", "refusal", *REASONING_KEYS, *WEIGHT_KEYS)
ASKED, SAID = ("human", "user"), ("assistant", "gpt", "bot")  # keys of a question with its answer
PASSED_ON = ("name", "tool_call_id")
ASKED_ELSEWHERE = "message_trained"  # noticed: a message that is not the assistant's says that it is to be trained on


@dataclass(frozen=True)
class Turn:
    """One checked message; `weight` None says nothing. `unknown` are its keys that nothing here reads."""

    message: Message
    weight: float | None = None
    segments: tuple[Segment, ...] = ()
    unknown: frozenset[str] = frozenset()
    noticed: frozenset[str] = frozenset()
    is_call: bool = False  # it stood as a message of its own


@dataclass(frozen=True)
class Conversation:
    """Checked turns, and what they say as lists by message."""

    turns: tuple[Turn, ...]

    def __add__(self, other: Conversation) -> Conversation:
        return Conversation((*self.turns, *other.turns))

    @property
    def messages(self) -> list[Message]:
        """The messages alone."""
        return [turn.message for turn in self.turns]

    @property
    def weights(self) -> list[float] | None:
        """The messages' weights, 1 where one says nothing; None where none does."""
        if all(turn.weight is None for turn in self.turns):
            return None
        return [_weight(turn) for turn in self.turns]

    @property
    def segments(self) -> dict[int, tuple[Segment, ...]]:
        """The segments of the messages that have some, by message number."""
        return {number: turn.segments for number, turn in enumerate(self.turns) if turn.segments}

    @property
    def unknown(self) -> frozenset[str]:
        """The message keys that nothing here reads."""
        return frozenset().union(*(turn.unknown for turn in self.turns))

    @property
    def noticed(self) -> frozenset[str]:
        """What a person should hear about these messages."""
        return frozenset().union(*(turn.noticed for turn in self.turns))


def spoken(role: str, text: str, segments: tuple[Segment, ...] = ()) -> Conversation:
    """A conversation of one text."""
    return Conversation((Turn({"role": role, "content": text}, segments=segments),))


def read_conversation(value: Any, column: str, where: str) -> Conversation:
    """A list of `{role, content, ...}` or `{from, value}`, or its JSON text.

    Raises:
        UserError: not a list of messages, a role is unknown, content is null or no text, or weights contradict.
    """
    place = f"{where}, column {column}"
    if isinstance(value, str) and value.lstrip().startswith(("[", "array(")):
        value = parse_cell(value, place)
    value = _as_list(value)
    turns = [
        _turn(one, f"{place}[{index}]")
        for index, item in enumerate(_list_of_dicts(value, place))
        for one in _exchanged(item)
    ]
    return Conversation(tuple(_joined(turns, place)))


def with_system(conversation: Conversation, system: str | None, where: str) -> Conversation:
    """The conversation with the system prompt of its row in front.

    Raises:
        UserError: the conversation begins with another one.
    """
    if not system:
        return conversation
    if has_system(conversation.messages):
        if conversation.messages[0]["content"] == system:
            return conversation
        fix = "keep the column or the message"
        raise UserError("the row has two system prompts", f"{where}, column system", fix)
    return spoken("system", system) + conversation


def has_system(messages: Sequence[Message]) -> bool:
    """Whether a conversation begins with a system prompt."""
    return bool(messages) and messages[0]["role"] in ("system", "developer")


def _list_of_dicts(value: Any, place: str) -> list[dict[str, Any]]:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        fix = "give [{role: user, content: ...}, {role: assistant, content: ...}, ...]"
        raise UserError("the texts of a conversation do not say who speaks", place, fix)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        kind = "null" if value is None else type(value).__name__
        if isinstance(value, list):
            kind = f"a list with {next(type(item).__name__ for item in value if not isinstance(item, dict))}"
        raise UserError(f"expected a list of messages, found {kind}", place, "give [{role: ..., content: ...}, ...]")
    if not value:
        raise UserError("the list of messages is empty", place, "fill it in or remove the row")
    return value


def _as_list(value: Any) -> Any:
    """The messages of `{role: [...], content: [...]}`, as older Hub data sets hold them; anything else as it is."""
    if not isinstance(value, dict) or not ("role" in value or "from" in value):
        return value
    columns = [cells for cells in value.values() if isinstance(cells, list)]
    if len(columns) < len(value) or len({len(cells) for cells in columns}) != 1:
        return value
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _exchanged(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of `{human: ..., assistant: ...}`, as ms-swift writes a question with its answer; else the item."""
    asked = next((name for name in ASKED if name in item), None)
    said = next((name for name in SAID if name in item), None)
    if "role" in item or "from" in item or asked is None or said is None:
        return [item]
    messages = [{"role": "system", "content": item["system"]}] if item.get("system") else []
    more = {key: value for key, value in item.items() if key not in (asked, said, "system")}
    return [*messages, {"role": "user", "content": item[asked]}, {"role": "assistant", "content": item[said], **more}]


def _turn(item: dict[str, Any], place: str) -> Turn:
    role, is_call = read_role(item["from"] if item.get("from") is not None else item.get("role"), place)
    if item.get("training_detail") or item.get("train_detail"):
        raise UserError("offsets of trained characters are not read", place, "give content parts [{text, train}, ...]")
    key = next((key for key in TEXT_KEYS if item.get(key) is not None), "value" if "from" in item else "content")
    weight = message_weight(item, place)
    extra = {name: value for name, value in item.items() if value is not None and name not in READ_HERE}
    unknown = frozenset(extra) - {*PASSED_ON}
    if is_call:
        value = item.get(key)
        value = parse_cell(value, f"{place}.{key}") if isinstance(value, str) else value
        message: Message = {"role": role, "content": "", "tool_calls": read_calls(value, f"{place}.{key}")}
        return Turn(message | extra, weight, unknown=unknown, is_call=True)
    calls = _calls(item, place)
    content, reasoning = _said(item, key, role, bool(calls), place)
    message = {"role": role, "content": content.text}
    if calls:
        message["tool_calls"] = calls
    if reasoning is not None:  # also under the name that its author chose: some templates read only that one
        message |= {name: reasoning for name in REASONING_KEYS if item.get(name) is not None}
        message["reasoning_content"] = reasoning
    elsewhere = role != "assistant" and asks_for_training(item)
    noticed = frozenset({ASKED_ELSEWHERE} if elsewhere else ())
    return Turn(message | extra, weight, content.segments, unknown, noticed)


def _said(item: dict[str, Any], key: str, role: str, has_calls: bool, place: str) -> tuple[Content, str | None]:
    content = read_content(item.get(key), role, f"{place}.{key}")
    reasoning = read_reasoning(item, role, content.reasoning if content else "", place)
    if content is not None:
        return content, reasoning
    if isinstance(item.get("refusal"), str):
        return Content(item["refusal"]), reasoning
    if role == "assistant" and (has_calls or reasoning):
        return Content(""), reasoning
    other = next((name for name in ("text", "message", "body") if isinstance(item.get(name), str)), None)
    fix = f"rename {other} to content" if other else "fill it in or remove the row"
    raise UserError("text is null or missing", f"{place}.{key}", fix)


def _calls(item: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """The calls of a message, also from OpenAI's older `function_call`."""
    calls = read_calls(item["tool_calls"], f"{place}.tool_calls") if item.get("tool_calls") else []
    older = item.get("function_call")
    if not older or (isinstance(older, dict) and not older.get("name")):
        return calls
    if calls:
        raise UserError("the message has both tool_calls and function_call", place, "keep one of them")
    return read_calls(older, f"{place}.function_call")


def _joined(turns: Iterable[Turn], place: str) -> list[Turn]:
    """Turns of which a call that stood alone is part of the assistant's turn before it."""
    joined: list[Turn] = []
    for number, turn in enumerate(turns):
        before = joined[-1] if joined else None
        if not turn.is_call or before is None or before.message["role"] != "assistant":
            joined.append(turn)
            continue
        if _weight(before) != _weight(turn):
            fix = "give the assistant's text and the calls after it one weight"
            raise UserError("two parts of one turn have different weights", f"{place}[{number}]", fix)
        calls = [*before.message.get("tool_calls", ()), *turn.message["tool_calls"]]
        message = {**turn.message, **before.message, "tool_calls": calls}
        joined[-1] = replace(before, message=message, unknown=before.unknown | turn.unknown)
    return joined


def _weight(turn: Turn) -> float:
    return 1.0 if turn.weight is None else turn.weight


def written(
    messages: Sequence[Message], weights: Sequence[float] | None, segments: dict[int, tuple[Segment, ...]]
) -> list[Message]:
    """Checked messages in the form that `read_conversation` reads as the same again."""
    lines = []
    for number, message in enumerate(messages):
        line = dict(message)
        if number in segments:
            marked = segments[number]
            line["content"] = [{"text": one.text, "group": one.group, "train": one.train} for one in marked]
        if weights is not None and weights[number] != 1.0:
            line["loss_weight"] = weights[number]
        lines.append(line)
    return lines
