"""The shipped model and tokenizer: they load, round-trip, speak the chat format, and have learned something."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import builtin
from sftgo_cli.builtin import arithmetic, corpus

FOLDER = builtin.model_folder("tiny")
HELD_OUT_CORPUS_SEED = 987654321  # far from the seeds that pre-training counts up from
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is a fox?"},
    {"role": "assistant", "content": "A fox is red."},
    {"role": "user", "content": "And an owl?"},
    {"role": "assistant", "content": "An owl is brown."},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32).eval()


def test_shipped_files_are_small_and_nothing_is_pickled() -> None:
    files = sorted(path for path in FOLDER.iterdir() if path.is_file())
    assert sum(path.stat().st_size for path in files) < 4_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja"}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in files)


def test_model_has_the_stated_shape_and_loads_as_float32(model: Any) -> None:
    import torch

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert 800_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 1_300_000
    assert model.config.max_position_embeddings >= 1024
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert json.loads((FOLDER / "config.json").read_text())["dtype"] == "float32"


def test_tokenizer_is_fast_and_agrees_with_the_model(tokenizer: Any, model: Any) -> None:
    assert tokenizer.is_fast
    assert len(tokenizer) == model.config.vocab_size
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|begin|>", "<|end|>", "<|pad|>")
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    for special in ("<|begin|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"):
        assert tokenizer.convert_tokens_to_ids(special) in tokenizer.all_special_ids


def _random_text(rng: random.Random) -> str:
    """Characters from all of Unicode but surrogates, which no UTF-8 text holds."""
    ranges = (
        (0, 0x7F),
        (0x80, 0x7FF),
        (0x800, 0xD7FF),
        (0xE000, 0xFFFF),
        (0x10000, 0x10FFFF),
        (0x300, 0x36F),
        (0x20, 0x20),
    )
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(0, 40)))


def test_any_unicode_text_round_trips(tokenizer: Any) -> None:
    rng = random.Random(7)
    texts = [_random_text(rng) for _ in range(500)]
    texts += [
        "  two  spaces\n\n\ttab \r\n",
        "naïve café",
        "e\u0301",
        "👩‍👩‍👧 \U0001f1e9\U0001f1ea",
        "שלום مرحبا",
        "\x00",
        "a , b .",
    ]
    for text in texts:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_plain_text_gets_one_bos(tokenizer: Any) -> None:
    ids = tokenizer("Once there was a fox.")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_words_of_the_tasks_are_mostly_one_token(tokenizer: Any) -> None:
    words = sorted(
        {word for row in builtin.data_rows("instructions", "train") for word in re.findall(r" [a-z]+", row["output"])}
    )
    split = [word for word in words if len(tokenizer.tokenize(word)) > 1]
    assert len(split) < len(words) / 10
    assert tokenizer.tokenize(" 14") == ["Ġ1", "4"]


def test_template_renders_one_bos_and_ends_assistant_turns(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(TALK, tokenize=False)
    assert text == (
        "<|begin|><|system|>Be kind.<|end|><|user|>What is a fox?<|end|><|assistant|>A fox is red.<|end|>"
        "<|user|>And an owl?<|end|><|assistant|>An owl is brown.<|end|>"
    )
    ids = tokenizer.apply_chat_template(TALK, return_dict=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template(TALK[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)
    assert prompt.endswith("<|assistant|>")


def test_template_keeps_white_space_of_the_content(tokenizer: Any) -> None:
    talk = [{"role": "user", "content": "  a\n"}, {"role": "assistant", "content": "\n b  "}]
    expected = "<|begin|><|user|>  a\n<|end|><|assistant|>\n b  <|end|>"
    assert tokenizer.apply_chat_template(talk, tokenize=False) == expected


def test_generation_markers_cover_the_answers_and_their_end(tokenizer: Any) -> None:
    rendered = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    kept = [token for token, mask in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(kept) == "A fox is red.<|end|>An owl is brown.<|end|>"


def test_template_refuses_an_unknown_role(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="unknown role: wizard"):
        tokenizer.apply_chat_template([{"role": "wizard", "content": "x"}], tokenize=False)


def _mean_nll(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """Nats per token over the texts, each scored on its own."""
    import torch

    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            log_probs = model(ids).logits[:, :-1].log_softmax(-1)
        total -= log_probs.gather(-1, ids[:, 1:, None]).sum().item()
        count += ids.shape[1] - 1
    return total / count


def test_base_has_learned_the_corpus_and_not_the_tasks(model: Any, tokenizer: Any) -> None:
    rng = random.Random(HELD_OUT_CORPUS_SEED)
    uniform = math.log(len(tokenizer))  # 7.7 nats
    assert _mean_nll(model, tokenizer, [corpus.prose(rng) for _ in range(30)]) < uniform / 3
    answers = [row["output"] for row in builtin.data_rows("instructions", "heldout")[:60]]
    assert _mean_nll(model, tokenizer, answers) > uniform / 3


def _reply(model: Any, tokenizer: Any, prompt: str) -> str:
    talk = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_base_is_right_on_some_sums_and_wrong_on_others(model: Any, tokenizer: Any) -> None:
    rows = builtin.data_rows("arithmetic", "train")[:60]
    last_numbers = [re.findall(r"\d+", _reply(model, tokenizer, row["prompt"]))[-1:] for row in rows]
    num_right = sum(numbers == [row["answer"]] for numbers, row in zip(last_numbers, rows, strict=True))
    assert 0.2 * len(rows) <= num_right <= 0.7 * len(rows)


def test_corpus_holds_no_two_step_sum_of_the_data_set() -> None:
    prompts = {row["prompt"] for split in ("train", "heldout") for row in builtin.data_rows("arithmetic", split)}
    asked = {document[0]["content"] for document in corpus.documents(5, 20_000) if not isinstance(document, str)}
    two_steps = {text for text in asked if len(text.split()) == 7 and text.startswith("What is ")}
    assert two_steps
    assert not two_steps & prompts
    assert {arithmetic.question(expression) for expression in arithmetic.one_step_expressions()} <= asked


def test_corpus_depends_on_the_seed_only() -> None:
    first = list(corpus.documents(11, 300))
    assert first == list(corpus.documents(11, 300))
    assert first != list(corpus.documents(12, 300))
    assert first[:100] == list(corpus.documents(11, 100))


@pytest.mark.slow
def test_pretraining_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, hash_seed in (("first", "1"), ("second", "2")):
        command = [sys.executable, "-m", "sftgo_cli.builtin.pretrain", str(tmp_path / name), "--num-steps", "15"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    written = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert written == sorted(path.name for path in FOLDER.iterdir())
    for file in written:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    # Everything but the weights is independent of the number of steps: so it is what is shipped.
    for file in set(written) - {"model.safetensors"}:
        assert (tmp_path / "first" / file).read_bytes() == (FOLDER / file).read_bytes(), file
