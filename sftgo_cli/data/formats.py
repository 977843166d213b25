"""Row formats: which one a data set has, found from its columns, and one raw row checked and read as a `Sample`.

A sample's body says how it becomes text: `ChatBody` (messages for a chat template), `PairBody` (one prompt and one
response, with the text they give without a template), `TextBody`, `TokenBody` (already tokenized). Checks are strict
and happen here, before any model is loaded: missing columns, wrong types, nulls, unknown roles and impossible weights
are UserErrors that name row and column. An empty answer is no error: it is a body without an answer, dropped later and
counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sftgo_cli.data.cells import (
    close_column,
    missing_column,
    read_integers,
    read_number,
    read_numbers,
    read_text,
    read_weight,
    read_weights,
)
from sftgo_cli.data.messages import (
    Message,
    from_openai,
    from_sharegpt,
    message_segments,
    message_weights,
    read_tools,
)
from sftgo_cli.data.segments import Segment, is_segment_list, read_response
from sftgo_cli.data.sources import RawRow
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
# Stanford Alpaca's two prompts (github.com/tatsu-lab/stanford_alpaca, train.py); the answer follows without a space.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


@dataclass(frozen=True)
class ChatBody:
    """Messages for a chat template. Those before `first_answer` are prompt; `weights` is one per message; `segments`
    are those of the assistant messages that have some."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    first_answer: int = 0
    weights: list[float] | None = None
    segments: dict[int, tuple[Segment, ...]] = field(default_factory=dict)
    template_kwargs: dict[str, Any] = field(default_factory=dict)  # the row's own variables of the chat template


@dataclass(frozen=True)
class PairBody:
    """One prompt and its response; `plain_prompt` is the text before the response where there is no chat template;
    `segments` are those of the response, if it came in some."""

    prompt: str
    response: str
    plain_prompt: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class TextBody:
    """Text that is supervised as a whole."""

    text: str


@dataclass(frozen=True)
class TokenBody:
    """Tokens as they are; `labels` None supervises all. `keep` marks the tokens that are not padding."""

    input_ids: list[int]
    labels: list[int] | None
    keep: list[bool] | None


@dataclass(frozen=True)
class Sample:
    """One checked row. `token_weights` and `token_columns` are the user's own lists, one value per token of the row;
    `row_columns` are the user's own numbers, one per row."""

    row_id: str
    where: str
    body: ChatBody | PairBody | TextBody | TokenBody
    loss_weight: float | None = None
    token_weights: list[float] | None = None
    token_columns: dict[str, list[float]] = field(default_factory=dict)
    row_columns: dict[str, float] = field(default_factory=dict)


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


def to_sample(
    row: RawRow,
    fmt: Format,
    columns_map: Mapping[str, str],
    keep_columns: Collection[str] = (),
    keep_row_columns: Iterable[str] = (),
) -> Sample:
    """One raw row, checked and read; `keep_columns` are lists of numbers, one per token, passed through;
    `keep_row_columns` are single finite numbers.

    Raises:
        UserError: a column is missing, null or of the wrong type, a role unknown, a weight negative or not finite.
    """
    values = rename(row.values, columns_map, row.where)
    for name in REQUIRED[fmt]:
        if name not in values:
            raise missing_column(name, values, row.where)
    loss_weight = values.get("loss_weight")
    weights = values.get("token_weights")
    return Sample(
        row_id=row.row_id,
        where=row.where,
        body=_body(values, fmt, row.where),
        loss_weight=None if loss_weight is None else read_weight(loss_weight, "loss_weight", row.where),
        token_weights=None if weights is None else read_weights(weights, row.where),
        token_columns={name: read_numbers(values, name, row.where) for name in keep_columns},
        row_columns={name: read_number(values, name, row.where) for name in keep_row_columns},
    )


def _body(values: dict[str, Any], fmt: Format, where: str) -> ChatBody | PairBody | TextBody | TokenBody:
    if fmt == "alpaca":
        return _alpaca(values, where)
    if fmt == "prompt_completion":
        return _prompt_completion(values, where)
    if fmt == "text":
        return TextBody(read_text(values, "text", where))
    if fmt == "tokenized":
        return _tokenized(values, where)
    tools = read_tools(values.get("tools"), where)
    if fmt == "messages":
        messages = from_openai(values["messages"], "messages", where)
        return ChatBody(
            messages,
            tools,
            weights=message_weights(values["messages"], "messages", where),
            segments=message_segments(values["messages"], "messages", where),
        )
    system = None if values.get("system") is None else read_text(values, "system", where)
    before = 1 if system else 0
    return ChatBody(
        from_sharegpt(values["conversations"], system, where),
        tools,
        weights=message_weights(values["conversations"], "conversations", where, before),
        segments=message_segments(values["conversations"], "conversations", where, before),
    )


def _alpaca(values: dict[str, Any], where: str) -> PairBody:
    instruction = read_text(values, "instruction", where)
    extra = "" if values.get("input") is None else read_text(values, "input", where)
    response, segments = read_response(values, "output", where)
    if not extra:
        return PairBody(instruction, response, ALPACA_WITHOUT_INPUT.format(instruction=instruction), segments)
    plain = ALPACA_WITH_INPUT.format(instruction=instruction, input=extra)
    return PairBody(f"{instruction}\n{extra}", response, plain, segments)


def _prompt_completion(values: dict[str, Any], where: str) -> PairBody | ChatBody:
    prompt, completion = values["prompt"], values["completion"]
    is_text = not isinstance(completion, list) or is_segment_list(completion)
    if not isinstance(prompt, list) and is_text:
        text = read_text(values, "prompt", where)
        response, segments = read_response(values, "completion", where)
        return PairBody(text, response, text, segments)
    before: list[Message]
    if isinstance(prompt, list):
        before = from_openai(prompt, "prompt", where) if prompt else []
    else:
        before = [{"role": "user", "content": read_text(values, "prompt", where)}]
    weights = None
    if is_text:
        response, segments = read_response(values, "completion", where)
        after: list[Message] = [{"role": "assistant", "content": response}]
        by_message = {len(before): segments} if segments else {}
    else:
        after = from_openai(completion, "completion", where)
        weights = message_weights(completion, "completion", where, len(before))
        by_message = message_segments(completion, "completion", where, len(before))
    return ChatBody([*before, *after], read_tools(values.get("tools"), where), len(before), weights, by_message)


def _tokenized(values: dict[str, Any], where: str) -> TokenBody:
    ids = read_integers(values, "input_ids", where)
    labels = None if values.get("labels") is None else read_integers(values, "labels", where)
    mask = None if values.get("attention_mask") is None else read_integers(values, "attention_mask", where)
    for name, other in (("labels", labels), ("attention_mask", mask)):
        if other is not None and len(other) != len(ids):
            raise UserError(
                f"{name} has {len(other)} values, input_ids has {len(ids)}",
                f"{where}, column {name}",
                "give one value per token",
            )
    for position, (label, token) in enumerate(zip(labels or [], ids, strict=False)):
        if label not in (-100, token):
            raise UserError(
                f"label {label} at position {position} is neither -100 nor the token {token} itself",
                f"{where}, column labels",
                "labels stand at their own token's index (no shift)",
            )
    return TokenBody(ids, labels, None if mask is None else [bool(bit) for bit in mask])
