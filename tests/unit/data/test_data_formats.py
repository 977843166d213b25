"""Detecting formats and reading rows, with every complaint."""

from __future__ import annotations

from typing import Any

import pytest

from sftgo_cli.data.formats import to_sample
from sftgo_cli.data.row_formats import detect_format
from sftgo_cli.data.samples import ChatBody, PairBody, TextBody, TokenBody
from sftgo_cli.data.sources import RawRow
from sftgo_cli.errors import UserError

HELLO = {"role": "user", "content": "hello"}
REPLY = {"role": "assistant", "content": "hi"}


def sample(fmt: Any, values: dict[str, Any], columns: dict[str, str] | None = None, keep: tuple[str, ...] = ()) -> Any:
    return to_sample(RawRow("d.jsonl:4", "row-4", values), fmt, columns or {}, keep)


def body(fmt: Any, values: dict[str, Any], columns: dict[str, str] | None = None) -> Any:
    return sample(fmt, values, columns).body


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["instruction", "output"], "alpaca"),
        (["instruction", "input", "output", "text"], "alpaca"),
        (["prompt", "prompt_id", "messages"], "messages"),
        (["conversations", "system"], "sharegpt"),
        (["prompt", "completion", "meta"], "prompt_completion"),
        (["text", "url"], "text"),
        (["text", "input_ids"], "tokenized"),
    ],
)
def test_detection(columns: list[str], expected: str) -> None:
    assert detect_format(columns) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["instruction", "context", "response"],
            r"columns instruction, context, response.*columns: \{output: response\}",
        ),
        (["question", "answer"], r"\{instruction: question, output: answer\}|\{prompt: question, completion: answer\}"),
        (["mesages"], r"formats known: tokenized: input_ids; messages: messages.*\{messages: mesages\}"),
        (["zzz"], "map them with columns"),
    ],
)
def test_unknown_columns(columns: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        detect_format(columns)


def test_alpaca_texts_are_stanfords() -> None:
    plain = body("alpaca", {"instruction": "Add {1}.", "output": "2"})
    assert plain == PairBody(
        "Add {1}.",
        "2",
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd {1}.\n\n### Response:",
    )
    assert body("alpaca", {"instruction": "Add {1}.", "input": "", "output": "2"}) == plain
    assert body("alpaca", {"instruction": "Add {1}.", "input": None, "output": "2"}) == plain
    assert body("alpaca", {"instruction": "Add.", "input": "1 1", "output": "2"}) == PairBody(
        "Add.\n1 1",
        "2",
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:",
    )


def test_columns_are_renamed() -> None:
    renamed = body("prompt_completion", {"question": "q", "prompt": "old", "completion": "a"}, {"prompt": "question"})
    assert renamed == PairBody("q", "a", "q")
    with pytest.raises(UserError, match=r"column 'qestion' is missing.*d\.jsonl:4.*question"):
        body("prompt_completion", {"question": "q", "completion": "a"}, {"prompt": "qestion"})


def test_messages_keep_what_templates_read() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1]}'}}
    chat = body(
        "messages",
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be "}, "brief."], "name": None},
                HELLO,
                {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
                {"role": "tool", "content": "3", "tool_call_id": "1"},
            ],
            "tools": '[{"type": "function"}]',
        },
    )
    assert chat == ChatBody(
        [
            {"role": "system", "content": "Be brief."},
            HELLO,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": [1]}}}],
                "reasoning_content": "hm",
            },
            {"role": "tool", "content": "3", "tool_call_id": "1"},
        ],
        [{"type": "function"}],
    )


def test_sharegpt_roles() -> None:
    turns = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "a", "loss_weight": 0.5},
        {"role": "user", "content": "more"},
        {"role": "gpt", "content": "b"},
    ]
    chat = body("sharegpt", {"conversations": turns, "system": "S", "tools": ""})
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert chat == ChatBody(
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "a"},
            {"role": "user", "content": "more"},
            {"role": "assistant", "content": "b"},
        ],
        None,
        0,
        [1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0],
    )


def test_prompt_completion_as_messages() -> None:
    later = {**REPLY, "loss_weight": 2}
    assert body("prompt_completion", {"prompt": [HELLO, REPLY, HELLO], "completion": [later]}) == ChatBody(
        [HELLO, REPLY, HELLO, REPLY], None, 3, [1.0, 1.0, 1.0, 2.0]
    )
    assert body("prompt_completion", {"prompt": "hello", "completion": [REPLY]}) == ChatBody([HELLO, REPLY], None, 1)
    assert body("prompt_completion", {"prompt": [HELLO], "completion": "hi"}) == ChatBody([HELLO, REPLY], None, 1)


def test_text_and_tokens() -> None:
    assert body("text", {"text": "abc"}) == TextBody("abc")
    tokens = {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "attention_mask": [1, 1, 0]}
    assert body("tokenized", tokens) == TokenBody([5, 6, 7], [-100, 6, 7], [True, True, False])


def test_row_weights_and_kept_columns() -> None:
    values = {"text": "abc", "loss_weight": 2, "token_weights": [0, 1.5], "score": [1, float("nan")]}
    found = sample("text", values, keep=("score",))
    assert (found.loss_weight, found.token_weights) == (2.0, [0.0, 1.5])
    assert found.token_columns["score"][0] == 1.0
    assert sample("text", {"text": "abc", "loss_weight": None, "token_weights": None}).loss_weight is None


@pytest.mark.parametrize(
    ("fmt", "values", "message"),
    [
        ("alpaca", {"instruction": "a"}, r"column 'output' is missing; found instruction - d\.jsonl:4, column output"),
        ("alpaca", {"instruction": "a", "Output": "b"}, r"did you mean columns: \{output: Output\}"),
        ("alpaca", {"instruction": "a", "output": None}, r"text is null - d\.jsonl:4, column output"),
        ("alpaca", {"instruction": 3, "output": "b"}, r"expected text, found int - d\.jsonl:4, column instruction"),
        ("alpaca", {"instruction": "a", "output": {"x": 1}}, "expected text, found dict.*column output"),
        ("text", {"text": ["a"]}, "expected text, found list.*column text"),
        ("prompt_completion", {"prompt": "a", "completion": None}, "text is null.*column completion"),
        ("messages", {"messages": "hi"}, "expected a list of messages, found str.*column messages"),
        ("messages", {"messages": None}, "found null.*column messages"),
        ("messages", {"messages": []}, "list of messages is empty"),
        ("messages", {"messages": [{"role": "asistant", "content": "x"}]}, r"unknown role 'asistant' - d\.jsonl:4, column "
         r"messages\[0\]\.role - did you mean assistant"),
        ("messages", {"messages": [{"content": "x"}]}, "the role is missing"),
        ("messages", {"messages": [HELLO, {"role": "assistant", "content": None}]},
         r"null or missing.*messages\[1\]\.content"),
        ("messages", {"messages": [{"role": "user", "content": 3}]}, "expected text, found int"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "only text parts.*found image"),
        ("messages", {"messages": [{**REPLY, "tool_calls": [{"x": 1}]}]}, "no function name"),
        ("messages", {"messages": [{**REPLY, "tool_calls": "f()"}]}, "expected a list of tool calls"),
        ("messages", {"messages": [HELLO], "tools": "nope"}, "not valid JSON.*column tools"),
        ("messages", {"messages": [HELLO], "tools": [1]}, "list of tool descriptions"),
        ("messages", {"messages": [{**REPLY, "loss_weight": -1}]}, r"weight -1 is negative.*messages\[0\]\.loss_weight"),
        ("sharegpt", {"conversations": [{"from": "humann", "value": "x"}]}, "unknown role 'humann'.*did you mean human"),
        ("sharegpt", {"conversations": [{"from": "gpt", "value": None}]}, r"null or missing.*conversations\[0\]\.value"),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "f("}]}, "not valid JSON"),
        ("text", {"text": "a", "loss_weight": float("inf")}, "weight inf is negative or not finite.*column loss_weight"),
        ("text", {"text": "a", "loss_weight": "1"}, "expected a number, found str"),
        ("text", {"text": "a", "token_weights": 1}, "expected a list, found int.*column token_weights"),
        ("text", {"text": "a", "token_weights": [1, float("nan")]}, "weight nan"),
        ("tokenized", {"input_ids": [1, 2.5]}, "expected whole numbers, found 2.5.*column input_ids"),
        ("tokenized", {"input_ids": None}, "expected a list, found null"),
        ("tokenized", {"input_ids": [1, 2], "labels": [1]}, "labels has 1 values, input_ids has 2"),
        ("tokenized", {"input_ids": [1, 2], "labels": [2, -100]}, "label 2 at position 0.*no shift"),
    ],
)  # fmt: skip
def test_complaints_name_row_and_column(fmt: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sample(fmt, values)


def test_kept_columns_are_checked() -> None:
    with pytest.raises(UserError, match=r"column 'score' is missing.*scores"):
        sample("text", {"text": "a", "scores": [1.0]}, keep=("score",))
    with pytest.raises(UserError, match=r"expected numbers, found null.*column score"):
        sample("text", {"text": "a", "score": [None]}, keep=("score",))
