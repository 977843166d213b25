"""Row formats: the columns of each, and which one a data set has, found from its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sftgo_cli.data.cells import close_column, missing_column
from sftgo_cli.errors import UserError

Format = Literal["alpaca", "messages", "sharegpt", "prompt_completion", "text", "tokenized"]

# In the order in which they are tried: what says most about the tokens wins.
REQUIRED: dict[Format, tuple[str, ...]] = {
    "tokenized": ("input_ids",),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
OPTIONAL: dict[Format, tuple[str, ...]] = {
    "tokenized": ("labels", "attention_mask"),
    "messages": ("tools",),
    "sharegpt": ("tools", "system"),
    "alpaca": ("input",),
    "prompt_completion": ("tools",),
    "text": (),
}
EVERY_FORMAT = ("id", "loss_weight", "token_weights")


def detect_format(columns: Sequence[str]) -> Format:
    """The format whose required columns are all there.

    Raises:
        UserError: none is; lists the columns found, the formats known and the nearest names.
    """
    for name, required in REQUIRED.items():
        if set(required) <= set(columns):
            return name
    known = "; ".join(f"{name}: {', '.join(required)}" for name, required in REQUIRED.items())
    raise UserError(
        f"no known format has the columns {', '.join(columns) or '(none)'}",
        f"formats known: {known}",
        _rename_hint(columns),
    )


def _rename_hint(columns: Sequence[str]) -> str:
    """The renaming that completes the format which lacks the fewest columns."""
    best: list[str] | None = None
    for required in REQUIRED.values():
        pairs = [(ours, ours if ours in columns else close_column(ours, columns)) for ours in required]
        if all(theirs for _, theirs in pairs):
            renamed = [f"{ours}: {theirs}" for ours, theirs in pairs if ours != theirs]
            if best is None or len(renamed) < len(best):
                best = renamed
    if best:
        return f"did you mean columns: {{{', '.join(best)}}}?"
    return "map them with columns: {our name: your name}"


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
