"""One raw row, checked and read as a `Sample`.

Checks are strict and happen here, before any model is loaded: missing columns, wrong types, nulls, unknown roles and
impossible weights are UserErrors that name row and column. An empty answer is no error: it is a body without an answer,
dropped later and counted.

A prompt with its answer is a `PairBody`, which needs no chat template, unless the row also has a system prompt, earlier
turns, tools or variables of a template: then it is a conversation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
from sftgo_cli.data.json_text import parse_cell
from sftgo_cli.data.message_content import read_content
from sftgo_cli.data.messages import Conversation, has_system, read_conversation, spoken, with_system
from sftgo_cli.data.row_formats import CHAT, REJECTED, REQUIRED, Format, rename
from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody, TokenBody
from sftgo_cli.data.segments import is_segment_list, read_response
from sftgo_cli.data.sources import RawRow
from sftgo_cli.data.tool_calls import read_tools, without_unknown_nulls
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
EMPTY = ("", "[]", "{}", "null")  # cells of JSON text that hold nothing
Body = ChatBody | PairBody | TextBody | TokenBody
Values = dict[str, Any]


@dataclass(frozen=True)
class _Read:
    """A body, the keys of its messages that nothing reads, and what a person should hear about it."""

    body: Body
    unknown: frozenset[str] = field(default_factory=frozenset)
    noticed: frozenset[str] = field(default_factory=frozenset)


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
    read = _body(values, fmt, row.where)
    return Sample(
        row_id=row.row_id,
        where=row.where,
        body=read.body,
        loss_weight=None if loss_weight is None else read_weight(loss_weight, "loss_weight", row.where),
        token_weights=None if weights is None else read_weights(weights, row.where),
        token_columns={name: read_numbers(values, name, row.where) for name in keep_columns},
        row_columns={name: read_number(values, name, row.where) for name in keep_row_columns},
        unknown_keys=read.unknown,
        noticed=read.noticed | ({"rejected_trained"} if any(values.get(name) is False for name in REJECTED) else set()),
    )


def with_system_prompt(sample: Sample, system_prompt: str | None) -> Sample:
    """The row with a system prompt in front, where it is a conversation or a prompt with its answer, and has none."""
    body = sample.body
    if not system_prompt or not isinstance(body, ChatBody | PairBody):
        return sample
    if isinstance(body, PairBody):
        turns = spoken("user", body.prompt) + spoken("assistant", body.response, body.segments)
        body = ChatBody(turns.messages, first_answer=1, segments=turns.segments)
    if has_system(body.messages):
        return sample
    whole = replace(
        body,
        messages=[{"role": "system", "content": system_prompt}, *body.messages],
        first_answer=body.first_answer and body.first_answer + 1,
        weights=body.weights and [1.0, *body.weights],
        segments={number + 1: segments for number, segments in body.segments.items()},
    )
    return replace(sample, body=whole)


def _body(values: Values, fmt: Format, where: str) -> _Read:
    if fmt == "text":
        return _Read(TextBody(read_text(values, "text", where)))
    if fmt == "tokenized":
        return _Read(_tokenized(values, where))
    if fmt == "alpaca":
        return _alpaca(values, "output", where)
    if fmt == "query_response":
        return _answered(values, "query", "response", where)
    if fmt == "prompt_completion":
        return _answered(values, "prompt", "completion", where)
    if fmt == "preference":
        return _preferred(values, where)
    column = "messages" if fmt == "messages" else "conversations"
    conversation = read_conversation(values[column], column, where)
    if fmt == "sharegpt" and values.get("chosen") is not None and conversation.messages[-1]["role"] == "user":
        answer = [values["chosen"]] if isinstance(values["chosen"], dict) else values["chosen"]
        whole = conversation + read_conversation(answer, "chosen", where)
        return _chat(whole, values, where, len(conversation.turns))
    return _chat(conversation, values, where)


def _chat(conversation: Conversation, values: Values, where: str, first_answer: int = 0) -> _Read:
    """A conversation with what the row has besides; `first_answer` counts its turns without the system prompt."""
    whole = with_system(conversation, _system(values, where), where)
    first_answer += len(whole.turns) - len(conversation.turns) if first_answer else 0
    tools = read_tools(values, where)
    messages = [
        {**message, "tool_calls": without_unknown_nulls(message["tool_calls"], tools)}
        if message.get("tool_calls")
        else message
        for message in whole.messages
    ]
    kwargs = _template_kwargs(values, where)
    body = ChatBody(messages, tools, first_answer, whole.weights, whole.segments, kwargs)
    calls = (call for message in messages for call in message.get("tool_calls", ()))
    has_nulls = any(None in call["function"]["arguments"].values() for call in calls)
    return _Read(body, whole.unknown, whole.noticed | ({"null_arguments"} if has_nulls else set()))


def _template_kwargs(values: Values, where: str) -> dict[str, Any]:
    """The row's own variables of the chat template: its `chat_template_kwargs`, and its `documents`."""
    kwargs = _parsed(values.get("chat_template_kwargs"), "chat_template_kwargs", where)
    if kwargs and not (isinstance(kwargs, dict) and all(isinstance(key, str) for key in kwargs)):
        column = f"{where}, column chat_template_kwargs"
        raise UserError("expected the template's variables by name", column, "give an object such as {thinking: true}")
    kwargs = {key: value for key, value in (kwargs or {}).items() if value is not None}
    documents = _parsed(values.get("documents"), "documents", where)
    if isinstance(documents, list):
        documents = [{"text": one} if isinstance(one, str) else one for one in documents]
    if documents and not (isinstance(documents, list) and all(isinstance(one, dict) for one in documents)):
        fix = "give a list such as [{title: ..., text: ...}], or rename the column"
        raise UserError("expected a list of documents", f"{where}, column documents", fix)
    return {**kwargs, **({"documents": documents} if documents else {})}


def _parsed(value: Any, name: str, where: str) -> Any:
    """A cell that may be JSON text."""
    if isinstance(value, str):
        return parse_cell(value, f"{where}, column {name}") if value.strip() else None
    return value


def _system(values: Values, where: str) -> str:
    """The row's system prompt, as text or as content parts."""
    content = read_content(values.get("system"), "system", f"{where}, column system")
    return content.text if content else ""


def _text(values: Values, name: str, where: str) -> str:
    return "" if values.get(name) is None else read_text(values, name, where)


def _has_more(values: Values) -> bool:
    """Whether a row of one prompt and one answer is a conversation for what stands beside them."""
    beside = (values.get(name) for name in ("history", *CHAT))
    return any(cell.strip() not in EMPTY if isinstance(cell, str) else cell for cell in beside)


def _pair(body: PairBody, values: Values, where: str) -> _Read:
    """One prompt and its answer, with the earlier turns of the row."""
    if not _has_more(values):
        return _Read(body)
    turns = _history(values, where) + spoken("user", body.prompt)
    return _chat(turns + spoken("assistant", body.response, body.segments), values, where)


def _history(values: Values, where: str) -> Conversation:
    """The earlier questions and answers of a row: `[[question, answer], ...]`."""
    history = _parsed(values.get("history"), "history", where) or []
    place = f"{where}, column history"
    earlier = Conversation(())
    for index, pair in enumerate(history if isinstance(history, list) else [history]):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise UserError("expected a question and its answer", f"{place}[{index}]", "give [[question, answer], ...]")
        earlier += spoken("user", pair[0]) + spoken("assistant", pair[1])
    return earlier


def _alpaca(values: Values, answer: str, where: str) -> _Read:
    instruction, extra = read_text(values, "instruction", where), _text(values, "input", where)
    response, segments = read_response(values, answer, where)
    plain = ALPACA_WITHOUT_INPUT.format(instruction=instruction)
    if extra:
        plain = ALPACA_WITH_INPUT.format(instruction=instruction, input=extra)
    prompt = f"{instruction}\n{extra}" if extra else instruction
    return _pair(PairBody(prompt, response, plain, segments), values, where)


def _answered(values: Values, ask: str, say: str, where: str) -> _Read:
    """A prompt and its answer, each as text or as messages."""
    prompt, answer = ([cell] if isinstance(cell, dict) else cell for cell in (values[ask], values[say]))
    is_text = not isinstance(answer, list) or is_segment_list(answer)
    if not isinstance(prompt, list) and is_text:
        text = read_text(values, ask, where)
        response, segments = read_response(values, say, where)
        return _pair(PairBody(text, response, text, segments), values, where)
    before = _history(values, where)
    if isinstance(prompt, list):
        before += read_conversation(prompt, ask, where) if prompt else Conversation(())
    else:
        before += spoken("user", read_text(values, ask, where))
    if is_text:
        response, segments = read_response(values, say, where)
        after = spoken("assistant", response, segments)
    else:
        after = read_conversation(answer, say, where)
    return _chat(before + after, values, where, len(before.turns))


def _preferred(values: Values, where: str) -> _Read:
    """The chosen answer of a preference row, after its prompt; `chosen` may hold the prompt's messages itself."""
    chosen, prompt = values["chosen"], values.get("prompt")
    if isinstance(chosen, list) and not is_segment_list(chosen):
        conversation = read_conversation(chosen, "chosen", where)
        whole = conversation.messages[0]["role"] != "assistant"
        if whole or not (prompt or values.get("instruction")):
            return _chat(conversation, values, where, _last_answer(conversation))
    if isinstance(chosen, dict):
        values = {**values, "chosen": [chosen]}
    if prompt is not None:
        return _answered(values, "prompt", "chosen", where)
    if values.get("instruction") is not None:
        return _alpaca(values, "chosen", where)
    close = close_column("prompt", [name for name in values if name not in ("chosen", "rejected")])
    fix = "give the prompt as a column of its own, or chosen as a list of messages"
    if close:
        fix = f"did you mean columns: {{prompt: {close}}}?"
    raise UserError("there is no prompt beside the chosen answer", f"{where}, column chosen", fix)


def _last_answer(conversation: Conversation) -> int:
    """The number of the turn with which the chosen answer begins; what stands before it is prompt in both answers."""
    roles = [message["role"] for message in conversation.messages]
    users = [number for number, role in enumerate(roles) if role == "user"]
    return users[-1] + 1 if users else 0


def _tokenized(values: Values, where: str) -> TokenBody:
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
