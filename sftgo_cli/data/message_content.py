"""What a message says: one text, or content parts of text and reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftgo_cli.data.segments import Segment, has_marks, read_segments, refuse_several_answers
from sftgo_cli.errors import UserError

TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
REASONING_PARTS = ("thinking", "reasoning")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
CALL_PARTS = ("tool_use", "tool_result", "function_call", "function_call_output")
DROP = "remove the part or the row, or set data.on_bad_row: drop"


@dataclass(frozen=True)
class Content:
    """The text of a message, its segments if parts say `train` or `group`, and the reasoning before it."""

    text: str
    segments: tuple[Segment, ...] = ()
    reasoning: str = ""


def read_content(value: Any, role: str, place: str) -> Content | None:
    """The content of a message of `role`; None where it is null.

    Raises:
        UserError: neither text nor a list of parts that can be trained on.
    """
    if value is None or isinstance(value, str):
        return None if value is None else Content(value)
    if not isinstance(value, list):
        fix = "give a string; of an object its JSON text" if isinstance(value, dict) else "give a string"
        raise UserError(f"expected text, found {type(value).__name__}", place, fix)
    refuse_several_answers(value, place)
    reasoning, texts = _split(value, place)
    if reasoning and role != "assistant":
        raise UserError(f"a message of {role!r} has reasoning", place, "only the assistant's messages have some")
    segments: tuple[Segment, ...] = ()
    if has_marks(texts):
        if role != "assistant":
            raise UserError(
                f"a message of {role!r} has segments", place, "only the assistant's messages have `train` and `group`"
            )
        segments = read_segments(texts, place)
    text = "".join(part if isinstance(part, str) else str(part["text"]) for part in texts)
    return Content(text, segments, "".join(reasoning))


def _split(parts: Sequence[Any], place: str) -> tuple[list[str], list[Any]]:
    """The reasoning, and the text parts after it in the form `{text: ...}`."""
    reasoning: list[str] = []
    texts: list[Any] = []
    for index, part in enumerate(parts):
        kind = part.get("type") or "text" if isinstance(part, dict) else "text"
        if kind in REASONING_PARTS:
            if any(isinstance(text, str) or text["text"] for text in texts):
                fix = "write it first, as reasoning_content of the message"
                raise UserError("reasoning stands after text", f"{place}[{index}]", fix)
            reasoning.append(_reasoning(part, str(kind), f"{place}[{index}]"))
        else:
            texts.append(_text_part(part, str(kind), f"{place}[{index}]"))
    return reasoning, texts


def _text_part(part: Any, kind: str, place: str) -> Any:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise UserError(f"only text parts can be trained on, found {type(part).__name__}", place, DROP)
    key = TEXTS.get(kind)
    if key and isinstance(part.get(key), str):
        return part if key == "text" else {"text": part[key]}
    if key:
        raise UserError(f"a part of type {kind} has no text", f"{place}.{key}", "fill it in or remove the part")
    if kind in CALL_PARTS:
        fix = "write calls as tool_calls of the assistant's message, results as messages of the role tool"
        raise UserError(f"a content part of type {kind}", place, fix)
    raise UserError(f"only text parts can be trained on, found {kind}", place, DROP)


def _reasoning(part: Mapping[str, Any], kind: str, place: str) -> str:
    """The text of a part of reasoning; Mistral writes it as a list of text parts itself."""
    value = next((part[key] for key in (kind, "text", "content") if part.get(key) is not None), None)
    if isinstance(value, list) and all(
        isinstance(inner, dict) and isinstance(inner.get("text"), str) for inner in value
    ):
        return "".join(inner["text"] for inner in value)
    if isinstance(value, str):
        return value
    raise UserError(f"a part of type {kind} has no text", f"{place}.{kind}", "fill it in or remove the part")


def read_reasoning(item: Mapping[str, Any], role: str, from_parts: str, place: str) -> str | None:
    """The reasoning of a message, from its parts or from `reasoning_content` or another name for it.

    Raises:
        UserError: it is no text, two of them differ, or another role has some.
    """
    said = {key: item[key] for key in REASONING_KEYS if item.get(key) is not None}
    for key, value in said.items():
        if not isinstance(value, str):
            raise UserError(f"expected text, found {type(value).__name__}", f"{place}.{key}", "give a string")
    texts = {text for text in (*said.values(), from_parts) if text}
    if len(texts) > 1:
        names = ", ".join([*said, *(["content"] if from_parts else [])])
        raise UserError(f"the message has several reasonings: {names}", place, "keep one of them")
    if texts and role != "assistant":
        raise UserError(f"a message of {role!r} has reasoning", place, "only the assistant's messages have some")
    return next(iter(texts), "" if said else None)
