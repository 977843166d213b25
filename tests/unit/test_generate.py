"""Prompts reach the model as they did in training: chat template, Stanford's prompt, or plain; BOS exactly once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from sftgo_cli.builtin import model_folder
from sftgo_cli.data.formats import ALPACA_WITHOUT_INPUT
from sftgo_cli.data.template_probes import open_template
from sftgo_cli.evaluation.generate import Decoding, PromptFormat, complete, prompt_format_of


class Echo:
    """A model that remembers what it is asked and adds one token."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.generation_config = GenerationConfig(eos_token_id=7)

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> torch.Tensor:
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            self.asked.append(ids[mask.bool()].tolist())
        return torch.cat([input_ids, torch.full((len(input_ids), 1), 50)], dim=1)


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_folder("tiny"))


@pytest.mark.parametrize("text", [None, "{prompt}", "Q: {prompt} A:"])
def test_bos_stands_once_whatever_surrounds_the_prompt(tokenizer: Any, text: str | None) -> None:
    model = Echo()
    template = open_template(tokenizer.chat_template, tokenizer)
    wrapping = PromptFormat(template) if text is None else PromptFormat(text=text)
    complete(model, tokenizer, ["What is 3 plus 4?", "Hi"], Decoding(batch_size=2), wrapping)
    assert len(model.asked) == 2
    for ids in model.asked:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_the_format_is_the_trainings(tokenizer: Any) -> None:
    template = open_template(tokenizer.chat_template, tokenizer)
    assert prompt_format_of(template, ["alpaca"], raw=False) == PromptFormat(template)
    assert prompt_format_of(template, ["alpaca"], raw=True) == PromptFormat()
    assert prompt_format_of(None, ["prompt_completion"], raw=False) == PromptFormat()
    assert prompt_format_of(None, [], raw=False) == PromptFormat()
    wrapped = prompt_format_of(None, ["alpaca"], raw=False).render("Name a {color}.")
    assert wrapped == ALPACA_WITHOUT_INPUT.format(instruction="Name a {color}.")


def test_a_prompt_may_hold_braces(tokenizer: Any) -> None:
    model = Echo()
    complete(model, tokenizer, ["{prompt} {x}"], Decoding(), PromptFormat(text="Q: {prompt}"))
    assert tokenizer.decode(model.asked[0], skip_special_tokens=True) == "Q: {prompt} {x}"


def test_completions_come_back_in_the_order_of_the_prompts(tokenizer: Any) -> None:
    model = Echo()
    prompts = ["a", "a much longer prompt than the first one", "middle length"]
    done: list[int] = []
    answers = complete(model, tokenizer, prompts, Decoding(batch_size=1), PromptFormat(), done.append)
    assert len(answers) == 3
    assert sum(done) == 3
    lengths = [len(ids) for ids in model.asked]
    assert lengths == sorted(lengths, reverse=True)  # longest first, so that memory fails early


def test_a_tokenizer_without_pad_and_eos_pads_with_what_is_masked(tokenizer: Any) -> None:
    tokenizer.pad_token = tokenizer.eos_token = None
    model = Echo()
    complete(model, tokenizer, ["Two fish sat on a mat", "Hi"], Decoding(batch_size=2), PromptFormat())
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Two fish sat on a mat", "Hi")]
    assert [ids[-len(own) :] for ids, own in zip(model.asked, expected, strict=True)] == expected
