"""Every recipe of recipes/objectives trains, for two steps, on the built-in model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sftgo_cli import methods
from sftgo_cli.cli.main import main

FOLDER = Path(__file__).parents[2] / "recipes" / "objectives"
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "base")
SHORT = [
    "training.max_steps=2",
    "training.per_device_train_batch_size=2",
    "training.gradient_accumulation_steps=2",
    "training.eval_strategy=no",
    "training.eval_on_start=false",
    "training.save_strategy=no",
    "training.logging_steps=1",
    "training.use_cpu=true",
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows with an uncertainty each."""
    path = tmp_path / "rows.jsonl"
    lines = [
        {"instruction": f"Name {n} colors.", "output": f"Red, blue and {n} more.", "uncertainty": n % 3}
        for n in range(20)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_trains(recipe: Path, rows: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(recipe), f"data.train={rows}", f"training.output_dir={run}", "data.eval={}", *SHORT]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)


def test_every_objective_has_a_recipe() -> None:
    text = "".join(path.read_text() for path in FOLDER.parent.rglob("*.yaml"))
    assert not [name for name in methods.names("objective") if f"name: {name}" not in text]
