"""Special tokens in the rows' own text: counted, kept or written as plain text, under every kind of tokenizer."""

from __future__ import annotations

from typing import Any

import pytest

from sftgo_cli.data.rendering import Rendered, make_renderer, render_sample
from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody
from sftgo_cli.data.segments import Segment
from sftgo_cli.data.special_text import escaped, found_in, special_text
from sftgo_cli.data.tokenization import TokenRow, encode_texts, make_encoder

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TYPED = "Who <|im_end|>are<s> you?</s>"


def chat(*texts: str) -> ChatBody:
    roles = ("user", "assistant")
    return ChatBody([{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)])


def encode(tokenizer: Any, body: Any, escape: bool, template: str | None = CHATML) -> TokenRow:
    encoder = make_encoder(tokenizer, escape)
    sample = Sample("r", "d:1", body)
    row = render_sample(
        escaped(sample, encoder.special_text) if escape else sample, make_renderer(template, tokenizer, "assistant")
    )
    assert isinstance(row, Rendered)
    return encode_texts([row], encoder)[0]


def special_places(tokenizer: Any, row: TokenRow) -> list[str]:
    """The special tokens of a row, in order."""
    known = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return [tokenizer.convert_ids_to_tokens(int(i)) for i in row.input_ids if int(i) in known]


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_typed_special_tokens_become_plain_text(tokenizers_by_kind: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers_by_kind[kind]
    body = chat(TYPED, "I am <|im_end|> a small model.")
    kept, plain = encode(tokenizer, body, False), encode(tokenizer, body, True)
    assert plain.text == kept.text
    clean = encode(tokenizer, chat("Who are you?", "I am a small model."), False)
    assert special_places(tokenizer, plain) == special_places(tokenizer, clean)
    assert len(special_places(tokenizer, kept)) > len(special_places(tokenizer, plain))
    for row in (kept, plain):
        assert (row.offsets[:, 1] <= len(row.text)).all()
        trained = "".join(row.text[a:b] for (a, b), label in zip(row.offsets, row.labels, strict=True) if label != -100)
        assert trained.replace(" ", "") == "Iam<|im_end|>asmallmodel.<|im_end|>"


def test_plain_tokens_are_those_of_a_tokenizer_without_the_special_ones(bpe: Any) -> None:
    """Between two special tokens of the template the text is tokenized as if nothing in it were special."""
    row = encode(bpe, chat(TYPED, "a"), True)
    start = row.text.index("user\n")
    inside = (row.offsets[:, 0] >= start) & (row.offsets[:, 1] <= start + len(f"user\n{TYPED}"))
    alone = bpe(f"user\n{TYPED}", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert row.input_ids[inside].tolist() == alone


def test_rows_without_special_tokens_do_not_change(tokenizers_by_kind: dict[str, Any]) -> None:
    for tokenizer in tokenizers_by_kind.values():
        for body, template in ((chat("Who?", "I am."), CHATML), (PairBody("Who?", "I am.", "Who?"), None)):
            kept, plain = (encode(tokenizer, body, escape, template) for escape in (False, True))
            assert kept.input_ids.tolist() == plain.input_ids.tolist()
            assert kept.labels.tolist() == plain.labels.tolist()


def test_every_text_of_a_row_is_looked_at(bpe: Any) -> None:
    special = special_text(bpe, escape=True)
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": ["<s>"]}}}
    messages = [
        {"role": "system", "content": "<s>"},
        {"role": "user", "content": "<|im_end|></s>"},
        {"role": "assistant", "content": "ab<s>", "reasoning_content": "<s>", "tool_calls": [call]},
    ]
    tools = [{"type": "function", "function": {"name": "f", "description": "<s>"}}]
    segments = {2: (Segment("ab"), Segment("<s>", train=False))}
    sample = Sample("r", "d:1", ChatBody(messages, tools, 0, None, segments, {"documents": [{"text": "</s>"}]}))
    assert found_in(sample, special) == {"<s>": 5, "</s>": 2, "<|im_end|>": 1}
    clean = escaped(sample, special)
    assert not found_in(clean, special)
    assert isinstance(clean.body, ChatBody)
    assert "".join(one.text for one in clean.body.segments[2]) == clean.body.messages[2]["content"]
    assert [message["role"] for message in clean.body.messages] == ["system", "user", "assistant"]
    pair = Sample("r", "d:1", PairBody("<s>", "a</s>", "say <s>"))
    assert found_in(pair, special) == {"<s>": 1, "</s>": 1}
    document = Sample("r", "d:1", TextBody("<s>hi</s>"))
    assert not found_in(document, special)
    assert escaped(document, special) is document


def test_calls_and_plain_pairs_are_escaped(bpe: Any) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "<|im_end|>"}}}
    body = ChatBody([{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}])
    row = encode(bpe, body, True)
    assert '{"x": "<|im_end|>"}<|im_end|>' in row.text
    assert special_places(bpe, row).count("<|im_end|>") == 2
    row = encode(bpe, PairBody("say </s>", "a</s>b", "say </s>"), True, None)
    assert row.text == "say </s>a</s>b</s>"
    assert special_places(bpe, row) == ["</s>"]
