"""A source's rows as questions, and a chosen target put back into its row.

A question is the conversation up to the last answer of a row; its gold is that answer's text. A row whose target is gold
stays as it is, whatever it holds; another target replaces the answer's text, and what belonged to that text (segments,
tool calls, reasoning) goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sftgo_cli.curation.questions import Choice, Question
from sftgo_cli.data.formats import to_sample, with_system_prompt
from sftgo_cli.data.message_weights import WEIGHT_KEYS
from sftgo_cli.data.messages import written
from sftgo_cli.data.row_formats import Format, detect_format, rename
from sftgo_cli.data.samples import ChatBody, PairBody, Sample
from sftgo_cli.data.sources import RawRow, read_each_row, resolve_source
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import EvalSource, TrainSource

FORMATS = ("alpaca", "messages", "sharegpt", "prompt_completion", "query_response")


@dataclass(frozen=True)
class Row:
    """A question and what is needed to write its row again."""

    question: Question
    sample: Sample
    place: int  # of the answer among the messages; 1 where there are only a prompt and a response
    askable: bool = True  # False: the last answer is a tool call or has weight 0, and stays as it is


def read_row(raw: RawRow, fmt: Format, columns_map: dict[str, str], system_prompt: str | None = None) -> Row:
    """A raw row as a question, asked after `system_prompt` where it has none of its own.

    Raises:
        UserError: the format has no prompt and answer, the row is faulty or has no answer, or it weighs single tokens.
    """
    if fmt not in FORMATS:
        raise UserError(
            f"{fmt} rows have no prompt and answer to choose a target for",
            raw.where,
            f"curation reads {', '.join(FORMATS)}",
        )
    values = rename(raw.values, columns_map, raw.where)
    if values.get("token_weights") is not None:
        raise UserError(
            "token_weights speak of the tokens of the given answer, and curation replaces answers",
            f"{raw.where}, column token_weights",
            "remove the column, or the curation",
        )
    sample = with_system_prompt(to_sample(raw, fmt, columns_map), system_prompt)
    body = sample.body
    if isinstance(body, PairBody):
        messages, place, gold, tools = [{"role": "user", "content": body.prompt}], 1, body.response, None
        askable = True
    else:
        assert isinstance(body, ChatBody)
        place = _answer_place(body, raw.where)
        messages, gold, tools = body.messages[:place], str(body.messages[place]["content"]), body.tools
        askable = _is_text_answer(body, place)
    if not gold.strip():
        raise UserError("the row has no gold answer", raw.where, "fill it in or remove the row")
    return Row(Question(raw.row_id, raw.where, messages, gold, values, tools), sample, place, askable)


def read_source(
    source: EvalSource | TrainSource,
    recipe_dir: Path,
    label: str,
    row_ids: Sequence[str],
    fmt: Format | None = None,
    system_prompt: str | None = None,
) -> list[Row]:
    """The rows of a source with these ids, in the source's order. Raises UserError as `read_row`.

    Args:
        fmt: None finds it, where the source does not declare it.
    """
    wanted, columns_map = set(row_ids), dict(source.columns)
    found: list[Row] = []
    fmt = fmt or (None if source.format == "auto" else source.format)
    for raw in islice(read_each_row(resolve_source(source, recipe_dir, label)), source.max_samples):
        if raw.fault is not None:
            continue  # tokenization dropped it, and said so
        fmt = fmt or detect_format(list(rename(raw.values, columns_map, raw.where)))
        if raw.row_id in wanted:
            found.append(read_row(raw, fmt, columns_map, system_prompt))
    return found


def _answer_place(body: ChatBody, where: str) -> int:
    places = [
        number
        for number, message in enumerate(body.messages)
        if number >= body.first_answer and message["role"] == "assistant" and message["content"].strip()
    ]
    if not places:
        raise UserError("the row has no gold answer", where, "fill it in or remove the row")
    return places[-1]


def _is_text_answer(body: ChatBody, place: int) -> bool:
    """Whether the last thing that the assistant says is text that is trained on."""
    later = body.messages[place:]
    if any(message["role"] == "assistant" and message.get("tool_calls") for message in later):
        return False
    return body.weights is None or body.weights[place] > 0


def chosen_values(row: Row, fmt: Format, choice: Choice) -> dict[str, Any]:
    """The columns of the row with the chosen target in the answer's place."""
    values = dict(row.question.values)
    if choice.target == row.question.gold:
        return values
    if fmt == "alpaca":
        return values | {"output": choice.target}
    if fmt == "query_response":
        return values | {"response": choice.target}
    if fmt == "prompt_completion":
        return values | {"completion": _completion(row, values["completion"], choice.target)}
    name = "messages" if fmt == "messages" else "conversations"
    return values | _conversation(row, values, name, choice.target)


def _completion(row: Row, completion: Any, target: str) -> Any:
    """A completion beside a prompt: text or segments become text, messages stay messages."""
    is_messages = isinstance(completion, list) and all(isinstance(part, dict) and "role" in part for part in completion)
    if not is_messages:
        return target
    assert isinstance(row.sample.body, ChatBody)
    return _rewritten(row, row.sample.body.first_answer, target)


def _conversation(row: Row, values: dict[str, Any], name: str, target: str) -> dict[str, Any]:
    """The conversation up to the answer, which becomes the target; what followed it went with the answer that was given.
    As it was written where one message there is one here, else as it was read."""
    body, raw = row.sample.body, values[name]
    assert isinstance(body, ChatBody)
    before = 1 if values.get("system") and body.messages[0]["content"] == values["system"] else 0
    if not isinstance(raw, list) or len(raw) + before != len(body.messages):
        return {name: _rewritten(row, 0, target), "system": None}
    answer = raw[row.place - before]
    kept = {key: answer[key] for key in ("role", "from", *WEIGHT_KEYS) if answer.get(key) is not None}
    final = {**kept, ("value" if "from" in answer else "content"): target}
    return {name: [*raw[: row.place - before], final]}


def _rewritten(row: Row, first: int, target: str) -> list[dict[str, Any]]:
    """The checked messages from `first` up to the answer, which becomes the target."""
    body = row.sample.body
    assert isinstance(body, ChatBody)
    lines = written(body.messages[: row.place + 1], body.weights, body.segments)
    kept = {key: lines[-1][key] for key in ("role", "loss_weight") if key in lines[-1]}
    return [*lines[first:-1], {**kept, "content": target}]
