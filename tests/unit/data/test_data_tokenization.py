"""Tokens, masks, BOS, pinned tokens and weights, against rules restated here character by character."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sftgo_cli.data.rendering import Rendered, make_renderer, render_sample
from sftgo_cli.data.samples import PairBody, Sample, TextBody, TokenBody
from sftgo_cli.data.tokenization import TokenRow, cut, encode_texts, encode_tokens, make_encoder
from sftgo_cli.errors import UserError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEAD = "<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\n"
ALPHABETS = [
    "abc XYZ  .,\n\t",
    "éàü ñ e\u0301o\u0308\u0323 ",
    "😀👩‍👩‍👧🏳️‍🌈 ",
    "שלום عربى \u200f\u202e",
    "漢字かな交じり。　",
    "\x00\x01a\ufffd\u2028\u0085 ",
]


def encode(tokenizer: Any, body: Any, template: str | None = None, train_on: Any = "assistant", **own: Any) -> TokenRow:
    row = render_sample(Sample("r", "d.jsonl:1", body, **own), make_renderer(template, tokenizer, train_on))
    assert isinstance(row, Rendered)
    return encode_texts([row], make_encoder(tokenizer))[0]


def answers(tokenizer: Any, row: TokenRow) -> list[int]:
    return [int(label) for label in row.labels if label != -100]


def random_text(generator: random.Random) -> str:
    letters = generator.choice([*ALPHABETS, "".join(ALPHABETS)])
    return "x" + "".join(generator.choice(letters) for _ in range(generator.randint(1, 25))) + "y"


@pytest.mark.parametrize("kind", ["byte_level", "word_piece", "metaspace"])
def test_random_unicode_is_masked_character_by_character(tokenizers_by_kind: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers_by_kind[kind]
    renderer = make_renderer(CHATML, tokenizer, "assistant")
    generator = random.Random(7)
    texts = [random_text(generator) for _ in range(200)]
    samples = [Sample(str(i), "x", PairBody("ask", text, "")) for i, text in enumerate(texts)]
    rendered = [row for sample in samples if isinstance(row := render_sample(sample, renderer), Rendered)]
    rows = encode_texts(rendered, make_encoder(tokenizer))
    assert len(rows) == 200
    for text, row in zip(texts, rows, strict=True):
        answer = set(range(len(HEAD), len(HEAD) + len(text) + len("<|im_end|>")))
        assert row.text == f"{HEAD}{text}<|im_end|>\n"
        for index, (start, end) in enumerate(row.offsets.tolist()):
            if start < end and index:
                assert (row.labels[index] != -100) == bool(answer & set(range(start, end)))
        reached = {i for start, end in row.offsets.tolist() for i in range(start, end)}
        trained = {
            i
            for (s, e), label in zip(row.offsets.tolist(), row.labels, strict=True)
            if label != -100
            for i in range(s, e)
        }
        assert answer & reached <= trained
        if kind == "byte_level":  # loses nothing, so the answer can be read back from its tokens, spaces included
            assert {i for i in answer if not row.text[i].isspace()} <= trained
            assert tokenizer.decode(answers(tokenizer, row)) == f"{text}<|im_end|>"


def test_byte_tokens_of_one_character_are_all_supervised(bpe: Any) -> None:
    row = encode(bpe, PairBody("", "😀", "ask:"))
    emoji = [label for label, (start, _) in zip(row.labels, row.offsets.tolist(), strict=True) if start == 4]
    assert len(emoji) == 4  # four bytes, no merges
    assert -100 not in emoji


def test_a_token_across_the_border_is_supervised(bpe: Any) -> None:
    assert "Ġrequest" in bpe.get_vocab()
    row = encode(bpe, PairBody("", "est", "the requ"))
    assert row.text == "the request</s>"
    assert bpe.decode(answers(bpe, row)) == " request</s>"


def test_lone_surrogates_become_one_replacement_each(bpe: Any) -> None:
    row = encode(bpe, PairBody("", "a\ud800b", "ask:"))
    assert row.text == "ask:a\ufffdb</s>"
    assert bpe.decode(answers(bpe, row)) == "a\ufffdb</s>"


def test_bos_stands_once(tokenizers_by_kind: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_kind["metaspace"]
    bos = tokenizer.bos_token_id
    for text in ("Who are you?", "<s>Who are you?", "<s><s>Who are you?"):
        row = encode(tokenizer, TextBody(text))
        assert row.input_ids[0] == bos
        assert (row.input_ids == bos).sum() == 1
        assert row.labels[0] == -100
        assert (row.labels[1:] != -100).any()
    with_template = "{{ bos_token }}" + CHATML
    row = encode(tokenizer, PairBody("ask", "say", ""), with_template)
    assert (row.input_ids == bos).sum() == 1


def test_no_bos_where_the_tokenizer_adds_none(bpe: Any) -> None:
    row = encode(bpe, TextBody("Who"))
    assert bpe.decode(row.input_ids) == "Who</s>"
    assert row.labels[0] == -100
    assert row.labels[1:].tolist() == row.input_ids[1:].tolist()


def test_pad_equal_to_eos_still_trains_the_end(bpe: Any) -> None:
    import copy

    tokenizer = copy.deepcopy(bpe)
    assert tokenizer.pad_token is None
    before = encode(tokenizer, PairBody("", "say", "ask:"))
    tokenizer.pad_token = tokenizer.eos_token
    after = encode(tokenizer, PairBody("", "say", "ask:"))
    assert before.labels.tolist() == after.labels.tolist()
    assert after.labels[-1] == tokenizer.eos_token_id


def test_pinned_tokens(bpe: Any) -> None:
    row = encode(bpe, PairBody("ask", "a  b", ""), CHATML)
    pieces = bpe.convert_ids_to_tokens(row.input_ids)
    expected = [piece in ("<|im_start|>", "<|im_end|>") or set(piece) == {"Ġ"} for piece in pieces]
    assert row.pinned.tolist() == expected
    assert any(set(piece) == {"Ġ"} for piece in pieces)
    ended = "{% for m in messages %}{{ m.role }}:{{ m.content }}~~\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    row = encode(bpe, PairBody("ask", "b~~c", ""), ended)
    marked = [row.text[s:e] for (s, e), pinned in zip(row.offsets.tolist(), row.pinned, strict=True) if pinned]
    assert "".join(marked) == "~~"
    assert bpe.decode(answers(bpe, row)) == "b~~c~~"


def test_weights_multiply_and_zero_is_not_supervised(bpe: Any) -> None:
    plain = encode(bpe, PairBody("", "say", "ask:"))
    length = len(plain.input_ids)
    own = [1.0] * (length - 3) + [0.0, 0.5, 3.0]
    row = encode(bpe, PairBody("", "say", "ask:"), token_weights=own, loss_weight=2.0)
    assert row.labels[-3] == -100
    assert row.labels[-2:].tolist() == row.input_ids[-2:].tolist()
    assert row.token_weights[-3:].tolist() == [0.0, 0.5, 3.0]
    assert (row.loss_weight, row.weighted) == (2.0, True)
    assert not encode(bpe, PairBody("", "say", "ask:"), token_weights=[1.0] * length).weighted
    assert encode(bpe, PairBody("", "say", "ask:"), loss_weight=0.0).num_supervised == 0


def test_message_weight_times_token_weight(bpe: Any) -> None:
    from sftgo_cli.data.samples import ChatBody

    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] * 2
    body = ChatBody(talk, weights=[1.0, 0.0, 1.0, 0.5])
    plain = encode(bpe, body, CHATML)
    assert bpe.decode(answers(bpe, plain)) == "a<|im_end|>"
    row = encode(bpe, body, CHATML, token_weights=[4.0] * len(plain.input_ids))
    assert set(row.token_weights[row.labels != -100].tolist()) == {2.0}


@pytest.mark.parametrize("name", ["token_weights", "score"])
def test_per_token_columns_of_the_wrong_length(bpe: Any, name: str) -> None:
    values = [1.0, 2.0]
    own = {"token_weights": values} if name == "token_weights" else {"token_columns": {name: values}}
    with pytest.raises(UserError, match=rf"{name} has 2 values, the row has \d+ tokens - d\.jsonl:1, column {name}"):
        encode(bpe, TextBody("Who are you?"), **own)


def test_weights_that_overflow_float32(bpe: Any) -> None:
    from sftgo_cli.data.samples import ChatBody

    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    length = len(encode(bpe, ChatBody(talk), CHATML).input_ids)
    with pytest.raises(UserError, match=r"not finite.*column token_weights"):
        encode(bpe, ChatBody(talk, weights=[1.0, 1e38]), CHATML, token_weights=[1e38] * length)


def test_cutting_cuts_every_column(bpe: Any) -> None:
    length = len(encode(bpe, TextBody("Who are you?")).input_ids)
    own = {"token_columns": {"score": [float(i) for i in range(length)]}}
    row = cut(encode(bpe, TextBody("Who are you?"), **own), 3)
    assert [len(row.input_ids), len(row.labels), len(row.offsets), len(row.pinned), len(row.token_weights)] == [3] * 5
    assert row.columns["score"].tolist() == [0.0, 1.0, 2.0]
    assert row.text == "Who are you?</s>"[: row.offsets[2][1]]


def tokens(tokenizer: Any, body: TokenBody, **own: Any) -> TokenRow:
    return encode_tokens(Sample("r", "d.jsonl:1", body, **own), make_encoder(tokenizer))


def test_tokenised_rows_are_taken_as_they_are(bpe: Any) -> None:
    ids = bpe("Who are you?</s>")["input_ids"]
    row = tokens(bpe, TokenBody(ids, None, None))
    assert row.input_ids.tolist() == ids
    assert row.labels.tolist() == [-100, *ids[1:]]
    assert row.text == "Who are you?</s>"
    assert [row.text[s:e] for s, e in row.offsets.tolist()] == [bpe.decode([i]) for i in ids]
    assert row.pinned.tolist() == [False] * (len(ids) - 1) + [True]
    labels = [-100] * (len(ids) - 2) + ids[-2:]
    assert tokens(bpe, TokenBody(ids, labels, None)).labels.tolist() == labels


def test_padding_of_tokenised_rows_is_taken_out(bpe: Any) -> None:
    keep = [False, True, True, False]
    row = tokens(bpe, TokenBody([9, 10, 11, 12], None, keep), token_weights=[1.0, 2.0, 3.0, 4.0])
    assert row.input_ids.tolist() == [10, 11]
    assert row.labels.tolist() == [-100, 11]
    assert row.token_weights.tolist() == [2.0, 3.0]


def test_tokens_outside_the_vocabulary(bpe: Any) -> None:
    for wrong in (len(bpe), -1):
        with pytest.raises(UserError, match=rf"token {wrong} is not in the vocabulary of {len(bpe)}.*column input_ids"):
            tokens(bpe, TokenBody([5, wrong], None, None))


def test_slow_tokenizers_are_refused() -> None:
    class Slow:
        is_fast = False
        name_or_path = "some/slow"

    with pytest.raises(UserError, match=r"slow.*some/slow.*tokenizer\.json"):
        make_encoder(Slow())
