"""What a chat template is given, and the form in which it reads a message.

Rows are read into one form (`data/messages.py`). Published templates differ in what they can read: content as text or
as parts, no content beside a call as an empty text or as null, arguments of a call as an object or as JSON text, call
ids of nine characters (Mistral), a tool message with the name of the function it answers, its result as a list.
`formed` brings a conversation into a template's form; which one that is, is found by probing the template
(`data/template_probes.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sftgo_cli.data.messages import Message

# As transformers' `_alias_reasoning_fields`, so that a template reads in training what it reads in generation.
REASONING = "reasoning_content"
REASONING_NAMES = (REASONING, "thinking", "reasoning")
MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")


@dataclass(frozen=True)
class Conversation:
    """What a template is given: the messages, the tools that are offered, and variables of the row."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def upto(self, num_messages: int, *more: Message) -> Conversation:
        """The first messages, and then others."""
        return replace(self, messages=[*self.messages[:num_messages], *more])

    def replaced(self, number: int, message: Message) -> Conversation:
        """The conversation with another message in the place of one."""
        return replace(self, messages=[*self.messages[:number], message, *self.messages[number + 1 :]])


@dataclass(frozen=True)
class MessageForms:
    """In which form a template reads messages."""

    content_as_parts: bool = False
    reasoning_as_part: bool = False
    null_content: bool = False
    arguments_as_text: bool = False
    short_call_ids: bool = False
    named_tools: bool = False
    results_as_list: bool = False


PLAIN = MessageForms()


def reasoning_of(message: Message) -> str:
    """The message's reasoning, under whichever name it came; empty where it has none."""
    return next((str(message[name]) for name in REASONING_NAMES if message.get(name)), "")


def formed(forms: MessageForms, conversation: Conversation) -> Conversation:
    """The conversation as the template reads it; nothing of the given one is changed."""
    messages = conversation.messages
    if forms.short_call_ids:
        messages = _with_short_ids(messages)
    if forms.named_tools:
        messages = _with_tool_names(messages)
    return replace(conversation, messages=[_formed(forms, message) for message in messages])


def _formed(forms: MessageForms, message: Message) -> Message:
    reasoning = reasoning_of(message)
    if reasoning:
        message = {"thinking": reasoning, **message, REASONING: reasoning}
    if forms.arguments_as_text and message.get("tool_calls"):
        message = {**message, "tool_calls": [_with_text(call) for call in message["tool_calls"]]}
    if forms.results_as_list and message["role"] == "tool" and isinstance(message["content"], str):
        return {**message, "content": [message["content"]]}
    if forms.null_content and message.get("tool_calls") and message["content"] == "":
        return {**message, "content": None}
    if (forms.content_as_parts or (forms.reasoning_as_part and reasoning)) and isinstance(message["content"], str):
        parts = [{"type": "thinking", "thinking": reasoning}] if forms.reasoning_as_part and reasoning else []
        if message["content"]:
            parts.append({"type": "text", "text": message["content"]})
        message = {**message, "content": parts}
    return message


def _with_text(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call["function"].get("arguments")
    if arguments is None or isinstance(arguments, str):
        return call
    return {**call, "function": {**call["function"], "arguments": json.dumps(arguments, ensure_ascii=False)}}


def _with_short_ids(messages: list[Message]) -> list[Message]:
    """Ids as Mistral's templates demand them, new ones where the row has others or none; answers follow their calls."""
    renamed: dict[str, str] = {}
    waiting: list[str] = []  # calls without an answer yet, for answers that name none
    number = 0
    result = []
    for message in messages:
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                given = call.get("id")
                number += 1
                short = given if isinstance(given, str) and MISTRAL_ID.fullmatch(given) else f"call{number:05d}"
                if given is not None:
                    renamed[str(given)] = short
                waiting.append(short)
                calls.append({**call, "id": short})
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            given = message.get("tool_call_id")
            known = renamed.get(str(given)) if given is not None else None
            short = known or (waiting[0] if waiting else f"call{number:05d}")
            if short in waiting:
                waiting.remove(short)
            message = {**message, "tool_call_id": short}
        result.append(message)
    return result


def _with_tool_names(messages: list[Message]) -> list[Message]:
    """Tool messages with the name of the function whose call they answer, by id or else in order."""
    by_id: dict[str, str] = {}
    waiting: list[str] = []
    result = []
    for message in messages:
        for call in message.get("tool_calls") or []:
            name = str(call["function"]["name"])
            waiting.append(name)
            if call.get("id") is not None:
                by_id[str(call["id"])] = name
        if message["role"] == "tool" and not message.get("name"):
            name = by_id.get(str(message.get("tool_call_id"))) or (waiting[0] if waiting else "")
            if name in waiting:
                waiting.remove(name)
            if name:
                message = {**message, "name": name}
        result.append(message)
    return result
