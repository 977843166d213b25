"""Who speaks: the roles that chat templates know, and what other data formats call them."""

from __future__ import annotations

from typing import Any

from sftgo_cli.errors import UserError, nearest

ROLES = ("system", "developer", "user", "assistant", "tool", "ipython")
ALIASES = {
    "human": "user",
    "prompter": "user",  # Open Assistant
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function": "tool",  # OpenAI before there were tools
}
CALLS = ("function_call", "tool_call")  # the message is nothing but a call, as JSON text


def read_role(role: Any, place: str) -> tuple[str, bool]:
    """The role as chat templates know it, and whether the message is a call and nothing else.

    Raises:
        UserError: it is missing or unknown.
    """
    if isinstance(role, str):
        if role in ROLES:
            return role, False
        if role in ALIASES:
            return ALIASES[role], False
        if role in CALLS:
            return "assistant", True
    if role is None:
        raise UserError("the role is missing", f"{place}.role", "give {role: user, content: ...}")
    known = (*ROLES, *ALIASES, *CALLS)
    close = nearest(role, known) if isinstance(role, str) else None
    fix = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
    raise UserError(f"unknown role {role!r}", f"{place}.role", fix)
