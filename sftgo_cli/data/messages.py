"""Chat messages: OpenAI's and ShareGPT's forms, checked and brought into the one form that chat templates read.

A message is a dict with `role` and text `content`; whatever else it carries (`tool_calls`, `reasoning_content`, `name`,
...) is passed on to the template, without keys that are null. Text parts are joined; where parts of an assistant message
say `train` or `group` they are its segments, which `message_segments` reads. Arguments of a tool call that are
JSON text become an object, as templates expect, and tools given as JSON text become a list.
"""

from __future__ import annotations

import json
from typing import Any

from sftgo_cli.data.cells import read_weight
from sftgo_cli.data.segments import Segment, has_marks, read_segments
from sftgo_cli.errors import UserError, nearest

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
WEIGHT = "loss_weight"


def from_openai(value: Any, column: str, where: str) -> list[Message]:
    """A list of `{role, content, ...}` in the form that templates read.

    Raises:
        UserError: not a list of messages, a role is unknown, or content is null or no text.
    """
    place = f"{where}, column {column}"
    return [_openai_message(item, f"{place}[{index}]") for index, item in enumerate(_list_of_dicts(value, place))]


def from_sharegpt(value: Any, system: str | None, where: str) -> list[Message]:
    """A list of `{from, value}` (or `{role, content}`) in the form that templates read; `system` stands first.

    Raises:
        UserError: as `from_openai`; also a function call that is not JSON.
    """
    place = f"{where}, column conversations"
    before: list[Message] = [{"role": "system", "content": system}] if system else []
    turns = _list_of_dicts(value, place)
    return before + [_sharegpt_message(turn, f"{place}[{index}]") for index, turn in enumerate(turns)]


def message_weights(value: list[dict[str, Any]], column: str, where: str, num_before: int = 0) -> list[float] | None:
    """The messages' own `loss_weight` (1 where absent), after `num_before` messages of weight 1; None if none has one.

    Raises:
        UserError: a weight is no number, negative or not finite.
    """
    if not any(message.get(WEIGHT) is not None for message in value):
        return None
    weights = [1.0] * num_before
    for index, message in enumerate(value):
        weight = message.get(WEIGHT)
        weights.append(1.0 if weight is None else read_weight(weight, f"{column}[{index}].{WEIGHT}", where))
    return weights


def message_segments(
    value: list[dict[str, Any]], column: str, where: str, num_before: int = 0
) -> dict[int, tuple[Segment, ...]]:
    """The segments of each (checked) message whose content parts say `train` or `group`, by its number after
    `num_before` other messages.

    Raises:
        UserError: a segment is faulty, or the message is not the assistant's.
    """
    found = {}
    for index, message in enumerate(value):
        key = "value" if "from" in message else "content"
        if not has_marks(message.get(key)):
            continue
        place = f"{where}, column {column}[{index}].{key}"
        role = message.get("from", message.get("role"))
        if SHAREGPT_ROLES.get(str(role)) != "assistant" or role == "function_call":
            raise UserError(
                f"a message of {role!r} has segments", place, "only the assistant's messages have `train` and `group`"
            )
        found[num_before + index] = read_segments(message[key], place)
    return found


def read_tools(value: Any, where: str) -> list[dict[str, Any]] | None:
    """Tool descriptions from a list or its JSON text; None where there are none.

    Raises:
        UserError: neither a list of objects nor JSON text of one.
    """
    place = f"{where}, column tools"
    if isinstance(value, str):
        value = _json(value, place) if value.strip() else None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise UserError("expected a list of tool descriptions", place, "give a list of objects, or its JSON text")
    return value


def _list_of_dicts(value: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        kind = "null" if value is None else type(value).__name__
        raise UserError(f"expected a list of messages, found {kind}", place, "give [{role: ..., content: ...}, ...]")
    if not value:
        raise UserError("the list of messages is empty", place, "fill it in or remove the row")
    return value


def _openai_message(item: dict[str, Any], place: str) -> Message:
    role = item.get("role")
    if role not in ROLES:
        raise _unknown_role(role, ROLES, place)
    message = {key: value for key, value in item.items() if value is not None and key != WEIGHT}
    calls = item.get("tool_calls")
    if calls:
        message["tool_calls"] = _tool_calls(calls, f"{place}.tool_calls")
    message["content"] = _content(item, "content", place, optional=role == "assistant" and bool(calls))
    return message


def _sharegpt_message(turn: dict[str, Any], place: str) -> Message:
    if "from" not in turn and "role" in turn:
        return _openai_message({**turn, "role": SHAREGPT_ROLES.get(str(turn["role"]), turn["role"])}, place)
    role = turn.get("from")
    if not isinstance(role, str) or role not in SHAREGPT_ROLES:
        raise _unknown_role(role, tuple(SHAREGPT_ROLES), place)
    content = _content(turn, "value", place)
    extra = {k: v for k, v in turn.items() if k not in ("from", "value", WEIGHT) and v is not None}
    if role == "function_call":
        calls = _json(content, f"{place}.value")
        calls = calls if isinstance(calls, list) else [calls]
        return {"role": "assistant", "content": "", "tool_calls": _tool_calls(calls, f"{place}.value")} | extra
    return {"role": SHAREGPT_ROLES[role], "content": content} | extra


def _unknown_role(role: Any, known: tuple[str, ...], place: str) -> UserError:
    close = nearest(role, known) if isinstance(role, str) else None
    fix = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
    return UserError("the role is missing" if role is None else f"unknown role {role!r}", f"{place}.role", fix)


def _content(item: dict[str, Any], key: str, place: str, optional: bool = False) -> str:
    value = item.get(key)
    if isinstance(value, str):
        return value
    if value is None and optional:
        return ""
    if value is None:
        raise UserError("text is null or missing", f"{place}.{key}", "fill it in or remove the row")
    if isinstance(value, list):
        return "".join(_part(part, f"{place}.{key}[{index}]") for index, part in enumerate(value))
    raise UserError(f"expected text, found {type(value).__name__}", f"{place}.{key}", "give a string")


def _part(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise UserError(f"only text parts can be trained on, found {kind}", place, "remove the part or the row")


def _tool_calls(calls: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UserError("expected a list of tool calls", place, "give [{function: {name: ..., arguments: {...}}}]")
    return [_tool_call(call, f"{place}[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: dict[str, Any], place: str) -> dict[str, Any]:
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UserError("a tool call has no function name", place, "give {function: {name: ..., arguments: {...}}}")
    function = dict(function)
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        function["arguments"] = _json(arguments, f"{place}.arguments")
    outer = {key: value for key, value in call.items() if value is not None} if "function" in call else {}
    return {"type": "function", **outer, "function": function}


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON: {error}", place, "correct it") from error
