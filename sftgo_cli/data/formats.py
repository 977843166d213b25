"""One raw row, checked and read as a `Sample`.

Checks are strict and happen here, before any model is loaded: missing columns, wrong types, nulls, unknown roles and
impossible weights are UserErrors that name row and column. An empty answer is no error: it is a body without an answer,
dropped later and counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sftgo_cli.data.cells import (
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
from sftgo_cli.data.row_formats import REQUIRED, Format, rename
from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody, TokenBody
from sftgo_cli.data.segments import is_segment_list, read_response
from sftgo_cli.data.sources import RawRow
from sftgo_cli.errors import UserError

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
