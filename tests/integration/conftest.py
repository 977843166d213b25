"""Two small trained runs (full with SFT-GO, LoRA with cross-entropy) that the verbs' tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftgo_cli.cli.main import main

RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data:
  train: {path: "builtin:instructions", max_samples: 48}
  eval: {heldout: {path: "builtin:instructions", split: heldout, max_samples: 16}}
  max_length: 128
tuning: full
training: {output_dir: unused, max_steps: 6, learning_rate: 1.0e-3, per_device_train_batch_size: 2, logging_steps: 2,
           eval_on_start: true, use_cpu: true}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's file."""
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def runs(recipe: Path) -> dict[str, Path]:
    """Finished runs by name."""
    folders = {"full": recipe.parent / "full", "lora": recipe.parent / "lora"}
    lora = ["tuning=lora", "tuning.r=4", "objective=cross_entropy", "data.packing=false"]
    assert main(["train", str(recipe), f"training.output_dir={folders['full']}"]) == 0
    assert main(["train", str(recipe), f"training.output_dir={folders['lora']}", *lora]) == 0
    return folders
