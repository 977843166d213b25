"""Which characters of a conversation are supervised, for templates with and without markers and for unruly ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.data.left_out import LeftOut
from sftgo_cli.data.rendering import make_renderer, render_sample
from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody
from sftgo_cli.data.templates import SHIPPED, resolve_chat_template
from sftgo_cli.errors import UserError

PROMPTED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + PROMPTED
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}" + PROMPTED
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
# Takes the reasoning out of every turn but the last, as Qwen3 and DeepSeek-R1 do.
STRIPS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + PROMPTED
)
# Opens the reasoning in the generation prompt, and leaves it out of what is written.
OPENS_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# An end-of-text token at the very end only, as Phi-3 has.
ENDS_ONCE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
NO_PROMPT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
# Llama-2: no generation prompt, alternation enforced, which makes some prefixes impossible.
LLAMA2 = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must "
    "alternate') }}{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} "
    "{{ eos_token }}{% endif %}{% endfor %}"
)
TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.content %}\n{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}\n<call>{{ c.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    + PROMPTED
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "uno"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "dos "},
]


def rendered(tokenizer: Any, template: str | None, body: Any, train_on: Any = "assistant") -> Any:
    return render_sample(Sample("r", "d.jsonl:1", body), make_renderer(template, tokenizer, train_on))


def supervised(tokenizer: Any, template: str, messages: list[dict[str, Any]], train_on: Any = "assistant") -> list[str]:
    row = rendered(tokenizer, template, ChatBody(messages), train_on)
    return [row.text[start:end] for start, end, _ in row.spans]


@pytest.mark.parametrize("template", [CHATML, MARKED, STRIPS, NO_PROMPT, SHIPPED["chatml"]])
def test_assistant_turns_with_their_end_of_turn(bpe: Any, template: str) -> None:
    assert supervised(bpe, template, TALK) == ["uno<|im_end|>", "dos <|im_end|>"]
    assert supervised(bpe, template, TALK, "completion") == ["dos <|im_end|>"]


def test_spans_stand_where_the_template_put_them(bpe: Any) -> None:
    row = rendered(bpe, CHATML, ChatBody(TALK))
    before = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    between = "\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    first = len(before) + len("uno<|im_end|>")
    second = first + len(between)
    assert row.text == f"{before}uno<|im_end|>{between}dos <|im_end|>\n"
    assert row.spans == [(len(before), first, 1.0), (second, second + len("dos <|im_end|>"), 1.0)]


def test_trimming_template(tokenizers_by_kind: dict[str, Any]) -> None:
    llama = tokenizers_by_kind["metaspace"]
    assert supervised(llama, LLAMA3, TALK) == ["uno<|im_end|>", "dos<|im_end|>"]
    assert supervised(llama, SHIPPED["llama3"], TALK) == ["uno<|eot_id|>", "dos<|eot_id|>"]
    assert rendered(llama, SHIPPED["llama3"], ChatBody(TALK)).text.startswith("<s><|start_header_id|>system")


def test_plain_template_ends_with_eos(bpe: Any) -> None:
    row = rendered(bpe, SHIPPED["plain"], ChatBody(TALK))
    assert row.text == (
        "### System:\nBe brief.\n### User:\none\n### Assistant:\nuno</s>\n### User:\ntwo\n### Assistant:\ndos </s>\n"
    )
    assert [row.text[start:end] for start, end, _ in row.spans] == ["uno</s>", "dos </s>"]


def test_reasoning_taken_out_of_earlier_turns(bpe: Any) -> None:
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "<think>hm</think>uno"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "<think>uno</think>dos"},
    ]
    assert supervised(bpe, STRIPS, talk) == ["uno<|im_end|>", "<think>uno</think>dos<|im_end|>"]
    assert supervised(bpe, OPENS_THINKING, talk) == ["uno<|im_end|>", "dos<|im_end|>"]


def test_end_of_text_written_once(bpe: Any) -> None:
    assert supervised(bpe, ENDS_ONCE, TALK) == ["uno<|im_end|>", "dos <|im_end|>\n</s>"]


def test_template_without_generation_prompt_that_enforces_alternation(bpe: Any) -> None:
    talk = [*TALK[1:], {"role": "user", "content": "bye"}]
    assert supervised(bpe, LLAMA2, talk) == ["uno </s>", "dos  </s>"]


def test_conversation_that_starts_with_the_assistant(bpe: Any) -> None:
    talk = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "hello"}, TALK[2]]
    assert supervised(bpe, CHATML, talk) == ["hello<|im_end|>", "uno<|im_end|>"]


def test_same_words_in_prompt_and_answer_are_not_confused(bpe: Any) -> None:
    talk = [{"role": "user", "content": "uno<|im_end|>"}, {"role": "assistant", "content": "uno"}] * 2
    row = rendered(bpe, STRIPS, ChatBody(talk))
    turn = "<|im_start|>user\nuno<|im_end|><|im_end|>\n<|im_start|>assistant\nuno<|im_end|>\n"
    ends = [len(turn) - 1, 2 * len(turn) - 1]
    assert row.spans == [(end - len("uno<|im_end|>"), end, 1.0) for end in ends]


def test_a_question_that_quotes_the_generation_prompt(bpe: Any) -> None:
    talk = [{"role": "user", "content": "what is <|im_start|>assistant\n<think>\n?"}, TALK[2]]
    assert supervised(bpe, OPENS_THINKING, talk) == ["uno<|im_end|>"]
    assert supervised(bpe, OPENS_THINKING, [*talk, *talk]) == ["uno<|im_end|>", "uno<|im_end|>"]


def test_tool_calls_are_supervised_and_tool_answers_not(bpe: Any) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    talk = [
        TALK[1],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3"},
        TALK[2],
    ]
    # The generation prompt ends with a newline that this template writes before text and before calls alike.
    assert supervised(bpe, TOOLS, talk) == [
        '<call>{"name": "f", "arguments": {"x": 1}}</call><|im_end|>',
        "uno<|im_end|>",
    ]
    row = rendered(bpe, CHATML, ChatBody(talk, tools=[call]))
    assert [row.text[start:end] for start, end, _ in row.spans] == ["uno<|im_end|>"]
    assert row.left_out == (LeftOut("tool calls", 1, True), LeftOut("tool descriptions", 1, False))


def test_reasoning_and_calls_together(bpe: Any) -> None:
    # As Qwen3: reasoning stands only after the last question, so earlier turns look different in every prefix.
    template = (
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
        "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content and "
        "loop.index0 > ns.last %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    ) + PROMPTED
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = [
        TALK[1],
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "uno", "reasoning_content": "ah"},
    ]
    assert supervised(bpe, template, [*turns, *turns]) == [
        "<call>f</call><|im_end|>",
        "uno<|im_end|>",
        "<think>hm</think><call>f</call><|im_end|>",
        "<think>ah</think>uno<|im_end|>",
    ]


def test_markers_of_one_message_in_two_pieces(bpe: Any) -> None:
    two = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% endgeneration %}~{% generation %}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}"
        "\n{% endfor %}" + PROMPTED
    )
    # The stop token is not directly in the answer's span, so the template is refused before any row is rendered.
    with pytest.raises(UserError, match="never trains its stop token"):
        supervised(bpe, two, TALK)
    joined = two.replace("~", "")
    row = rendered(bpe, joined, ChatBody(TALK, weights=[1.0, 1.0, 0.5, 1.0, 2.0]))
    assert [(row.text[a:b], w) for a, b, w in row.spans] == [
        ("uno<|im_end|>", 0.5),
        ("dos <|im_end|>", 2.0),  # the space is written before the end of turn, so it is learnt
    ]


def test_a_template_that_rewrites_answers_loses_them_aloud(bpe: Any) -> None:
    forgets = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}(old)"
        "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + PROMPTED
    )
    row = rendered(bpe, forgets, ChatBody(TALK))
    assert [row.text[start:end] for start, end, _ in row.spans] == ["dos <|im_end|>"]
    assert row.left_out == (LeftOut("answer text", 1, True),)
    assert supervised(bpe, forgets, TALK, "completion") == ["dos <|im_end|>"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHATML.replace("<|im_end|>", ""), "never trains its stop token: it writes nothing"),
        (
            MARKED.replace("<|im_end|>\n{% endgeneration %}", "{% endgeneration %}<|im_end|>\n"),
            r"never trains its stop token '<\|im_end\|>'.*move it inside",
        ),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "leaves out the assistant's text|cannot tell"),
        ("{% for m in messages %}", r"not valid Jinja.*chat template:1"),
        ("{{ raise_exception('never') }}", "the chat template fails: never"),
        ("{{ ''.__class__.__mro__ }}", "the chat template fails|cannot tell|leaves out"),
    ],
)
def test_templates_that_are_refused(bpe: Any, template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_renderer(template, bpe, "assistant")


def test_a_template_that_fails_on_a_row_names_the_row(bpe: Any) -> None:
    with pytest.raises(UserError, match=r"the chat template fails: roles must alternate - d\.jsonl:1"):
        supervised(bpe, LLAMA2, [TALK[1], TALK[1], TALK[2]])


def test_plain_text_stop_marker(bpe: Any) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }} END\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert make_renderer(template, bpe, "assistant").end_marker == "END"
    assert supervised(bpe, template, TALK) == ["uno END", "dos  END"]


def test_train_on_all_with_and_without_weights(bpe: Any) -> None:
    row = rendered(bpe, CHATML, ChatBody(TALK), "all")
    assert row.spans == [(0, len(row.text), 1.0)]
    weights = [0.0, 1.0, 2.0, 1.0, 3.0]
    row = rendered(bpe, CHATML, ChatBody(TALK, weights=weights), "all")
    blocks = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in TALK]
    assert [(row.text[a:b], w) for a, b, w in row.spans] == list(zip(blocks, weights, strict=True))
    thinking = {"role": "assistant", "content": "<think>x</think>y"}
    with pytest.raises(UserError, match="changes messages before number 3"):
        rendered(bpe, STRIPS, ChatBody([TALK[1], thinking, TALK[1]], weights=[1.0, 2.0, 3.0]), "all")


def test_message_weights_go_with_their_turns(bpe: Any) -> None:
    for template in (CHATML, MARKED):
        row = rendered(bpe, template, ChatBody(TALK, weights=[9.0, 9.0, 0.25, 9.0, 2.0]))
        assert [weight for _, _, weight in row.spans] == [0.25, 2.0]


def test_pairs_with_a_template_become_messages(bpe: Any) -> None:
    row = rendered(bpe, CHATML, PairBody("ask", "say", "plain:"))
    assert row.text == "<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\nsay<|im_end|>\n"
    assert [row.text[a:b] for a, b, _ in row.spans] == ["say<|im_end|>"]


def test_rows_without_a_template(bpe: Any) -> None:
    row = rendered(bpe, None, PairBody("ask", "say", "plain:"))
    assert (row.text, row.spans) == ("plain:say</s>", [(6, 13, 1.0)])
    assert rendered(bpe, None, PairBody("ask", "say", "plain:"), "all").spans == [(0, 13, 1.0)]
    text = rendered(bpe, None, TextBody("words"))
    assert (text.text, text.spans) == ("words</s>", [(0, 9, 1.0)])
    with pytest.raises(UserError, match=r"rows are messages and the tokenizer has no chat template.*chat_template"):
        rendered(bpe, None, ChatBody(TALK))


def test_pairs_need_an_end(bpe: Any) -> None:
    import copy

    endless = copy.deepcopy(bpe)
    endless.eos_token = None
    with pytest.raises(UserError, match="no eos token"):
        rendered(endless, None, PairBody("ask", "say", "plain:"))
    assert rendered(endless, None, TextBody("words")).text == "words"


@pytest.mark.parametrize("silence", ["", " \n"])
def test_rows_without_an_answer(bpe: Any, silence: str) -> None:
    quiet = {"role": "assistant", "content": silence}
    assert rendered(bpe, CHATML, PairBody("ask", silence, "ask")) == "empty_answer"
    assert rendered(bpe, None, PairBody("ask", silence, "ask")) == "empty_answer"
    assert rendered(bpe, None, TextBody(silence)) == "empty_answer"
    assert rendered(bpe, CHATML, ChatBody([TALK[1], quiet])) == "empty_answer"
    assert rendered(bpe, CHATML, ChatBody([TALK[1]])) == "no_supervised_token"
    assert supervised(bpe, CHATML, [TALK[1], TALK[2], TALK[3], quiet]) == ["uno<|im_end|>"]


def test_answers_in_the_prompt_are_not_trained(bpe: Any) -> None:
    row = rendered(bpe, CHATML, ChatBody(TALK, first_answer=3))
    assert [row.text[a:b] for a, b, _ in row.spans] == ["dos <|im_end|>"]


def test_choosing_the_template(bpe: Any, tmp_path: Path) -> None:
    import copy

    own = copy.deepcopy(bpe)
    assert resolve_chat_template(None, own, tmp_path) is None
    own.chat_template = CHATML
    assert resolve_chat_template(None, own, tmp_path) == CHATML
    own.chat_template = {"default": MARKED, "tool_use": CHATML}
    assert resolve_chat_template(None, own, tmp_path) == MARKED
    assert resolve_chat_template("chatml", own, tmp_path) == SHIPPED["chatml"]
    assert resolve_chat_template(LLAMA2, own, tmp_path) == LLAMA2
    (tmp_path / "mine.jinja").write_text(CHATML)
    assert resolve_chat_template("mine.jinja", own, tmp_path) == CHATML
    with pytest.raises(UserError, match=r"no chat template 'chatlm'.*did you mean chatml\?"):
        resolve_chat_template("chatlm", own, tmp_path)
    with pytest.raises(UserError, match=r"did you mean mine\.jinja\?"):
        resolve_chat_template("mime.jinja", own, tmp_path)
    (tmp_path / "bad.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the chat template"):
        resolve_chat_template("bad.jinja", own, tmp_path)
