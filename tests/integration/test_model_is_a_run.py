"""`model:` may be a run with an adapter, or its checkpoint: the next run trains on both, and what is merged has both."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sftgo_cli import builtin
from sftgo_cli.cli.main import main

IDS = torch.arange(3, 40)[None]
RECIPE = """
model: {name_or_path: MODEL, dtype: float32}
data: {train: [{path: "builtin:instructions", max_samples: 8}], eval: {held: {path: "builtin:instructions", split: heldout,
       max_samples: 4}}, max_length: 256}
scoring: {name: random}
tuning: {name: lora, lora_dropout: 0.0}
training: {output_dir: OUTPUT, max_steps: 2, use_cpu: true, learning_rate: 1.0e-2, save_steps: 1, report_to: none}
"""


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=IDS).logits
    return logits


def trained(folder: Path, name: str, model: str) -> Path:
    """The run of a recipe whose model is that name, relative to the recipe."""
    (folder / f"{name}.yaml").write_text(RECIPE.replace("MODEL", model).replace("OUTPUT", str(folder / name)))
    assert main(["train", str(folder / f"{name}.yaml")]) == 0
    return folder / name


@pytest.mark.parametrize("inside", ["", "/checkpoint-2"], ids=["run", "checkpoint"])
def test_a_run_on_a_run(inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = trained(tmp_path, "first", "builtin:tiny")
    second = trained(tmp_path, "second", f"first{inside}")
    assert json.loads((second / "adapter_config.json").read_text())["base_model_name_or_path"] == f"{first}{inside}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = AutoModelForCausalLM.from_pretrained(builtin.model_folder("tiny"))
        plain = logits_of(base)
        below: Any = PeftModel.from_pretrained(base, str(first)).merge_and_unload()
        once = logits_of(below)
        twice: Any = PeftModel.from_pretrained(below, str(second))
        expected = logits_of(twice)
    assert float((once - plain).abs().max()) > 0.05
    assert float((expected - once).abs().max()) > 0.05
    assert main(["merge", str(second), "--output", str(tmp_path / "merged")]) == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-3, atol=1e-3)
    capsys.readouterr()
    assert main(["eval", str(second), "--json"]) == 0
    of_the_run = json.loads(capsys.readouterr().out)["held"]["loss"]
    assert main(["eval", str(tmp_path / "second.yaml"), f"model={tmp_path / 'merged'}", "--base", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["held"]["loss"] == pytest.approx(of_the_run, rel=1e-4)
