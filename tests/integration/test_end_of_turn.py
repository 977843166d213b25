"""A model that was taught its end of turn stops at it: in `sftgo generate`, in plain transformers, full, adapter, merged.

The end of turn is a token that the base model's own configuration does not know as an end.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from sftgo_cli.builtin import model_folder
from sftgo_cli.cli.main import main

ROWS = [("say hi", "hello there friend"), ("say bye", "good bye now")]
RECIPE = """
model: {name_or_path: base, dtype: float32}
data: {train: rows.jsonl, chat_template: chatml, max_length: 64, packing: false}
objective: cross_entropy
tuning: full
training: {output_dir: unused, max_steps: 120, learning_rate: 3.0e-3, lr_scheduler_type: constant, save_strategy: "no",
           per_device_train_batch_size: 2, logging_steps: 60, use_cpu: true}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turns")
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = None
    model = AutoModelForCausalLM.from_pretrained(model_folder("tiny"))
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ROWS]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": pair}) + "\n" for pair in messages))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def train(folder: Path, name: str, *overrides: str) -> Path:
    run = folder / name
    assert main(["train", str(folder / "recipe.yaml"), f"training.output_dir={run}", *overrides]) == 0
    return run


@pytest.fixture(scope="module")
def full(folder: Path) -> Path:
    return train(folder, "full")


@pytest.fixture(scope="module")
def adapter(folder: Path, full: Path) -> Path:
    """On a base that knows the answers, but not where to stop."""
    knowing = folder / "knowing"
    shutil.copytree(folder / "base", knowing)
    shutil.copy(full / "model.safetensors", knowing)
    return train(
        folder, "adapter", "model=knowing", "tuning=lora", "training.max_steps=2", "training.learning_rate=1e-5"
    )


def answers_of_transformers(run: Path) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(run)
    model = AutoModelForCausalLM.from_pretrained(run)
    texts = []
    for question, _ in ROWS:
        chat: Any = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = model.generate(**ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[
            0, ids["input_ids"].shape[1] :
        ]
        texts.append(tokenizer.decode(output, skip_special_tokens=False))
    return texts


def eos_of(folder: Path) -> list[int]:
    eos = GenerationConfig.from_pretrained(folder).eos_token_id
    return eos if isinstance(eos, list) else [eos]


def test_a_full_run_stops_everywhere(folder: Path, full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(full)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert eos_of(full) == [*eos_of(folder / "base"), end]  # the base model's own stay, and stay first
    assert [text.removesuffix("<|im_end|>") for text in answers_of_transformers(full)] == [a for _, a in ROWS]
    capsys.readouterr()
    for question, answer in ROWS:
        assert main(["generate", str(full), "--prompt", question, "--max-new-tokens", "40"]) == 0
        assert capsys.readouterr().out.strip() == answer
    chat = pipeline("text-generation", model=str(full), device="cpu")
    said = chat([{"role": "user", "content": "say hi"}], max_new_tokens=40, do_sample=False)[0]["generated_text"][-1]
    assert said["content"].strip() == "hello there friend"


def test_an_adapter_and_what_is_merged_of_it_stop(
    folder: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = AutoTokenizer.from_pretrained(adapter).convert_tokens_to_ids("<|im_end|>")
    assert end in eos_of(adapter)
    capsys.readouterr()
    for question, answer in ROWS:
        assert main(["generate", str(adapter), "--prompt", question, "--max-new-tokens", "40"]) == 0
        assert capsys.readouterr().out.strip() == answer
    merged = folder / "merged"
    assert main(["merge", str(adapter), "--output", str(merged)]) == 0
    assert end in eos_of(merged)
    assert [text.removesuffix("<|im_end|>") for text in answers_of_transformers(merged)] == [a for _, a in ROWS]
