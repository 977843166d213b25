"""Every kind of published chat template, in templates written for this test: what is trained, letter by letter.

The expected texts are read off the templates by hand. `benchmarks/templates.py` judges any folder of templates by rules;
the last test runs these through it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sftgo_cli.data.left_out import LeftOut
from sftgo_cli.data.rendering import Rendered, make_renderer, render_sample
from sftgo_cli.data.samples import ChatBody, Sample
from sftgo_cli.data.templates import chosen_template, saved_templates
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import DataSection

FOLDER = Path(__file__).parent / "templates"
TOOL = {
    "type": "function",
    "function": {"name": "now", "description": "Tells the time", "parameters": {"type": "object", "properties": {}}},
}
SYSTEM = {"role": "system", "content": "Be kind."}
ASK, AGAIN = {"role": "user", "content": "What time?"}, {"role": "user", "content": "And in Rome?"}
NINE, TEN = {"role": "assistant", "content": "It is nine."}, {"role": "assistant", "content": "Ten."}


def call(zone: str, text: str = "", reasoning: str = "") -> dict[str, Any]:
    function = {"name": "now", "arguments": {"zone": zone}}
    message = {"role": "assistant", "content": text, "tool_calls": [{"type": "function", "function": function}]}
    return message | ({"reasoning_content": reasoning} if reasoning else {})


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text}


def thought(message: dict[str, Any], reasoning: str) -> dict[str, Any]:
    return {**message, "reasoning_content": reasoning}


def written(zone: str) -> str:
    return f'{{"name": "now", "arguments": {{"zone": "{zone}"}}}}'


CHAT = [SYSTEM, ASK, NINE, AGAIN, TEN]
CALLS = [ASK, call("CET"), result("9"), NINE]
TALKING = [ASK, call("CET", "One moment."), result("9"), NINE]
BOTH = [ASK, call("CET", "", "must look"), result("9"), thought(NINE, "so it is")]
TWICE = [ASK, call("CET"), result("9"), NINE, AGAIN, call("ROM", "Let me see."), result("10"), TEN]
REASONED = [ASK, thought(NINE, "the sun is up"), AGAIN, thought(TEN, "one more")]
END = "<|im_end|>"
LOST_CALL, LOST_TEXT = LeftOut("tool calls", 1, True), LeftOut("answer text", 1, True)
LOST_TOOLS = LeftOut("tool descriptions", 1, False)

# template, conversation, trained texts, what is left out
CASES: list[tuple[str, list[dict[str, Any]], list[str], tuple[LeftOut, ...]]] = [
    ("fixed_date", CHAT, [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("empty_think_prompt", CHAT, [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("empty_think_prompt", REASONED, [
        f"<think>\nthe sun is up\n</think>\n\nIt is nine.{END}", f"<think>\none more\n</think>\n\nTen.{END}",
    ], ()),
    ("empty_think_prompt", CALLS, [f"<call>{written('CET')}</call>{END}", f"It is nine.{END}"], ()),
    ("calls_or_text", CALLS, [f"[TOOL_CALLS]{written('CET')}</s>", "It is nine.</s>"], ()),
    ("calls_or_text", TALKING, [f"[TOOL_CALLS]{written('CET')}</s>", "It is nine.</s>"], (LOST_TEXT,)),
    ("system_before_last_question", CHAT, ["It is nine.</s>", "Ten.</s>"], (LeftOut("system prompts", 1, False),)),
    ("system_before_last_question", [SYSTEM, ASK, NINE], ["It is nine.</s>"], (LeftOut("system prompts", 1, False),)),
    ("calls_where_content_is_null", CALLS, [f"<call>{written('CET')}</call>{END}", f"It is nine.{END}"], ()),
    ("calls_where_content_is_null", TALKING, ["One moment.", f"It is nine.{END}"], (LOST_CALL,)),
    ("arguments_as_text", TALKING, [f'One moment.<call>now {{"zone": "CET"}}</call>{END}', f"It is nine.{END}"], ()),
    ("arguments_as_object", CALLS, [f"<call>now<arg>zone=CET</arg></call>{END}", f"It is nine.{END}"], ()),
    ("short_call_ids", TWICE, [
        '[TOOL_CALLS]now[ARGS]{"zone": "CET"}</s>', "It is nine.</s>",
        'Let me see.[TOOL_CALLS]now[ARGS]{"zone": "ROM"}</s>', "Ten.</s>",
    ], ()),
    ("tool_messages_with_names", CALLS, [f"<call>{written('CET')}</call>{END}", f"It is nine.{END}"], ()),
    ("stops_at_next_header", CHAT, ["It is nine.<|user|>", "Ten.<|user|>"], ()),
    ("stops_at_next_header", CALLS, [f"<call>{written('CET')}</call><|observation|>", "It is nine.<|user|>"], ()),
    ("stray_next_header", CHAT, ["It is nine.<|END_OF_TURN|>", "Ten.<|END_OF_TURN|>"], ()),
    ("result_within_the_turn", CALLS, [f"<|call|>{written('CET')}<|/call|>", "It is nine.<|end|>"], ()),
    ("result_within_the_turn", TALKING, [
        f"<|call|>{written('CET')}<|/call|>", "One moment.", "It is nine.<|end|>",
    ], ()),
    ("channels", CHAT, [
        "<|channel|>final<|message|>It is nine.<|end|>", "<|channel|>final<|message|>Ten.<|return|>",
    ], ()),
    ("channels", BOTH, [
        "<|channel|>analysis<|message|>must look<|end|><|start|>assistant to=now<|channel|>commentary<|message|>"
        '{"zone": "CET"}<|call|>',
        "<|channel|>analysis<|message|>so it is<|end|><|start|>assistant<|channel|>final<|message|>It is nine.<|return|>",
    ], ()),
    ("content_as_parts", CHAT, [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("reasoning_as_part", REASONED, [
        "[THINK]the sun is up[/THINK]It is nine.</s>", "[THINK]one more[/THINK]Ten.</s>",
    ], ()),
    ("forgets_old_reasoning", REASONED, [f"It is nine.{END}", f"<think>\none more\n</think>\n\nTen.{END}"],
     (LeftOut("reasoning", 1, True),)),
    ("forgets_old_reasoning", BOTH, [
        f"<think>\nmust look\n</think>\n\n<call>{written('CET')}</call>{END}",
        f"<think>\nso it is\n</think>\n\nIt is nine.{END}",
    ], ()),
    ("forgets_old_reasoning", TWICE, [
        f"<call>{written('CET')}</call>{END}", f"It is nine.{END}",
        f"Let me see.<call>{written('ROM')}</call>{END}", f"<think>\n\n</think>\n\nTen.{END}",
    ], ()),
    # The prompt opens the thinking, so the model never writes `<think>` itself.
    ("thinks_always", REASONED, [f"the sun is up\n</think>\nIt is nine.{END}", f"one more\n</think>\nTen.{END}"], ()),
    ("thinks_always", CALLS, [f"\n</think>\n<call>{written('CET')}</call>{END}", f"\n</think>\nIt is nine.{END}"], ()),
    ("compares_messages", [ASK, NINE, ASK, NINE], ["It is nine.</s>", "It is nine.</s>"], ()),
    ("compares_messages", TWICE, [
        f"[TOOL_CALLS]{written('CET')}</s>", "It is nine.</s>", f"Let me see.[TOOL_CALLS]{written('ROM')}</s>", "Ten.</s>",
    ], ()),
    ("system_within_the_question", CHAT, ["It is nine.<|end|>", "Ten.<|end|>"], ()),
    ("calls_end_otherwise", TALKING, [
        'One moment.<function=now>{"zone": "CET"}</function><|eom_id|>', "It is nine.<|eot_id|>",
    ], ()),
    ("results_closed_by_the_next_turn", CALLS, [f"<|calls|>{written('CET')}<|/calls|><|eos|>", "It is nine.<|eos|>"], ()),
    ("needs_tools", CALLS, [f"<call>{written('CET')}</call>{END}", f"It is nine.{END}"], ()),
    ("plain_words", CHAT, ["It is nine. END", "Ten. END"], ()),
    ("marks_text_only", TALKING, [f"One moment.{END}", f"It is nine.{END}"],
     (LeftOut("tool calls outside {% generation %}", 1, True),)),
    ("marks_everything", BOTH, [
        f"<think>must look</think><call>{written('CET')}</call>{END}", f"<think>so it is</think>It is nine.{END}",
    ], ()),
    ("closes_when_something_follows", CHAT, [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("closes_when_something_follows", [*CHAT, ASK], [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("marks_the_header_too", CHAT, [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("marks_within_a_macro", CHAT, [f"It is nine.{END}", f"Ten.{END}"], ()),
    ("marks_in_pieces", REASONED, [
        f"<think>the sun is up</think>\nIt is nine.\n{END}", f"<think>one more</think>\nTen.\n{END}",
    ], ()),
    ("results_as_a_list", CALLS, [f"<call>{written('CET')}</call>{END}", f"It is nine.{END}"], ()),
    ("closes_only_at_the_end", CHAT, [f"It is nine.{END}", f"Ten.{END}\n</s>"], ()),
]  # fmt: skip


def source(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def benchmark() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "templates.py"
    spec = importlib.util.spec_from_file_location("template_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["template_benchmark"] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = benchmark()


def rendered(name: str, messages: list[dict[str, Any]], train_on: Any = "assistant") -> Rendered:
    text = source(name)
    tools = [TOOL] if name == "needs_tools" else None
    row = render_sample(
        Sample("r", "d.jsonl:1", ChatBody(messages, tools)),
        make_renderer(text, BENCHMARK.tokenizer_for(text), train_on),
    )
    assert isinstance(row, Rendered)
    return row


@pytest.mark.parametrize(
    ("name", "messages", "trained", "lost"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_what_is_trained(
    name: str, messages: list[dict[str, Any]], trained: list[str], lost: tuple[LeftOut, ...]
) -> None:
    row = rendered(name, messages)
    assert [row.text[start:end] for start, end, _ in row.spans] == trained
    assert row.left_out == lost


@pytest.mark.parametrize(
    ("name", "messages", "trained", "lost"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_the_last_turn_alone(
    name: str, messages: list[dict[str, Any]], trained: list[str], lost: tuple[LeftOut, ...]
) -> None:
    row = rendered(name, messages, "completion")
    assert row.text[row.spans[-1][0] : row.spans[-1][1]] == trained[-1]
    assert len(row.spans) == 1


def test_a_result_that_is_read_as_a_list_is_written_in_one_piece() -> None:
    assert '<|im_start|>tool\n0: "9";' in rendered("results_as_a_list", CALLS).text


def test_every_template_is_tested() -> None:
    assert {name for name, *_ in CASES} == {path.stem for path in FOLDER.glob("*.jinja")}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jinja")), ids=lambda path: path.stem)
def test_every_shape_by_the_rules_of_the_benchmark(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tokenizer = BENCHMARK.tokenizer_for(text)
    renderer = BENCHMARK.renderer_for(text, tokenizer)
    for shape in BENCHMARK.SHAPES:
        if BENCHMARK.transformers_text(text, tokenizer, shape) is not None:
            word, _ = BENCHMARK.verdict(renderer, shape)
            assert word in ("ok", "lost"), (path.stem, shape, word)


def test_a_row_like_an_earlier_one_takes_the_short_way_to_the_same_spans() -> None:
    for name in ("empty_think_prompt", "marks_everything", "system_within_the_question", "closes_only_at_the_end"):
        text = source(name)
        renderer = make_renderer(text, BENCHMARK.tokenizer_for(text), "assistant")
        bodies = [[SYSTEM, ASK, NINE, AGAIN, TEN], [SYSTEM, AGAIN, TEN, ASK, NINE]]
        first, second = (render_sample(Sample("r", "w", ChatBody(body)), renderer) for body in bodies)
        assert renderer.template is not None
        assert renderer.template.skeletons
        renderer.template.skeletons.clear()
        assert render_sample(Sample("r", "w", ChatBody(bodies[1])), renderer) == second
        assert first != second


def test_letters_of_every_alphabet_and_none_at_all() -> None:
    answers = [
        "Ответ: да.",
        "它是九点。",
        "إنها التاسعة",
        "그것은 아홉",
        "हाँ, नौ",
        "!!! ...",
        "42",
        "🙂🙂",
        "<b>x</b>",
        "Ça va — «ő»",
    ]
    for answer in answers:
        row = rendered("empty_think_prompt", [ASK, {"role": "assistant", "content": answer}, AGAIN, TEN])
        assert [row.text[start:end] for start, end, _ in row.spans] == [answer + END, "Ten." + END]
        assert row.left_out == ()


def test_long_conversations() -> None:
    messages = [
        m for n in range(40) for m in ({"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "same"})
    ]
    row = rendered("empty_think_prompt", messages)
    assert [row.text[start:end] for start, end, _ in row.spans] == ["same" + END] * 40


def test_calls_with_numbers_only_and_with_nothing() -> None:
    for arguments in ({"n": 3, "deep": {"m": [1, 2]}}, {}):
        message = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "now", "arguments": arguments}}],
        }
        row = rendered("empty_think_prompt", [ASK, message, result("now"), NINE])
        first = row.text[row.spans[0][0] : row.spans[0][1]]
        assert first.startswith('<call>{"name": "now"')
        assert first.endswith(f"</call>{END}")
        assert row.left_out == ()


def test_variables_of_the_row() -> None:
    text = (
        source("fixed_date").replace("Today is", "{{ tone }} Today is").replace("' + strftime", "' ~ tone ~ strftime")
    )
    row = render_sample(
        Sample("r", "w", ChatBody([ASK, NINE], template_kwargs={"tone": "calm"})),
        make_renderer(text, BENCHMARK.tokenizer_for(text), "assistant"),
    )
    assert isinstance(row, Rendered)
    assert "calm" in row.text


def test_a_prompt_unlike_the_training_text_is_said() -> None:
    text = source("empty_think_prompt")
    notes = make_renderer(text, BENCHMARK.tokenizer_for(text), "assistant").notes
    assert len(notes) == 1
    assert r"'<think>\n\n</think>\n\n'" in notes[0]
    text = source("forgets_old_reasoning")
    assert make_renderer(text, BENCHMARK.tokenizer_for(text), "assistant").notes == ()


def test_a_header_that_opens_every_role_is_no_stop() -> None:
    text = source("closes_only_at_the_end").replace("<|im_end|>", "").replace("{{ eos_token }}", "")
    with pytest.raises(UserError, match="never trains its stop token"):
        make_renderer(text, BENCHMARK.tokenizer_for(text), "assistant")


class Chooses:
    """What `chosen_template` reads of a recipe's data."""

    def __init__(self, chat_template: str | None = None, **variables: Any) -> None:
        self.section = DataSection.model_validate(
            {"train": [{"path": "x"}], "chat_template": chat_template, "chat_template_kwargs": variables}
        )

    def source(self, tokenizer: Any) -> str:
        found = chosen_template(self.section, tokenizer, FOLDER)
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "True"),
        (None, "None"),
        (3, "3"),
        (0.5, "0.5"),
        ('a "quoted" \\ wörd', 'a "quoted" \\ wörd'),
        ([1, {"k": None}], "[1, {'k': None}]"),
    ],
)
def test_variables_of_the_recipe_are_defaults_wherever_the_template_is_used(value: Any, shown: str) -> None:
    template = (
        "{% macro inner() %}({{ effort }}){% endmacro %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}{{ effort }}{{ inner() }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    tokenizer = BENCHMARK.tokenizer_for(template)
    source = Chooses(template, effort=value).source(tokenizer)
    row = render_sample(Sample("r", "w", ChatBody([ASK, NINE])), make_renderer(source, tokenizer, "assistant"))
    assert isinstance(row, Rendered)
    assert row.text.startswith(f"<|im_start|>user{shown}({shown})\n")
    # The run's own template says the same in transformers, and a request may say otherwise.
    tokenizer.chat_template = source
    assert tokenizer.apply_chat_template([ASK, NINE], tokenize=False) == row.text
    assert "user9(9)" in tokenizer.apply_chat_template([ASK, NINE], tokenize=False, effort=9)


def test_a_variable_that_no_template_can_read_is_refused() -> None:
    tokenizer = BENCHMARK.tokenizer_for("<|im_start|><|im_end|>")
    for name in ("not a name", "messages", "add_generation_prompt"):
        with pytest.raises(UserError, match=f"{name!r} is no variable of a chat template"):
            Chooses("chatml", **{name: 1}).source(tokenizer)


def test_rows_with_tools_take_the_tokenizers_template_for_tools() -> None:
    plain, tools = source("fixed_date"), source("needs_tools")
    tokenizer = BENCHMARK.tokenizer_for(plain + tools)
    tokenizer.chat_template = {"default": plain, "tool_use": tools}
    renderer = make_renderer(Chooses(tone="calm").source(tokenizer), tokenizer, "assistant")
    without = render_sample(Sample("r", "w", ChatBody([ASK, NINE])), renderer)
    with_tools = render_sample(Sample("r", "w", ChatBody(CALLS, [TOOL])), renderer)
    assert isinstance(without, Rendered)
    assert isinstance(with_tools, Rendered)
    assert without.text.startswith("<|im_start|>system\nToday is 26 Jul 2024.")
    assert "Tells the time" in with_tools.text
    assert [with_tools.text[a:b] for a, b, _ in with_tools.spans] == [
        f"<call>{written('CET')}</call>{END}",
        f"It is nine.{END}",
    ]
    assert Chooses("tool_use").source(tokenizer) == tools
    saved = saved_templates(Chooses(tone="calm").source(tokenizer), tokenizer)
    assert isinstance(saved, dict)
    assert saved["default"].endswith(plain)
    assert saved["tool_use"].endswith(tools)
    assert saved["tool_use"].startswith("{%- set tone")
