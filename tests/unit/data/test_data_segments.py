"""Segments, roles and the users' own numbers: which token has which group and mask, against rules restated here."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from sftgo_cli.data.formats import to_sample
from sftgo_cli.data.prepare import prepare_rows
from sftgo_cli.data.rendering import Rendered, make_renderer, render_sample
from sftgo_cli.data.segments import GivenGroups
from sftgo_cli.data.sources import RawRow, resolve_source
from sftgo_cli.data.templates import SHIPPED
from sftgo_cli.data.tokenization import TokenRow, encode_texts, encode_tokens, make_encoder
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import DataSection, SourceSection, TrainSource
from tests.unit.data.test_data_templates import (
    CHATML,
    ENDS_ONCE,
    LLAMA2,
    LLAMA3,
    MARKED,
    NO_PROMPT,
    OPENS_THINKING,
    STRIPS,
)

BY_SEGMENT = GivenGroups()
QUESTION = {"role": "user", "content": "ask"}


def encode(
    tokenizer: Any,
    values: dict[str, Any],
    fmt: Any,
    template: str | None = None,
    train_on: Any = "assistant",
    given: GivenGroups | None = BY_SEGMENT,
) -> TokenRow:
    sample = to_sample(RawRow("d.jsonl:4", "r", values), fmt, {})
    row = render_sample(sample, make_renderer(template, tokenizer, train_on, given))
    assert isinstance(row, Rendered)
    return encode_texts([row], make_encoder(tokenizer))[0]


def chat(*segments: Any) -> dict[str, Any]:
    return {"messages": [QUESTION, {"role": "assistant", "content": list(segments)}]}


def part(text: str, group: int = 0, train: bool = True) -> dict[str, Any]:
    return {"type": "text", "text": text, "group": group, "train": train}


def texts_by_group(row: TokenRow) -> dict[int, str]:
    """The text of each group's tokens; byte-level tokens of one character count once."""
    found: dict[int, str] = {}
    groups = row.columns["given_groups"].tolist()
    seen = -1
    for (start, end), group in zip(row.offsets.tolist(), groups, strict=True):
        found[group] = found.get(group, "") + (row.text[start:end] if start >= seen else "")
        seen = max(seen, end)
    return {group: text for group, text in found.items() if group >= 0}


def trained(row: TokenRow) -> str:
    return "".join(
        row.text[start:end]
        for (start, end), label in zip(row.offsets.tolist(), row.labels.tolist(), strict=True)
        if label != -100
    )


def expected_parts(row: TokenRow, begin: int, lengths: list[int], last: int) -> list[int]:
    """The rule, token by token: the segment of the first visible character, else of the first one; a token without
    characters goes with the position before it. `begin` is where the response stands in the text, `last` its turn's
    end; -1 outside of the turn."""
    owner = [i for i, length in enumerate(lengths) for _ in range(length)]
    parts = []
    for start, end in row.offsets.tolist():
        visible = [i for i in range(start, end) if not row.text[i].isspace()]
        place = visible[0] if visible else start if start < end else end - 1
        touches = end > begin and (start if start < end else end - 1) < last
        if not touches:
            parts.append(-1)
        elif place < begin:
            parts.append(0)
        else:
            parts.append(owner[place - begin] if place - begin < len(owner) else len(lengths) - 1)
    return parts


@pytest.mark.parametrize("kind", ["byte_level", "word_piece", "metaspace"])
@pytest.mark.parametrize("template", [None, CHATML, MARKED])
def test_random_segments_follow_the_rule(tokenizers_by_kind: dict[str, Any], kind: str, template: str | None) -> None:
    tokenizer = tokenizers_by_kind[kind]
    generator = random.Random(11)
    for _ in range(60):
        pieces = ["".join(generator.choice("ab  \n\tée\u0301😀漢request") for _ in range(generator.randint(0, 6)))]
        pieces += ["".join(generator.choice("ab  \n😀 requ") for _ in range(generator.randint(0, 5))) for _ in range(3)]
        pieces[1] += "x"
        trains = [generator.random() < 0.6 for _ in pieces]
        segments = [part(text, i, train) for i, (text, train) in enumerate(zip(pieces, trains, strict=True))]
        row = encode(tokenizer, {"prompt": "ask", "completion": segments}, "prompt_completion", template)
        content = "".join(pieces)
        begin = row.text.index("ask") + 3 if template is None else row.text.index("assistant\n") + 10
        assert row.text[begin:].startswith(content)
        marker = "</s>" if template is None else "<|im_end|>"
        end = begin + len(content) + len(marker)
        parts = expected_parts(row, begin, [len(piece) for piece in pieces], end)
        # Segment i is of group i; the first token of a row is never supervised.
        wanted = [-1 if p < 0 or not trains[p] or i == 0 else p for i, p in enumerate(parts)]
        assert row.columns["given_groups"].tolist() == wanted
        assert [label != -100 for label in row.labels.tolist()] == [p >= 0 for p in wanted]


def test_borders_inside_tokens(bpe: Any) -> None:
    assert "Ġrequest" in bpe.get_vocab()
    for pieces in (["the", " request"], ["the ", "request"], ["the requ", "est"], ["the", " ", "request"]):
        segments = [part(text, group) for group, text in enumerate(pieces)]
        row = encode(bpe, {"prompt": "ask:", "completion": segments}, "prompt_completion")
        found = texts_by_group(row)
        if pieces[-1] == "est":  # " request" is one token, and its first visible character is in the first segment
            assert (found[0].replace(" ", ""), found[1]) == ("therequest", "</s>")
        else:
            assert found[len(pieces) - 1].strip() == "request</s>"
    # The four byte tokens of one character belong to one segment.
    row = encode(
        bpe, {"prompt": "ask:", "completion": [part("a"), part("😀", 1, False), part("b", 2)]}, "prompt_completion"
    )
    assert [row.text[s:e] for s, e in row.offsets.tolist()].count("😀") == 4
    assert trained(row) == "ab</s>"


def test_the_turns_end_goes_with_the_last_segment(bpe: Any) -> None:
    values = {"instruction": "q", "output": [part("good", 1), part("bad", 0, False)]}
    assert trained(encode(bpe, values, "alpaca")) == "good"
    values["output"].append(part("", 1))
    row = encode(bpe, values, "alpaca")
    assert trained(row) == "good</s>"
    assert texts_by_group(row) == {1: "good</s>"}
    assert trained(encode(bpe, values, "alpaca", CHATML)) == "good<|im_end|>"


def test_masks_work_without_grouping_by_segments(bpe: Any) -> None:
    values = chat({"type": "text", "text": "wrong. ", "train": False}, {"type": "text", "text": "right"})
    row = encode(bpe, values, "messages", CHATML, given=None)
    assert trained(row).strip() == "right<|im_end|>"
    assert "given_groups" not in row.columns
    plain = encode(bpe, chat({"type": "text", "text": "wrong. right"}), "messages", CHATML, given=None)
    assert plain.input_ids.tolist() == row.input_ids.tolist()


def test_a_mask_over_the_end_of_the_prompt(bpe: Any) -> None:
    """A token across the border between prompt and response is the response's; so its first segment decides."""
    values = {"prompt": "the requ", "completion": [part("est", train=False), part(" model")]}
    row = encode(bpe, values, "prompt_completion")
    assert row.text == "the request model</s>"
    assert trained(row).strip() == "model</s>"


TALK = [
    QUESTION,
    {"role": "assistant", "content": [part("  one ", 1), part("two", 2, False), part(" three\n ", 1)]},
    {"role": "user", "content": "one two three"},
    {"role": "assistant", "content": [part(" ", 3), part("two two", 1), part(" ", 0), part(" ", 2)]},
]


@pytest.mark.parametrize("template", [CHATML, MARKED, STRIPS, NO_PROMPT, ENDS_ONCE, LLAMA2, LLAMA3, *SHIPPED.values()])
def test_conversations_under_templates_that_trim_and_rewrite(bpe: Any, template: str) -> None:
    row = encode(bpe, {"messages": TALK}, "messages", template)
    visible = {group: "".join(text.split()) for group, text in texts_by_group(row).items()}
    ends = {"".join(text.split()) for text in (visible.pop(2, ""),)}
    assert visible.pop(1).startswith("onethree")
    assert "two" not in trained(row)[: trained(row).index("three")]
    # The last of the second turn's segments is white space; trimmed or not, the end of the turn belongs to it.
    assert len(ends) == 1
    assert set(visible) <= {0, 3}
    assert all(not text for text in visible.values())
    assert ends.pop()


def test_the_trimmed_text_is_found_where_it_stands(bpe: Any) -> None:
    """`  a b ` under a template that trims: the first segment loses its white space, no character more."""
    same = chat(part(" \n ", 1), part(" a", 2), part("a ", 3), part("  ", 4))
    row = encode(bpe, same, "messages", LLAMA3)
    assert texts_by_group(row) == {2: "a", 3: "a", 4: "<|im_end|>"}


def test_reasoning_stays_with_the_first_segment(bpe: Any) -> None:
    template = CHATML.replace("{{ m.content }}", "{{ m.reasoning_content or '' }}{{ m.content }}")
    values = chat(part("one", 1), part(" two", 2))
    values["messages"][1]["reasoning_content"] = "two"
    row = encode(bpe, values, "messages", template)
    assert {group: text.strip() for group, text in texts_by_group(row).items()} == {1: "twoone", 2: "two<|im_end|>"}
    values = chat(part("", 3), part("one", 1))
    values["messages"][1]["reasoning_content"] = "two "
    assert texts_by_group(encode(bpe, values, "messages", template)) == {3: "two", 1: "one<|im_end|>"}


def test_the_last_of_several_answers(bpe: Any) -> None:
    row = encode(bpe, {"messages": TALK}, "messages", CHATML, "completion")
    assert "".join(texts_by_group(row)[1].split()) == "twotwo"
    assert "three" not in trained(row)


def test_texts_around_the_turns_are_group_zero_when_all_is_trained(bpe: Any) -> None:
    row = encode(bpe, chat(part("no", 2, False), part("yes", 1)), "messages", CHATML, "all")
    assert texts_by_group(row)[1] == "yes<|im_end|>"
    assert 2 not in texts_by_group(row)
    assert texts_by_group(row)[0].endswith("<|im_start|>assistant\n\n")  # the header, and what follows the turn


def test_rows_without_segments_are_one_segment_of_group_zero(bpe: Any) -> None:
    row = encode(bpe, {"messages": [QUESTION, {"role": "assistant", "content": "hi"}]}, "messages", CHATML)
    assert texts_by_group(row) == {0: "hi<|im_end|>"}
    assert texts_by_group(encode(bpe, {"text": "hi you"}, "text"))[0].endswith("</s>")
    ids = bpe("Who are you?")["input_ids"]
    sample = to_sample(RawRow("d:1", "r", {"input_ids": ids}), "tokenized", {})
    columns = encode_tokens(sample, make_encoder(bpe), BY_SEGMENT).columns
    assert columns["given_groups"].tolist() == [-1] + [0] * (len(ids) - 1)


def test_sharegpt_and_completions_of_messages(bpe: Any) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": [part("a", 1), part("b", 2)]}]
    row = encode(bpe, {"conversations": turns, "system": "s"}, "sharegpt", CHATML)
    assert texts_by_group(row) == {1: "a", 2: "b<|im_end|>"}
    answer = {"role": "assistant", "content": [part("a", 1), part("b", 2)]}
    for completion in ([answer], answer["content"]):
        row = encode(bpe, {"prompt": [QUESTION], "completion": completion}, "prompt_completion", CHATML)
        assert texts_by_group(row) == {1: "a", 2: "b<|im_end|>"}


def test_a_rewritten_answer_has_no_place_for_segments(bpe: Any) -> None:
    shouting = CHATML.replace("{{ m.content }}", "{{ m.content | replace('x', 'X') }}")
    with pytest.raises(UserError, match=r"does not write message 2 as it stands, so its segments.* - d\.jsonl:4 - "):
        encode(bpe, chat(part("ax", 1), part("b", 2)), "messages", shouting)
    # A single segment needs no border, so nothing has to be found.
    assert texts_by_group(encode(bpe, chat(part("ax", 1), part("b", 1)), "messages", shouting))[1].startswith("aXb")
    thinking = chat(part("<think>x</think>", 0, False), part("yes", 1))
    assert trained(encode(bpe, thinking, "messages", STRIPS)) == "yes<|im_end|>"
    with pytest.raises(UserError, match="does not write message 2 as it stands"):
        encode(bpe, thinking, "messages", OPENS_THINKING)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([{"text": 3}], r"a segment has no text - d\.jsonl:4, column output\[0\]"),
        ([part("a"), 4], r"column output\[1\]"),
        ([{"text": "a", "group": -1}], r"group of a segment is -1 - d\.jsonl:4, column output\[0\]\.group"),
        ([{"text": "a", "group": True}], "group of a segment is True"),
        ([{"text": "a", "group": 1.5}], r"group of a segment is 1\.5"),
        ([{"text": "a", "train": 0}], r"train of a segment is 0 - d\.jsonl:4, column output\[0\]\.train"),
        ([{"text": "a", "trian": False}], r"unknown key 'trian'.*did you mean train\?"),
    ],
)
def test_faulty_segments(bpe: Any, segments: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encode(bpe, {"instruction": "q", "output": segments}, "alpaca")


def test_only_the_assistant_has_segments(bpe: Any) -> None:
    values = {
        "messages": [{"role": "user", "content": [part("a", train=False)]}, {"role": "assistant", "content": "b"}]
    }
    with pytest.raises(UserError, match=r"'user' has segments - d\.jsonl:4, column messages\[0\]\.content"):
        encode(bpe, values, "messages", CHATML)


def test_tables_may_leave_keys_out(bpe: Any) -> None:
    """Nulls and whole floats, as Arrow and JSON tables write missing values."""
    segments = [{"text": "a", "group": 1.0, "train": None}, {"text": "b", "group": None, "train": True}, "c"]
    row = encode(bpe, {"instruction": "q", "output": segments}, "alpaca")
    assert texts_by_group(row) == {1: "a", 0: "bc</s>"}


ROLES = GivenGroups((("system", "user"), ("assistant",)))


@pytest.mark.parametrize("template", [CHATML, MARKED, NO_PROMPT, LLAMA3])
def test_groups_by_role(bpe: Any, template: str) -> None:
    talk = [{"role": "system", "content": "Be brief."}, QUESTION, {"role": "assistant", "content": "uno"}]
    row = encode(bpe, {"messages": [*talk, *talk[1:]]}, "messages", template, "all", ROLES)
    header = "<|im_start|>assistant" + ("\n\n" if template == LLAMA3 else "\n")
    turn = f"{header}uno<|im_end|>" + ("" if template == LLAMA3 else "\n")
    assert texts_by_group(row)[1] == 2 * turn
    assert texts_by_group(row)[0].count("ask<|im_end|>") == 2
    assert row.columns["given_groups"][0] == -1


def test_pairs_are_user_and_assistant_without_a_template_too(bpe: Any) -> None:
    values = {"prompt": "the requ", "completion": "est of"}
    assert (
        texts_by_group(encode(bpe, values, "prompt_completion", None, "all", ROLES))[1] == "of</s>"
    )  # " request" is one
    assert (
        "Instruction"
        in texts_by_group(encode(bpe, {"instruction": "q", "output": "a"}, "alpaca", None, "all", ROLES))[0]
    )
    assert texts_by_group(encode(bpe, {"instruction": "q", "output": "a"}, "alpaca", CHATML, given=ROLES)) == {
        1: "a<|im_end|>"
    }


def test_a_trained_role_without_a_group(bpe: Any) -> None:
    only = GivenGroups((("assistant",),))
    values = {"messages": [QUESTION, {"role": "assistant", "content": "a"}]}
    with pytest.raises(UserError, match=r"role 'user' are trained on.*d\.jsonl:4.*grouping\.roles"):
        encode(bpe, values, "messages", CHATML, "all", only)
    assert texts_by_group(encode(bpe, values, "messages", CHATML, given=only)) == {0: "a<|im_end|>"}
    values["messages"][0] = {**QUESTION, "loss_weight": 0}  # not trained on, so it needs no group
    assert texts_by_group(encode(bpe, values, "messages", CHATML, "all", only))[0].endswith("a<|im_end|>\n")


def test_rows_without_roles(bpe: Any) -> None:
    with pytest.raises(UserError, match=r"text rows have no roles.*d\.jsonl:4"):
        encode(bpe, {"text": "a"}, "text", given=ROLES)
    sample = to_sample(RawRow("d:1", "r", {"input_ids": [5, 6]}), "tokenized", {})
    with pytest.raises(UserError, match=r"tokenized rows have no roles"):
        encode_tokens(sample, make_encoder(bpe), ROLES)
    thinking = {"messages": [QUESTION, {"role": "assistant", "content": "<think>x</think>y"}, QUESTION]}
    with pytest.raises(UserError, match=r"changes messages before number 3, so their groups have no place.*roles"):
        encode(bpe, thinking, "messages", STRIPS, "all", ROLES)


def test_roles_decide_and_segments_mask(bpe: Any) -> None:
    row = encode(bpe, chat(part("no", 5, False), part("yes", 7)), "messages", CHATML, given=ROLES)
    assert texts_by_group(row) == {1: "yes<|im_end|>"}


def prepared(
    path: Any, tokenizer: Any, given: GivenGroups | None = None, rows: tuple[str, ...] = (), **data: Any
) -> Any:
    section = SourceSection(path=str(path))
    data_section = DataSection(train=[TrainSource(path=str(path))], **data)
    arguments = (resolve_source(section, path.parent, "mine"), section, data_section, tokenizer, None, ())
    return prepare_rows(*arguments, path.parent / "out.arrow", keep_row_columns=rows, given=given).dataset


def test_given_groups_are_a_column_cut_with_the_row(bpe: Any, write_rows: Any) -> None:
    row = {"prompt": "ask:", "completion": [part("AB", 1), part("CD", 2), part("EF", 1, False)]}
    dataset = prepared(write_rows([row]), bpe, BY_SEGMENT, max_length=8)
    assert dataset[0]["given_groups"] == [-1, -1, -1, -1, 1, 1, 2, 2]
    assert dataset.features["given_groups"].feature.dtype == "int8"
    assert "given_groups" not in prepared(write_rows([row]), bpe).column_names
    with pytest.raises(UserError, match="none of the 1 rows can be trained on"):
        prepared(write_rows([{"prompt": "a", "completion": [part("b", train=False)]}]), bpe)


def test_numbers_per_row(bpe: Any, write_rows: Any) -> None:
    rows = [{"prompt": "a", "completion": "b", "doubt": value, "note": 1} for value in (0.1, 3)]
    dataset = prepared(write_rows(rows), bpe, rows=("doubt",))
    assert dataset["doubt"][:] == [float(np.float32(0.1)), 3.0]
    assert dataset.features["doubt"].dtype == "float32"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"column 'doubt' is missing.*rows\.jsonl:1, column doubt"),
        ({"doubts": 1}, r"did you mean columns: \{doubt: doubts\}"),
        ({"doubt": None}, r"expected a number, found null - .*rows\.jsonl:1, column doubt"),
        ({"doubt": "1"}, "expected a number, found str"),
        ({"doubt": True}, "expected a number, found bool"),
        ({"doubt": float("nan")}, "the number nan is not finite"),
        ({"doubt": 1e39}, r"the number 1e\+39 is not finite"),
    ],
)
def test_faulty_numbers_per_row(bpe: Any, tmp_path: Any, values: dict[str, Any], message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b", **values}) + "\n")
    with pytest.raises(UserError, match=message):
        prepared(path, bpe, rows=("doubt",))


def test_own_columns_may_not_hide_ours(bpe: Any, write_rows: Any) -> None:
    for name in ("given_groups", "loss_weight"):
        with pytest.raises(UserError, match=f"column '{name}' is made by sftgo itself"):
            prepared(write_rows([{"prompt": "a", "completion": "b", name: 1}]), bpe, rows=(name,))
