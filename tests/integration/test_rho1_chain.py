"""recipes/rho1/builtin*.yaml chain: the reference's run is found through its recipe and its losses become columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sftgo_cli import builtin, pipeline
from sftgo_cli.cli.main import main

FOLDER = Path(__file__).parents[2] / "recipes" / "rho1"
REFERENCE, TRAIN = str(FOLDER / "builtin_reference.yaml"), str(FOLDER / "builtin.yaml")
FEW = ["data.train.0.max_samples=12", "data.eval.heldout.max_samples=4"]


def direct_nll(model: Any, row: dict[str, Any]) -> np.ndarray:
    ids = torch.tensor(row["input_ids"], dtype=torch.int64)
    with torch.no_grad():
        log_p = model.eval()(input_ids=ids[None]).logits[0].double().log_softmax(-1)
    places = [place for place, label in enumerate(row["labels"]) if label != -100]
    return np.array([-float(log_p[place - 1, ids[place]]) for place in places])


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_scores_are_those_of_the_references_run(
    tuning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # output_dir is relative to the working directory
    assert main(["score", TRAIN, *FEW]) == 2
    assert "has no finished run" in capsys.readouterr().err
    lora = ["tuning=lora", "tuning.r=4", "training.learning_rate=0.05"] if tuning == "lora" else []
    assert main(["train", REFERENCE, "data.train.0.max_samples=24", "training.max_steps=3", *lora]) == 0
    data = pipeline.prepare(pipeline.load(Path(TRAIN), FEW), lambda line: None)
    run = tmp_path / "runs" / "rho1-builtin-reference"
    base = AutoModelForCausalLM.from_pretrained(builtin.model_folder("tiny"))
    if tuning == "lora":
        from peft import PeftModel

        again = AutoModelForCausalLM.from_pretrained(builtin.model_folder("tiny"))
        reference: Any = PeftModel.from_pretrained(again, str(run)).merge_and_unload()
    else:
        reference = AutoModelForCausalLM.from_pretrained(run)
    moved = 0.0
    for rows in (data.train, data.evaluation["heldout"]):
        for row in rows.datasets[0]:
            got = {
                name: np.array([value for value in row[name] if not np.isnan(value)])
                for name in ("token_scores", "base_nll", "reference_nll")
            }
            expected = direct_nll(base, row), direct_nll(reference, row)
            np.testing.assert_allclose(got["base_nll"], expected[0], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(got["reference_nll"], expected[1], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(got["token_scores"], expected[0] - expected[1], rtol=1e-5, atol=3e-5)
            moved = max(moved, float(np.abs(got["token_scores"]).max()))
    assert moved > 0.1  # the reference is another model than the base


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft_go", "selected", "rho1"])
def test_the_shipped_chain(objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", REFERENCE]) == 0
    options = [] if objective == "sft_go" else [f"objective={objective}"]
    assert main(["train", TRAIN, *options]) == 0
    assert main(["eval", "runs/rho1-builtin"]) == 0  # from the run's own recipe, which finds the reference again
    assert sorted(path.name for path in Path("runs").iterdir()) == ["rho1-builtin", "rho1-builtin-reference"]
