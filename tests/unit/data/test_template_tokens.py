"""A chat template whose special tokens the tokenizer does not have: said, with how to add them."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer

from sftgo_cli.builtin import model_folder
from sftgo_cli.data.template_tokens import say_split_tokens, split_tokens
from sftgo_cli.data.templates import SHIPPED


def said(source: str | None, tokenizer: Any) -> list[str]:
    lines: list[str] = []
    say_split_tokens(source, tokenizer, lines.append)
    return lines


def test_chatml_on_a_tokenizer_without_its_tokens_is_said() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    (line,) = said(SHIPPED["chatml"], tokenizer)
    assert "<|im_start|>, <|im_end|>" in line
    assert "data.chat_template: plain" in line
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    assert said(SHIPPED["chatml"], tokenizer) == []


def test_the_tokenizers_own_template_and_plain_text_need_nothing() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    assert said(tokenizer.chat_template, tokenizer) == []
    assert said(SHIPPED["plain"], tokenizer) == []
    assert said(None, tokenizer) == []
    assert split_tokens("<start_of_turn>model [INST] a < b </think> {{ x }}", tokenizer) == [
        "<start_of_turn>",
        "[INST]",
    ]
