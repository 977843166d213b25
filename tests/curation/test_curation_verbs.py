"""The built-in S3FT recipe through the verbs: curate, inspect, train, eval, beside its baseline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sftgo_cli.cli.main import main

RECIPE = Path(__file__).parents[2] / "recipes" / "s3ft" / "builtin.yaml"
FEW = ["data.train.0.max_samples=48", "data.eval.heldout.max_samples=8", "data.eval.retention.max_samples=8"]
SHORT = ["training.max_steps=3", "training.logging_steps=1", "training.save_strategy=no", "training.use_cpu=true"]


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory of its own; the session's cache keeps what was generated."""
    folder = tmp_path_factory.mktemp("s3ft")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def test_all_three_target_sources_occur(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(RECIPE), *FEW]) == 0
    out = capsys.readouterr().out
    shares = {
        name: int(count) for name, count in re.findall(r"^  (model|paraphrase|gold) .*? (\d+) +\d+\.\d%", out, re.M)
    }
    assert set(shares) == {"model", "paraphrase", "gold"}
    assert sum(shares.values()) == 48
    assert min(shares.values()) > 0
    assert "answers by builtin:tiny-instruct" in out
    assert "own answer rejected by numeric (got" in out


def test_inspect_shows_gold_and_target_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(RECIPE), *FEW, "--rows", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("gold  log p") == 2
    assert out.count(" tokens, ") >= 2 or "tokens" in out
    assert main(["inspect", str(RECIPE), *FEW, "--rows", "2", "--html", "page.html"]) == 0
    page = (here / "page.html").read_text()
    assert page.count("<h3>gold") == 2
    assert page.count("<h3>target: ") == 2
    assert main(["inspect", str(RECIPE), *FEW, "--set", "heldout", "--rows", "2"]) == 0
    assert "gold" not in capsys.readouterr().out


def test_it_trains_beside_its_baseline_and_both_are_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*FEW, *SHORT]
    assert main(["train", str(RECIPE), *arguments]) == 0
    assert main(["train", str(RECIPE.with_name("builtin_sft.yaml")), *arguments]) == 0
    capsys.readouterr()
    assert main(["compare", "runs/s3ft-builtin-sft", "runs/s3ft-builtin"]) == 0
    out = capsys.readouterr().out
    assert "heldout" in out
    assert "retention" in out
    runs = [
        json.loads((here / "runs" / name / "stages.json").read_text()) for name in ("s3ft-builtin-sft", "s3ft-builtin")
    ]
    assert runs[0]["stages"]["training data"] != runs[1]["stages"]["training data"]
    first = [
        json.loads((here / "runs" / name / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("s3ft-builtin-sft", "s3ft-builtin")
    ]
    keys = [key for key in first[0] if key.startswith("eval_") and "group" not in key]
    assert {key: first[0][key] for key in keys} == {key: first[1][key] for key in keys}, "the same rows are measured"
    assert main(["eval", "runs/s3ft-builtin"]) == 0


@pytest.mark.slow
def test_rank_processes_find_the_curated_rows(here: Path) -> None:
    assert main(["train", str(RECIPE), *FEW, *SHORT, "-n", "2", "training.output_dir=runs/two"]) == 0
    lines = (here / "runs" / "two" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 3
