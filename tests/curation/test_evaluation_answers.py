"""`sftgo eval` has the questions of a set answered and judged: the base model's, a run's, held out by fraction too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftgo_cli.builtin import data_rows
from sftgo_cli.cli.main import main

RECIPE = """
model: {{name_or_path: "builtin:tiny-instruct", dtype: float32}}
data:
  train: {{path: "builtin:arithmetic", max_samples: 40}}
  eval: {{heldout: {heldout}}}
  max_length: 128
objective: cross_entropy
tuning: full
training: {{output_dir: runs/answers, max_steps: 2, use_cpu: true, save_strategy: "no", eval_strategy: "no"}}
evaluation: {{answers: {{heldout: {{judge: {{name: numeric, answer_column: answer}}, max_new_tokens: 32}}}}}}
"""


def write(folder: Path, heldout: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(heldout=heldout))
    return str(path)


def test_base_and_run_are_asked_the_same_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, '{path: "builtin:arithmetic", split: heldout, max_samples: 24}')
    assert main(["eval", recipe, "--base", "--json"]) == 0
    base = json.loads(capsys.readouterr().out)["heldout"]
    assert base["num_answers"] == 24
    assert 0.2 < base["answer_accuracy"] < 0.95
    assert main(["train", recipe]) == 0
    assert main(["eval", "runs/answers"]) == 0
    assert "answers right" in capsys.readouterr().out
    lines = [
        json.loads(line) for line in Path("runs/answers/evaluation/heldout.answers.jsonl").read_text().splitlines()
    ]
    result = json.loads(Path("runs/answers/evaluation/heldout.json").read_text())
    expected = data_rows("arithmetic", "heldout")[:24]
    assert [line["prompt"] for line in lines] == [row["prompt"] for row in expected]
    right = [
        line["answer"].rstrip(". ").split(" ")[-1] == row["answer"] for line, row in zip(lines, expected, strict=True)
    ]
    assert [line["accepted"] for line in lines] == right
    assert result["answer_accuracy"] == sum(right) / 24
    assert result["num_answers_cut"] == 0


def test_rows_held_out_by_fraction_are_the_ones_that_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, "{fraction: 0.2}")
    assert main(["eval", recipe, "--base", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["heldout"]["num_answers"] == 8


def test_what_is_wrong_is_said_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, "{fraction: 0.2}")
    assert main(["eval", recipe, "evaluation.answers.heldout.judge=numerc"]) == 2
    assert "did you mean numeric?" in capsys.readouterr().err
    assert main(["eval", recipe, "evaluation.answers={heldot: {judge: numeric}}"]) == 2
    assert "did you mean heldout?" in capsys.readouterr().err
    assert main(["eval", recipe, "--base", "evaluation.answers.heldout.judge.answer_column=anser"]) == 2
    assert "anser" in capsys.readouterr().err
