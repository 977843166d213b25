"""`train --dry-run`: steps, parameters and memory, counted by hand for the built-in model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sftgo_cli import pipeline


@pytest.mark.parametrize(("tuning", "share"), [("full", 1.0), ("lora", None)])
def test_steps_parameters_and_memory(tmp_path: Path, tuning: str, share: float | None) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {name_or_path: builtin:tiny, dtype: float32}\n"
        "data: {train: [{path: builtin:instructions, max_samples: 30}], packing: false, max_length: 128}\n"
        f"tuning: {{name: {tuning}}}\n"
        "training: {output_dir: run, num_train_epochs: 2, per_device_train_batch_size: 4, gradient_accumulation_steps: 2}\n"
    )
    loaded = pipeline.load(path, [])
    data = pipeline.prepare(loaded, lambda line: None)
    steps, parameters, memory = pipeline.estimate(loaded, data, num_processes=2, say=print)
    # 30 rows, 4 x 2 x 2 = 16 a step: 2 steps an epoch, the second short
    assert steps == "steps: 4 (2 per epoch of 30 rows, 16 rows per step on 2 processes)"
    total, trainable = (int(number.replace(",", "")) for number in re.findall(r"[\d,]{4,}", parameters))
    from safetensors import safe_open

    from sftgo_cli.builtin import model_folder

    with safe_open(model_folder("tiny") / "model.safetensors", framework="pt") as file:
        own = sum(int(file.get_tensor(name).numel()) for name in file.keys())  # noqa: SIM118
    assert trainable == total == own if share else own + trainable == total
    assert f"weights {total * 4 / 1024**2:.1f} MiB" in memory
