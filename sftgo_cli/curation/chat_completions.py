"""OpenAI's chat completions format: the messages that are sent, the reply that is read, what may be added to a call."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PATH = "/chat/completions"
SENT = ("role", "content", "name", "tool_calls", "tool_call_id")  # of a message
OWN_KEYS = frozenset(["model", "messages", "temperature", "top_p", "seed", "max_tokens", "max_completion_tokens"])
OTHER_FORMS = frozenset(["n", "stream", "stream_options"])  # they change the reply's form
KEY_LIKE = re.compile(r"api[-_]?key|authorization|bearer|password|secret", re.IGNORECASE)
FINISHED = frozenset(["stop", "eos", "eos_token", "stop_sequence", "end_turn"])  # OpenAI's; TGI's and gateways'

FILTERED = frozenset(["content_filter", "safety", "SAFETY", "recitation"])


@dataclass(frozen=True)
class Completion:
    """What a reply says. Tokens are None where it does not tell."""

    text: str  # as it came
    finished: bool
    filtered: bool  # stopped by a content filter
    num_prompt_tokens: int | None
    num_tokens: int | None


def sent_messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages in OpenAI's form: no keys of other formats, the arguments of a tool call as JSON text."""
    return [_sent(message) for message in messages]


def _sent(message: dict[str, Any]) -> dict[str, Any]:
    sent = {name: message[name] for name in SENT if name in message}
    if isinstance(sent.get("tool_calls"), list):
        sent["tool_calls"] = [_call(call) for call in sent["tool_calls"]]
    return sent


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or isinstance(function.get("arguments", ""), str):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}


def read_completion(reply: dict[str, Any]) -> Completion | None:
    """The first choice of a reply; None where there is none.

    The text is `message.content`, parts joined; null is empty. Reasoning in a field of its own is not read."""
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        return None
    content = first["message"].get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    text = content if isinstance(content, str) else ""
    usage = reply.get("usage")
    used = usage if isinstance(usage, dict) else {}
    reason = first.get("finish_reason")
    counts = _count(used, "prompt_tokens"), _count(used, "completion_tokens")
    return Completion(text, reason in FINISHED, reason in FILTERED, *counts)


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def check_additions(value: dict[str, Any]) -> None:
    """Whether a recipe may add these keys to a call.

    Raises:
        ValueError: one has an option of its own, asks for another form of reply, or is a place for a secret.
    """
    for key in value:
        if key in OWN_KEYS:
            raise ValueError(f"must not hold {key}, which follows from the generator's own options")
        if key in OTHER_FORMS:
            raise ValueError(f"must not hold {key}: one whole answer is read per call")
    if any(KEY_LIKE.search(key) for key in _all_keys(value)):
        raise ValueError("must hold no key or password: they come from the variable that api_key_env names")
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        raise ValueError("must be what JSON can hold") from None


def _all_keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(key) for key in value] + [key for child in value.values() for key in _all_keys(child)]
    return [key for child in value for key in _all_keys(child)] if isinstance(value, list) else []
