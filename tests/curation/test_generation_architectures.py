"""Decoding with rows that enter and leave, on architectures whose attention or positions differ: the rows of `generate`."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, TopKLogitsWarper, TopPLogitsWarper

from sftgo_cli.curation.decoding import Generated, Prompt, Stops, decode
from sftgo_cli.curation.decoding_choice import Sampling, choose, random_stream
from sftgo_cli.curation.decoding_fallback import cannot_refill, decode_plainly

VOCABULARY = 99
STOP = Stops(frozenset({7, 11, 50}))
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
WINDOW = {"sliding_window": 6}
ENDLESS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
ARCHITECTURES = {
    "Llama": SHAPE,
    "GPT2": GPT2,
    "Gemma2": {**SHAPE, **WINDOW, "head_dim": 8},
    "Mistral": {**SHAPE, **WINDOW},
}


def model_of(name: str, shape: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**shape, **ENDLESS)).eval()
    for parameter in model.parameters():
        parameter.data *= 3.0 if parameter.dim() > 1 else 1.0  # else all logits are alike
    return model


def prompts() -> list[Prompt]:
    rng = random.Random(1)
    ids = [tuple(rng.randrange(VOCABULARY) for _ in range(rng.choice([1, 3, 9, 30]))) for _ in range(9)]
    return [Prompt(number, ids[min(number, 7)], number, rng.choice([1, 2, 9, 20])) for number in range(9)]


def by_number(parts: Any) -> dict[int, Generated]:
    return {row.number: row for part in parts for row in part}


def generated_alone(model: Any, prompt: Prompt) -> list[int]:
    """transformers' own greedy search."""
    ids = torch.tensor([prompt.ids])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=prompt.limit,
        do_sample=False,
        eos_token_id=sorted(STOP.ids),
        pad_token_id=0,
    )
    return output[0, len(prompt.ids) :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_that_enter_and_leave_are_those_of_generate(name: str) -> None:
    model = model_of(name, ARCHITECTURES[name])
    assert cannot_refill(model) is None
    expected = {prompt.number: generated_alone(model, prompt) for prompt in prompts()}
    for batch_size in (1, 3, 16):
        got = by_number(decode(model, iter(prompts()), Sampling(), STOP, batch_size))
        assert got.keys() == expected.keys()
        for number, row in got.items():
            assert row.ids == expected[number] or row.near_ties
            assert row.stopped == (row.ids[-1] in STOP.ids)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, 20, 0.9)])
def test_whole_batches_choose_the_same_tokens(sampling: Sampling) -> None:
    model = model_of("Llama", SHAPE)
    rows = by_number(decode(model, iter(prompts()), sampling, STOP, 4))
    for batch_size in (1, 5):
        plain = by_number(decode_plainly(model, iter(prompts()), sampling, STOP, batch_size))
        for number, row in rows.items():
            assert row.ids == plain[number].ids or row.near_ties


def test_a_state_space_model_is_found_out() -> None:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    assert cannot_refill(model_of("Mamba", shape)) is not None


def test_a_model_whose_rows_see_each_other_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("Llama", SHAPE)
    forward = model.forward

    def without_mask(attention_mask: Any = None, **inputs: Any) -> Any:
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", without_mask)
    assert "logits change by" in str(cannot_refill(model))


def test_what_is_begun_and_not_handed_over_is_one_batch() -> None:
    begun: list[int] = []

    def counted() -> Any:
        for prompt in prompts():
            begun.append(prompt.number)
            yield prompt

    num_done = 0
    for part in decode(model_of("Llama", SHAPE), counted(), Sampling(), STOP, 2):
        assert len(begun) - num_done <= 2
        num_done += len(part)
    assert num_done == 9


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(1.3, 5), Sampling(1.0, None, 0.6), Sampling(0.9, 8, 0.8)])
def test_draws_have_the_probabilities_of_transformers_filters(sampling: Sampling) -> None:
    torch.manual_seed(0)
    logits_V = 2.0 * torch.randn(40)
    kept = logits_V[None] / sampling.temperature
    if sampling.top_k is not None:
        kept = TopKLogitsWarper(sampling.top_k)(None, kept)
    if sampling.top_p < 1:
        kept = TopPLogitsWarper(sampling.top_p)(None, kept)
    expected_V = kept[0].softmax(-1)
    count = 4000
    streams = [random_stream(seed, torch.device("cpu")) for seed in range(count)]
    tokens, near = choose(logits_V.expand(count, -1).contiguous(), streams, sampling, torch.float32)
    observed_V = torch.bincount(tokens, minlength=40) / count
    assert not (observed_V[expected_V == 0] > 0).any()
    spread_V = (expected_V * (1 - expected_V) / count).sqrt()
    assert ((observed_V - expected_V).abs() <= 5 * spread_V + 1e-3).all()
    assert near.float().mean() < 0.05


def test_close_calls_are_counted() -> None:
    logits_RV = torch.tensor([[1.0, 5.0, 5.0 - 1e-5], [1.0, 5.0, 4.9], [0.0, 0.0, -9.0]])
    tokens, near = choose(logits_RV, [None] * 3, Sampling(), torch.float32)
    assert tokens.tolist()[:2] == [1, 1]
    assert near.tolist() == [True, False, True]
    assert choose(logits_RV, [None] * 3, Sampling(), torch.bfloat16)[1].tolist() == [True, False, True]
    streams = [random_stream(1, torch.device("cpu"))]
    borderline = torch.tensor([[3.0, 3.0 - 1e-5, -50.0]])
    assert choose(borderline, streams, Sampling(1.0, top_k=1), torch.float32)[1].tolist() == [True]
