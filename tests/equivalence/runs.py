"""Small real trainings through the command line, and comparing what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sftgo_cli.cli.main import main

RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data:
  train: {path: "builtin:instructions", max_samples: 37}
  eval: {heldout: {path: "builtin:instructions", split: heldout, max_samples: 12}}
  max_length: 128
  packing: false
tuning: full
training: {output_dir: runs/x, max_steps: 20, learning_rate: 1.0e-3, per_device_train_batch_size: 8, logging_steps: 1,
           eval_strategy: "no", save_strategy: "no", use_cpu: true}
"""


def run(folder: Path, name: str, *overrides: str, processes: int = 1) -> Path:
    """Train RECIPE with overrides in `folder`; returns the run's folder."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    output = folder / "runs" / name
    arguments = ["train", str(recipe), f"training.output_dir={output}", *overrides]
    if processes == 1:
        assert main(arguments) == 0
    else:
        command = [sys.executable, "-m", "sftgo_cli", *arguments, "-n", str(processes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ}, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return output


def metrics(output: Path, event: str = "train") -> list[dict[str, Any]]:
    """The metrics of one kind, in order."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def losses(output: Path) -> torch.Tensor:
    """The loss of every step."""
    return torch.tensor([line["loss"] for line in metrics(output)], dtype=torch.float64)


def weights(output: Path) -> dict[str, torch.Tensor]:
    """The final model's tensors."""
    name = "adapter_model" if (output / "adapter_model.safetensors").is_file() else "model"
    return load_file(output / f"{name}.safetensors")


def largest_relative_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """max over tensors of ||a - b|| / ||a||."""
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).norm() / one[k].double().norm()) for k in one)
