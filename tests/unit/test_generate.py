"""Prompts reach the model as they did in training: chat template, Stanford's prompt, or plain; BOS exactly once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from sftgo_cli.builtin import model_folder
from sftgo_cli.data.formats import ALPACA_WITHOUT_INPUT
from sftgo_cli.evaluation.generate import CHAT, RAW, Decoding, complete, prompt_format_of


class Echo:
    """A model that remembers what it is asked and adds one token."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> torch.Tensor:
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            self.asked.append(ids[mask.bool()].tolist())
        return torch.cat([input_ids, torch.full((len(input_ids), 1), 50)], dim=1)


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_folder("tiny"))


@pytest.mark.parametrize("wrapping", [CHAT, RAW, "Q: {prompt} A:"])
def test_bos_stands_once_whatever_surrounds_the_prompt(tokenizer: Any, wrapping: str) -> None:
    model = Echo()
    complete(model, tokenizer, ["What is 3 plus 4?", "Hi"], Decoding(batch_size=2), wrapping)
    assert len(model.asked) == 2
    for ids in model.asked:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_the_format_is_the_trainings() -> None:
    assert prompt_format_of(True, ["alpaca"], raw=False) == CHAT
    assert prompt_format_of(True, ["alpaca"], raw=True) == RAW
    assert prompt_format_of(False, ["prompt_completion"], raw=False) == RAW
    assert prompt_format_of(False, [], raw=False) == RAW
    wrapped = prompt_format_of(False, ["alpaca"], raw=False).replace("{prompt}", "Name a {color}.")
    assert wrapped == ALPACA_WITHOUT_INPUT.format(instruction="Name a {color}.")


def test_a_prompt_may_hold_braces(tokenizer: Any) -> None:
    model = Echo()
    complete(model, tokenizer, ["{prompt} {x}"], Decoding(), "Q: {prompt}")
    assert tokenizer.decode(model.asked[0], skip_special_tokens=True) == "Q: {prompt} {x}"


def test_completions_come_back_in_the_order_of_the_prompts(tokenizer: Any) -> None:
    model = Echo()
    prompts = ["a", "a much longer prompt than the first one", "middle length"]
    done: list[int] = []
    answers = complete(model, tokenizer, prompts, Decoding(batch_size=1), RAW, done.append)
    assert len(answers) == 3
    assert sum(done) == 3
    lengths = [len(ids) for ids in model.asked]
    assert lengths == sorted(lengths, reverse=True)  # longest first, so that memory fails early
