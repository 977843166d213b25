"""A toy model and recipe (seconds to train), and the uninterrupted run that every interrupted one must equal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.runs import train

ROWS = 11  # 6 steps an epoch, the last one short
RECIPE = """
model: {name_or_path: model, dtype: float32}
data:
  train: rows.jsonl
  eval: {heldout: heldout.jsonl}
  max_length: 64
  packing: false
scoring: {name: tfidf}
objective: {name: sft_go, mixing_weight: 0.9, schedule: linear, mixing_weight_end: 0.1}
tuning: {name: full}
training:
  output_dir: run
  num_train_epochs: 2
  learning_rate: 1.0e-2
  warmup_ratio: 0.2
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 2
  logging_steps: 2
  save_strategy: steps
  save_steps: 4
  use_cpu: true
"""
WORDS = ["red", "green", "blue", "one", "two", "three", "cat", "dog", "bird", "sun", "moon", "star"]


def make_toy(folder: Path, seed: int = 0) -> None:
    """Write model, data and recipe.yaml."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from sftgo_cli.builtin import model_folder

    folder.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    for name, first, count in (("rows", 0, ROWS), ("heldout", 50, 3)):
        lines = [
            {
                "instruction": f"say {WORDS[number % 12]}",
                "output": " ".join(WORDS[(number * 5 + at) % 12] for at in range(2 + number % 4)),
            }
            for number in range(first, first + count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.yaml").write_text(RECIPE)


@pytest.fixture(scope="session")
def toy(session_folder: Path, shared_cache: Path) -> Path:
    """The toy's folder; read only."""
    folder = session_folder / "toy"
    with FileLock(str(folder) + ".lock"):
        if not (folder / "recipe.yaml").exists():
            make_toy(folder)
    return folder


@pytest.fixture(scope="session")
def recipe(toy: Path) -> str:
    """Path of the toy's recipe."""
    return str(toy / "recipe.yaml")


@pytest.fixture(scope="session")
def whole_run(session_folder: Path, recipe: str) -> Path:
    """The run of the recipe as it is, never interrupted; read only."""
    folder = session_folder / "whole"
    with FileLock(str(folder) + ".lock"):
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            outcome = train(folder, [recipe])
            assert outcome.code == 0, outcome.text
            (folder / "done").touch()
    return folder / "run"


@pytest.fixture
def finished(whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole_run, tmp_path / "run")
    return tmp_path / "run"
