"""`model.new_tokens`: added to tokenizer, embedding and head; trained, saved, resumed, merged and loaded again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftgo_cli import pipeline
from sftgo_cli.builtin import model_folder
from sftgo_cli.cli.main import main

NEW = ["<note>", "<|step|>"]
RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32, new_tokens: ["<note>", "<|step|>"]}
data: {train: rows.jsonl, max_length: 64, packing: false}
training: {output_dir: unused, max_steps: 4, learning_rate: 1.0e-2, per_device_train_batch_size: 2, logging_steps: 1,
           save_strategy: steps, save_steps: 2, save_total_limit: null, use_cpu: true}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"Say {n}.", "completion": f"<note> {n} <|step|> it is"} for n in ("one", "two", "three", "four")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def train(recipe: Path, run: Path, tuning: str, *overrides: str) -> Path:
    assert main(["train", str(recipe), f"training.output_dir={run}", f"tuning={tuning}", *overrides]) == 0
    return run


def base() -> tuple[Any, int]:
    model = AutoModelForCausalLM.from_pretrained(model_folder("tiny"))
    return model, len(AutoTokenizer.from_pretrained(model_folder("tiny")))


def test_a_new_token_is_one_token_and_another_tokenization(recipe: Path) -> None:
    loaded = pipeline.load(recipe, [])
    rows = pipeline.prepare(loaded, lambda line: None).train
    _, old = base()
    assert {old, old + 1} <= set(rows.datasets[0][0]["input_ids"])
    without = pipeline.prepare(pipeline.load(recipe, ["model.new_tokens=null"]), lambda line: None).train
    assert rows.keys != without.keys


def test_new_rows_begin_as_the_mean(recipe: Path) -> None:
    from sftgo_cli.base_model import load_base_model

    plain, old = base()
    model: Any = load_base_model(pipeline.load(recipe, []).recipe.model, recipe.parent, "float32")
    for weight, before in (
        (model.get_input_embeddings().weight, plain.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, plain.get_output_embeddings().weight),
    ):
        assert torch.equal(weight[:old], before[:old])
        for row in (old, old + 1):
            assert torch.allclose(weight[row], before[:old].mean(dim=0), atol=1e-6)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_trained_saved_resumed_merged_and_loaded(recipe: Path, tmp_path: Path, tuning: str) -> None:
    plain, old = base()
    run = train(recipe, tmp_path / "run", tuning)
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoint-4")
    stages = json.loads((again / "stages.json").read_text())
    (again / "stages.json").write_text(json.dumps({**stages, "finished_steps": None}))
    train(recipe, again, tuning)
    name = "adapter_model.safetensors" if tuning == "lora" else "model.safetensors"
    left, right = load_file(run / name), load_file(again / name)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    whole = run
    if tuning == "lora":
        whole = tmp_path / "merged"
        assert main(["merge", str(run), "--output", str(whole)]) == 0
    tokenizer, model = AutoTokenizer.from_pretrained(whole), AutoModelForCausalLM.from_pretrained(whole)
    assert [tokenizer(token, add_special_tokens=False)["input_ids"] for token in NEW] == [[old], [old + 1]]
    weight, before = model.get_input_embeddings().weight, plain.get_input_embeddings().weight
    mean = before[:old].mean(dim=0)
    assert (weight[old] - mean).abs().max() > 1e-3  # trained
    assert torch.equal(weight[:old], before[:old]) == (tuning == "lora")  # under LoRA no other row moves


def test_a_run_with_new_tokens_is_a_base_model(recipe: Path, tmp_path: Path) -> None:
    run = train(recipe, tmp_path / "run", "lora")
    train(
        recipe, tmp_path / "next", "lora", f"model.name_or_path={run}", "model.new_tokens=null", "training.max_steps=1"
    )


def test_a_token_with_spaces_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(recipe), "model.new_tokens=['']"]) == 2
    assert "model.new_tokens" in capsys.readouterr().err
