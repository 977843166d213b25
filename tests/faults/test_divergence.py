"""NaN or infinity in loss, gradient or weights: exit 4 naming the step, nothing non-finite published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sftgo_cli.cli.main import main


def all_finite(run: Path) -> bool:
    """Whether every tensor and number below a run is finite."""
    for path in run.rglob("*.safetensors"):
        if not all(bool(torch.isfinite(tensor).all()) for tensor in load_file(path).values()):
            return False
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return not any(
        value in (float("inf"), float("-inf")) or value != value for line in lines for value in line.values()
    )


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_learning_rate_that_blows_up(
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    clip: float,
) -> None:
    """The first update has a rate of 0, the second makes weights of 1e30, the third meets a gradient that is not finite."""
    monkeypatch.chdir(tmp_path)
    blown_up = ["training.learning_rate=1e30", "training.warmup_steps=1", "training.warmup_ratio=null"]
    assert main(["train", recipe, *blown_up, f"training.max_grad_norm={clip}"]) == 4
    assert "the gradient norm became nan; the step was not applied - step 3, rows row:" in capfd.readouterr().err
    assert not list((tmp_path / "run").glob("model.safetensors"))
    assert all_finite(tmp_path / "run")


def test_an_update_that_overflows_is_not_saved(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loss and gradient were finite, the weights no longer are, and no later step would notice."""
    monkeypatch.chdir(tmp_path)
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: object, **kwargs: object) -> object:
        result = original(self, *args, **kwargs)  # type: ignore[arg-type]
        with torch.no_grad():
            self.param_groups[0]["params"][0].view(-1)[0] = float("inf")
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert main(["train", recipe, "training.max_steps=1", "training.eval_strategy=no"]) == 4
    assert "the weights became infinite or NaN" in capfd.readouterr().err
    assert all_finite(tmp_path / "run")
    assert list((tmp_path / "run").rglob("*.safetensors")) == []


def test_base_weights_that_are_not_finite(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The rows of the first step are named with their groups; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy, tmp_path / "toy")
    path = tmp_path / "toy/model/model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"][3, 3] = float("inf")
    save_file(tensors, path, metadata={"format": "pt"})
    assert main(["train", str(tmp_path / "toy/recipe.yaml")]) == 4
    text = capfd.readouterr().err
    assert "step 1" in text
    assert "step 1, rows row:" in text
    assert "groups 0, 1" in text
    assert main(["train", str(tmp_path / "toy/recipe.yaml"), "training.eval_on_start=true"]) == 4
    assert "the loss of the evaluation set 'heldout' became nan - step 0" in capfd.readouterr().err
    assert all_finite(tmp_path / "run")
