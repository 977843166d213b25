"""Row formats: the columns of each, and which one a data set has, found from its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sftgo_cli.data.cells import close_column, missing_column
from sftgo_cli.errors import UserError

Format = Literal[
    "alpaca", "messages", "sharegpt", "prompt_completion", "query_response", "preference", "text", "tokenized"
]

# In the order in which they are tried: what says most about the tokens wins.
REQUIRED: dict[Format, tuple[str, ...]] = {
    "tokenized": ("input_ids",),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "query_response": ("query", "response"),
    "preference": ("chosen",),
    "text": ("text",),
}
CHAT = ("system", "tools", "functions", "documents", "chat_template_kwargs")  # what may stand beside a conversation
OPTIONAL: dict[Format, tuple[str, ...]] = {
    "tokenized": ("labels", "attention_mask"),
    "messages": CHAT,
    "sharegpt": ("chosen", *CHAT),
    "alpaca": ("input", "history", *CHAT),
    "prompt_completion": ("history", *CHAT),
    "query_response": ("history", *CHAT),
    "preference": ("prompt", "instruction", "input", "history", *CHAT),
    "text": (),
}
EVERY_FORMAT = ("id", "loss_weight", "token_weights")
REJECTED = ("label", "kto_tag")  # False in these marks an answer that is not wanted, as data for KTO has it
# What is known and not read: columns that tell it, what it is, and what to do.
NOT_READ: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("message_tree_id", "role", "text"),
        "the rows are single messages of conversation trees (Open Assistant)",
        "join each path from its root to an answer into one row {messages: [{role, content}, ...]}",
    ),
    (
        ("segments",),
        "the rows are axolotl's input_output segments",
        "write the text before the first trained segment as prompt, the rest as completion: [{text, train}, ...]",
    ),
    (
        ("preferred_output", "non_preferred_output"),
        "the rows are OpenAI's preference rows",
        "write {messages: input.messages and the preferred output after them}",
    ),
    (
        ("query", "answers", "tools"),
        "the rows are questions with calls as answers (xLAM)",
        "write {messages: [{role: user, content: query}, {role: assistant, tool_calls: answers}], tools}",
    ),
    (
        ("contents",),
        "the rows are Gemini's contents",
        "write {messages: [{role: user, content: ...}, ...]}, the role model becomes assistant",
    ),
)


def detect_format(columns: Sequence[str]) -> Format:
    """The format whose required columns are all there.

    Raises:
        UserError: none is; lists the columns found, the formats known and the nearest names.
    """
    there = set(columns)
    for name, required in REQUIRED.items():
        if name == "text":
            _refuse_known(there)
        if set(required) <= there:
            return name
    known = "; ".join(f"{name}: {', '.join(required)}" for name, required in REQUIRED.items())
    raise UserError(
        f"no known format has the columns {', '.join(columns) or '(none)'}",
        f"formats known: {known}",
        _rename_hint(columns),
    )


def _refuse_known(columns: set[str]) -> None:
    for told_by, what, fix in NOT_READ:
        if set(told_by) <= columns:
            raise UserError(what, f"columns {', '.join(told_by)}", fix)


def _rename_hint(columns: Sequence[str]) -> str:
    """The renaming that completes the format which lacks the fewest columns, with what it has besides."""
    best: dict[str, str] | None = None
    besides: dict[str, str] = {}
    for name, required in REQUIRED.items():
        pairs = {ours: ours if ours in columns else close_column(ours, columns) for ours in required}
        found = {ours: theirs for ours, theirs in pairs.items() if theirs}
        if len(found) < len(required) or len(set(found.values())) < len(required):
            continue
        renamed = {ours: theirs for ours, theirs in found.items() if ours != theirs}
        if best is None or len(renamed) < len(best):
            free = [column for column in columns if column not in found.values()]
            more = {ours: close_column(ours, free) for ours in OPTIONAL[name] if ours not in columns}
            best, besides = renamed, {ours: theirs for ours, theirs in more.items() if theirs}
    if best:
        return f"did you mean columns: {_flow(best)}" + (f" (and {_flow(besides)})?" if besides else "?")
    return "map them with columns: {our name: your name}"


def _flow(mapping: Mapping[str, str]) -> str:
    """The mapping as one writes it in a recipe."""
    return f"{{{', '.join(f'{ours}: {theirs}' for ours, theirs in mapping.items())}}}"


def rename(values: Mapping[str, Any], columns_map: Mapping[str, str], where: str) -> dict[str, Any]:
    """The row under our column names; a column that was renamed away no longer counts under its old name.

    Raises:
        UserError: a mapped column is not in the row.
    """
    if not columns_map:
        return dict(values)
    for theirs in columns_map.values():
        if theirs not in values:
            raise missing_column(theirs, values, where)
    taken = set(columns_map.values())
    kept = {name: value for name, value in values.items() if name not in taken and name not in columns_map}
    return kept | {ours: values[theirs] for ours, theirs in columns_map.items()}


def used_columns(fmt: Format) -> set[str]:
    """Every column that this format reads; all others are ignored and named once."""
    return {*REQUIRED[fmt], *OPTIONAL[fmt], *EVERY_FORMAT}
