"""`validate` refuses a model that `train` would refuse, with the same line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sftgo_cli import builtin
from sftgo_cli.cli.main import main

RECIPE = """
model: {name_or_path: model, dtype: float32}
data: {train: [{path: "builtin:instructions", max_samples: 8}], max_length: 256}
scoring: {name: random}
tuning: full
training: {output_dir: OUTPUT, max_steps: 1, use_cpu: true, report_to: none}
"""


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def of_another_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5", "architectures": ["T5"]}))


def with_a_larger_tokenizer(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    last = max(token["id"] for token in content["added_tokens"])
    size = max(last, *content["model"]["vocab"].values()) + 1
    added = {"id": size, "content": "<|new|>", "special": True, "normalized": False}
    added |= {"single_word": False, "lstrip": False, "rstrip": False}
    content["added_tokens"].append(added)
    (folder / "tokenizer.json").write_text(json.dumps(content))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a layer is missing": (without_a_layer, "model.layers.1.mlp.up_proj.weight"),
    "pickled": (pickled, "are pickled"),
    "an encoder-decoder": (of_another_type, "t5 is an encoder-decoder"),
    "a larger tokenizer": (with_a_larger_tokenizer, "tokens, the model embeds"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_validate_and_train_refuse_the_same(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(builtin.model_folder("tiny"), tmp_path / "model")
    change, message = FAULTS[name]
    change(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("OUTPUT", str(tmp_path / "run")))
    lines = []
    for verb in ("validate", "train"):
        assert main([verb, str(tmp_path / "recipe.yaml")]) == 2
        lines.append(next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")))
    assert message in lines[0]
    assert lines[0] == lines[1]
    assert not (tmp_path / "run" / "model.safetensors").exists()
