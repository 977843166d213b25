"""Messages of every kind that other tools write: each is read as what its author meant, or refused with what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sftgo_cli.data.formats import to_sample, with_system_prompt
from sftgo_cli.data.message_weights import FLAGS, NUMBERS
from sftgo_cli.data.messages import read_conversation, written
from sftgo_cli.data.roles import ALIASES, CALLS, ROLES
from sftgo_cli.data.row_formats import NOT_READ, detect_format
from sftgo_cli.data.samples import ChatBody, PairBody, Sample
from sftgo_cli.data.sources import RawRow
from sftgo_cli.errors import UserError

ASK = {"role": "user", "content": "q"}
SAY = {"role": "assistant", "content": "a"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "3"}
TEXT_CALL = '{"name": "f", "arguments": {"x": 1}}'
WRAPPED = {"type": "function", "function": {"name": "f", "parameters": {}}}


def read(values: dict[str, Any]) -> Sample:
    return to_sample(RawRow("d.jsonl:4", "r", values), detect_format(list(values)), {})


def body_of(values: dict[str, Any]) -> Any:
    return read(values).body


def chat_of(*messages: dict[str, Any], **more: Any) -> ChatBody:
    body = body_of({"messages": list(messages), **more})
    assert isinstance(body, ChatBody)
    return body


# What one writes, and the same in the form that chat templates read.
SAME: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "JSON text": ({"messages": json.dumps([ASK, SAY])}, [ASK, SAY]),
    "sharegpt as JSON text": ({"conversations": '[{"from": "human", "value": "q"}]'}, [ASK]),
    "openai refusal": ({"messages": [ASK, {"role": "assistant", "content": None, "refusal": "a"}]}, [ASK, SAY]),
    "refusal part": (
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "refusal", "refusal": "a"}]}]},
        [ASK, SAY],
    ),
    "responses' parts": (
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "q"}]}, SAY]},
        [ASK, SAY],
    ),
    "function_call": (
        {"messages": [ASK, {"role": "assistant", "content": None,
                            "function_call": {"name": "f", "arguments": '{"x": 1}'}},
                      {"role": "function", "name": "f", "content": "3"}]},
        [ASK, CALLING, {**RESULT, "name": "f"}],
    ),
    "function_call of nothing": ({"messages": [ASK, {**SAY, "function_call": {"name": None}}]}, [ASK, SAY]),
    "ms-swift's calls": (
        {"messages": [ASK, {"role": "tool_call", "content": TEXT_CALL}, {"role": "tool_response", "content": "3"}, SAY]},
        [ASK, CALLING, RESULT, SAY],
    ),
    "calls after text are one turn": (
        {"messages": [ASK, SAY, {"role": "tool_call", "content": TEXT_CALL},
                      {"role": "tool_call", "content": TEXT_CALL}, RESULT]},
        [ASK, {**SAY, "tool_calls": [CALL, CALL]}, RESULT],
    ),
    "sharegpt's parallel calls": (
        {"conversations": [{"from": "human", "value": "q"},
                           {"from": "function_call", "value": f"[{TEXT_CALL}, {TEXT_CALL}]"},
                           {"from": "observation", "value": "3"}, {"from": "gpt", "value": "a"}]},
        [ASK, {**CALLING, "tool_calls": [CALL, CALL]}, RESULT, SAY],
    ),
    "llama's parameters": (
        {"messages": [ASK, {"role": "assistant", "tool_calls": [{"name": "f", "parameters": {"x": 1}}]}]},
        [ASK, CALLING],
    ),
    "thinking part": (
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
                                                             {"type": "text", "text": "a"}]}]},
        [ASK, {**SAY, "reasoning_content": "hm"}],
    ),
    "mistral's thinking part": (
        {"messages": [ASK, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
            {"type": "text", "text": "a"}]}]},
        [ASK, {**SAY, "reasoning_content": "hm"}],
    ),
    "reasoning": (
        {"messages": [ASK, {**SAY, "reasoning": "hm"}]},
        [ASK, {**SAY, "reasoning": "hm", "reasoning_content": "hm"}],
    ),
    "questions with answers": (
        {"conversations": [{"human": "q", "assistant": "a"}, {"user": "q", "gpt": "a"}]}, [ASK, SAY, ASK, SAY],
    ),
    "lists of roles and texts": (
        {"conversations": {"from": ["human", "gpt"], "value": ["q", "a"], "weight": [None, None]}}, [ASK, SAY],
    ),
    "system column": ({"messages": [ASK, SAY], "system": "S"}, [{"role": "system", "content": "S"}, ASK, SAY]),
    "system as parts": (
        {"messages": [ASK, SAY], "system": [{"text": "S"}]}, [{"role": "system", "content": "S"}, ASK, SAY],
    ),
    "alpaca with history": (
        {"instruction": "q", "input": "", "output": "a", "system": "S", "history": [["h", "i"]]},
        [{"role": "system", "content": "S"}, {"role": "user", "content": "h"}, {"role": "assistant", "content": "i"},
         ASK, SAY],
    ),
    "messages alone": ({"prompt": ASK, "completion": SAY}, [ASK, SAY]),
    "query and response": (
        {"query": "q", "response": "a", "history": '[["h", "i"]]'},
        [{"role": "user", "content": "h"}, {"role": "assistant", "content": "i"}, ASK, SAY],
    ),
    "chosen with its prompt": ({"chosen": [ASK, SAY], "rejected": [ASK, RESULT]}, [ASK, SAY]),
    "chosen after a prompt of messages": ({"prompt": [ASK], "chosen": [SAY], "rejected": [SAY]}, [ASK, SAY]),
    "chosen after conversations": (
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {}},
        [ASK, SAY],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_every_kind_is_read_as_the_form_of_templates(name: str) -> None:
    values, expected = SAME[name]
    body = body_of(values)
    assert isinstance(body, ChatBody)
    assert body.messages == expected
    assert body.weights is None


@pytest.mark.parametrize("role", [*ROLES, *ALIASES])
def test_every_role_is_one_that_templates_know(role: str) -> None:
    for message in ({"role": role, "content": "x"}, {"from": role, "value": "x"}):
        (read_as,) = read_conversation([message], "messages", "d:1").messages
        assert read_as == {"role": ALIASES.get(role, role), "content": "x"}


@pytest.mark.parametrize("role", CALLS)
@pytest.mark.parametrize("value", ["f(1)", '"f"', "[]x", None, '{"arguments": {}}'])
def test_a_call_that_is_none_is_refused(role: str, value: str | None) -> None:
    with pytest.raises(UserError, match=r"d:1, column messages\[0\]"):
        read_conversation([{"role": role, "content": value}], "messages", "d:1")


def test_plain_pairs_stay_pairs() -> None:
    assert body_of({"query": "q", "response": "a"}) == PairBody("q", "a", "q")
    assert body_of({"prompt": "q", "chosen": "a", "rejected": "b"}) == PairBody("q", "a", "q")
    empty = {"history": [], "system": "", "tools": "[]", "documents": None, "chat_template_kwargs": "{}"}
    assert isinstance(body_of({"instruction": "q", "output": "a", **empty}), PairBody)


@pytest.mark.parametrize("key", [*NUMBERS, *FLAGS])
@pytest.mark.parametrize("shape", ["messages", "sharegpt", "completion"])
def test_every_weight_key_is_honored_everywhere(key: str, shape: str) -> None:
    def weights(value: Any) -> list[float] | None:
        wrong, right = {**SAY, key: value}, dict(SAY)
        turns = {"from": "gpt", "value": "a", key: value}
        rows: dict[str, dict[str, Any]] = {
            "messages": {"messages": [ASK, wrong, ASK, right]},
            "sharegpt": {"conversations": [{"from": "human", "value": "q"}, turns, ASK, right]},
            "completion": {"prompt": [ASK], "completion": [wrong, ASK, right]},
        }
        body = body_of(rows[shape])
        assert not any(key in message for message in body.messages)
        return body.weights  # type: ignore[no-any-return]

    assert weights(False if key in FLAGS else 0) == [1.0, 0.0, 1.0, 1.0]
    assert weights(0) == [1.0, 0.0, 1.0, 1.0]
    assert weights(1) == [1.0, 1.0, 1.0, 1.0]
    assert weights(None) is None
    if key in NUMBERS:
        assert weights(0.25) == [1.0, 0.25, 1.0, 1.0]
        with pytest.raises(UserError, match=rf"negative or not finite - d.jsonl:4, column .*\.{key}"):
            weights(-1)
    else:
        with pytest.raises(UserError, match=rf"expected true or false, found 0.5 - d.jsonl:4, column .*\.{key}"):
            weights(0.5)


@pytest.mark.parametrize(
    ("said", "weight"),
    [
        ({"weight": 0, "train": False, "loss": False}, 0.0),
        ({"weight": 0.5, "train": True}, 0.5),
        ({"weight": 1, "loss_weight": 1.0}, 1.0),
        ({"weight": 0, "train": True}, None),
        ({"weight": 1, "loss": False}, None),
        ({"weight": 1, "loss_weight": 0.5}, None),
        ({"train": True, "loss": False}, None),
    ],
)
def test_contradicting_weights_are_refused(said: dict[str, Any], weight: float | None) -> None:
    if weight is not None:
        assert chat_of(ASK, {**SAY, **said}).weights == [1.0, weight]
        return
    with pytest.raises(UserError, match=r"contradicts itself: .*messages\[1\] - keep one of these keys"):
        chat_of(ASK, {**SAY, **said})


def test_a_turn_of_two_weights_is_refused() -> None:
    call = {"role": "tool_call", "content": TEXT_CALL}
    with pytest.raises(UserError, match=r"two parts of one turn have different weights - .*messages\[2\]"):
        chat_of(ASK, {**SAY, "weight": 0}, call)
    assert chat_of(ASK, {**SAY, "weight": 0}, {**call, "loss": False}).weights == [1.0, 0.0]


def test_unknown_keys_and_training_elsewhere_are_noticed() -> None:
    sample = read({"messages": [{**ASK, "loss": True, "timestamp": 3}, {**SAY, "lang": "en", "name": "x"}]})
    assert sample.unknown_keys == {"timestamp", "lang"}
    assert sample.noticed == {"message_trained"}
    assert sample.body.messages[0] == {**ASK, "timestamp": 3}  # type: ignore[union-attr]
    assert read({"messages": [ASK, {**SAY, "train": True}]}).noticed == frozenset()


def test_rejected_answers_are_noticed() -> None:
    for column in ("label", "kto_tag"):
        assert read({"prompt": "q", "completion": "a", column: False}).noticed == {"rejected_trained"}
        assert read({"messages": [ASK, SAY], column: True}).noticed == frozenset()


@pytest.mark.parametrize("arguments", ["", "  ", None, {}, "{}", "null"])
def test_a_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    bare = {"name": "f", "arguments": arguments}
    for call in (bare, {"type": "function", "function": bare}):
        (read_as,) = chat_of(ASK, {**CALLING, "tool_calls": [call]}).messages[1]["tool_calls"]
        assert read_as["function"] == {"name": "f", "arguments": {}}


def test_ids_and_other_keys_of_calls_stay() -> None:
    call = {"id": "1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}", "strict": True}}
    (read_as,) = chat_of(ASK, {**CALLING, "tool_calls": [call]}).messages[1]["tool_calls"]
    assert read_as == {**call, "function": {"name": "f", "arguments": {}, "strict": True}}


@pytest.mark.parametrize(
    "tools",
    [
        [WRAPPED],
        json.dumps([WRAPPED]),
        [json.dumps(WRAPPED)],
        [{"name": "f", "parameters": {}}],
        [{"type": "function", "name": "f", "parameters": {}}],
    ],
)
@pytest.mark.parametrize("column", ["tools", "functions"])
def test_every_form_of_tools_is_openais(tools: Any, column: str) -> None:
    assert chat_of(ASK, SAY, **{column: tools}).tools == [WRAPPED]


def test_nulls_in_json_are_the_authors_but_for_those_of_tables() -> None:
    properties = {"x": {"type": "integer", "default": None, "enum": [1, None], "title": None}, "y": None}
    tool = {"name": "f", "parameters": {"properties": properties}}
    call = {"name": "f", "arguments": {"x": None, "z": None, "y": None}}
    body = chat_of(ASK, {"role": "assistant", "tool_calls": [call]}, tools=[tool])
    assert body.tools is not None
    kept = body.tools[0]["function"]["parameters"]["properties"]
    assert kept == {"x": {"type": "integer", "default": None, "enum": [1, None]}}
    assert body.messages[1]["tool_calls"][0]["function"]["arguments"] == {"x": None}
    body = chat_of(ASK, {"role": "assistant", "tool_calls": [call]})
    assert body.messages[1]["tool_calls"][0]["function"]["arguments"] == call["arguments"]
    for tools, noticed in (([tool], True), ([{"name": "f", "parameters": {"properties": {"u": {}}}}], False)):
        row = {"messages": [ASK, {"role": "assistant", "tool_calls": [call]}], "tools": tools}
        assert ("null_arguments" in read(row).noticed) == noticed


def test_variables_of_the_template_and_documents() -> None:
    for kwargs in ({"thinking": True, "x": None}, '{"thinking": true}'):
        body = chat_of(ASK, SAY, chat_template_kwargs=kwargs, documents=[{"title": "t", "text": "d"}])
        assert body.template_kwargs == {"thinking": True, "documents": [{"title": "t", "text": "d"}]}
    assert chat_of(ASK, SAY, documents='["d"]').template_kwargs == {"documents": [{"text": "d"}]}
    body = body_of({"instruction": "q", "output": "a", "chat_template_kwargs": {"thinking": True}})
    assert body.template_kwargs == {"thinking": True}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "answers": ({"prompt": "q", "completion": ["a", "b"]}, "a list of 2 texts, which may be several answers.*choose one"),
    "answers as content": ({"messages": [ASK, {**SAY, "content": ["a", "b"]}]}, "several answers"),
    "image": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "found image_url.*on_bad_row: drop"),
    "anthropic's calls": ({"messages": [ASK, {**SAY, "content": [{"type": "tool_use", "name": "f"}]}]}, "as tool_calls"),
    "late reasoning": (
        {"messages": [ASK, {**SAY, "content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "h"}]}]},
        "reasoning stands after text",
    ),
    "reasoning of a user": ({"messages": [{**ASK, "reasoning_content": "h"}, SAY]}, "'user' has reasoning"),
    "two reasonings": ({"messages": [ASK, {**SAY, "reasoning": "h", "thinking": "i"}]}, "several reasonings"),
    "python's print": ({"messages": "[{'role': 'user', 'content': 'q'}]"}, "how Python prints it"),
    "a key twice": ({"messages": '[{"role": "user", "role": "tool", "content": "q"}]'}, "'role' stands twice"),
    "text under another name": ({"messages": [{"role": "user", "text": "q"}]}, "rename text to content"),
    "texts alone": ({"conversations": ["q", "a"]}, "do not say who speaks"),
    "no role": ({"messages": [{"speaker": "A", "content": "a"}]}, "the role is missing.*role: user"),
    "two system prompts": ({"messages": [{"role": "system", "content": "T"}, SAY], "system": "S"}, "two system prompts"),
    "calls twice": ({"messages": [ASK, {**CALLING, "function_call": {"name": "f"}}]}, "both tool_calls and function_call"),
    "tools twice": ({"messages": [ASK, SAY], "tools": [WRAPPED], "functions": [WRAPPED]}, "both tools and functions"),
    "arguments as list": ({"messages": [ASK, {**SAY, "tool_calls": [{"name": "f", "arguments": [1]}]}]}, "but list"),
    "other arguments": ({"messages": [ASK, {**SAY, "tool_calls": [{"name": "f", "args": {"x": 1}}]}]}, "'args' and no arg"),
    "history": ({"query": "q", "response": "a", "history": ["h", "i"]}, r"history\[0\] - give \[\[question, answer\]"),
    "chosen alone": ({"chosen": "Human: q Assistant: a", "rejected": "b"}, "no prompt beside the chosen answer"),
    "chosen of a question": ({"question": "q", "chosen": "a", "rejected": "b"}, r"columns: \{prompt: question\}"),
    "variables": ({"messages": [ASK, SAY], "chat_template_kwargs": [1]}, "template's variables by name"),
    "documents": ({"messages": [ASK, SAY], "documents": {"d": 1}}, "list of documents"),
    "axolotl's details": ({"messages": [ASK, {**SAY, "train_detail": [{"begin_offset": 0}]}]}, "parts .*text, train"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(name: str) -> None:
    values, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        read(values)
    assert caught.value.fix
    assert "d.jsonl:4, column" in caught.value.where


@pytest.mark.parametrize("columns", [told_by for told_by, _, _ in NOT_READ])
def test_known_formats_that_are_not_read_say_what_to_do(columns: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        detect_format([*columns, "lang"])
    assert any(caught.value.fix == fix for _, _, fix in NOT_READ)


@pytest.mark.parametrize("name", ["conversation", "dialog", "dialogue", "turns", "chat"])
def test_conversations_under_other_names_are_hinted(name: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean columns: \{{(messages|conversations): {name}\}}"):
        detect_format(["id", name])


def test_a_hint_names_optional_columns_too() -> None:
    with pytest.raises(UserError, match=r"columns: \{output: response\} \(and \{input: context\}\)\?"):
        detect_format(["instruction", "context", "response", "category"])


@pytest.mark.parametrize("name", SAME)
def test_written_messages_are_read_as_the_same_again(name: str) -> None:
    body = body_of(SAME[name][0])
    assert read_conversation(written(body.messages, body.weights, body.segments), "m", "d:1").messages == body.messages
    parts = [{"text": "a", "train": False}, {"text": "b", "group": 1}]
    marked = chat_of(ASK, {**SAY, "content": parts, "weight": 0.5})
    again = read_conversation(written(marked.messages, marked.weights, marked.segments), "m", "d:1")
    assert (again.messages, again.weights, again.segments) == (marked.messages, marked.weights, marked.segments)


def test_a_system_prompt_of_the_recipe() -> None:
    system = {"role": "system", "content": "S"}
    pair = with_system_prompt(read({"instruction": "q", "output": "a"}), "S").body
    assert isinstance(pair, ChatBody)
    assert (pair.messages, pair.first_answer) == ([system, ASK, SAY], 2)
    weighted = with_system_prompt(read({"messages": [ASK, {**SAY, "weight": 0}]}), "S").body
    assert isinstance(weighted, ChatBody)
    assert (weighted.messages[0], weighted.weights) == (system, [1.0, 1.0, 0.0])
    own = read({"messages": [{"role": "developer", "content": "T"}, ASK, SAY]})
    assert with_system_prompt(own, "S") is own
    text = read({"text": "t"})
    assert with_system_prompt(text, "S") is text
