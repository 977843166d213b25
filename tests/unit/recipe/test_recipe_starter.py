"""The recipe that `sftgo init` writes, and the shipped ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.recipe import starter
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.starter import shipped_recipes, starter_recipe
from sftgo_cli.recipe.training_section import TrainingSection


def test_the_starter_loads_as_it_stands(load: Any, methods: Any) -> None:
    loaded = load(starter_recipe(methods, model="org/m", train="my rows.jsonl", output_dir="runs/1e-5"))
    recipe = loaded.recipe
    assert recipe.model.name_or_path == "org/m"
    assert recipe.data.train[0].path == "my rows.jsonl"
    assert recipe.data.eval["heldout"].fraction == 0.05
    assert recipe.training.output_dir == "runs/1e-5"
    builtin = load(starter_recipe(methods)).recipe
    assert builtin.data.train[0].path == builtin.data.eval["heldout"].path == "builtin:instructions"
    assert builtin.data.eval["heldout"].split == "heldout"


@pytest.mark.parametrize(
    "text", ["1e-5", "no", "a: b", "# x", "*x", "quote'\"", "-", "~/data", "C:\\x", "é", "{x}", "007"]
)
def test_any_text_survives_in_the_starter(load: Any, methods: Any, text: str) -> None:
    assert load(starter_recipe(methods, train=text)).recipe.data.train[0].path == text


def test_every_section_and_every_training_key_is_explained(methods: Any) -> None:
    text = starter_recipe(methods)
    for section in Recipe.model_fields:
        assert re.search(rf"^# .+\.\n{section}:", text, re.M), section
    training = text[text.index("\ntraining:") : text.index("\nevaluation:")]
    for key in TrainingSection.model_fields:
        assert re.search(rf"^  (# )?{key}: \S.*  # \w.+", training, re.M), key


def test_commented_out_lines_are_the_defaults(load: Any, methods: Any) -> None:
    text = starter_recipe(methods)
    uncommented = re.sub(r"^( +)# (?=\w+: )", r"\1", text, flags=re.M)
    assert uncommented.count("\n") == text.count("\n")
    assert uncommented != text
    assert load(uncommented).resolved == load(text).resolved


def test_shipped_recipes_are_found_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "sftgo_cli" / "recipe" / "starter.py"
    (tmp_path / "recipes" / "sft_go").mkdir(parents=True)
    (tmp_path / "recipes" / "sft_go" / "alpaca.yaml").write_text("")
    (tmp_path / "recipes" / "quickstart.yaml").write_text("")
    monkeypatch.setattr(starter, "__file__", str(source))
    assert shipped_recipes() == {}
    (tmp_path / "pyproject.toml").write_text("")
    assert shipped_recipes() == {
        "quickstart": tmp_path / "recipes" / "quickstart.yaml",
        "sft_go/alpaca": tmp_path / "recipes" / "sft_go" / "alpaca.yaml",
    }


def test_the_built_in_start_trains_something_worth_seeing_and_a_users_model_carefully(methods: Any, load: Any) -> None:
    """1,500 rows of about 40 tokens in bins of 256, four to a step: some 300 steps of a small model."""
    small = load(starter_recipe(methods)).recipe
    assert small.tuning.name == "full"
    assert small.model.dtype == "float32"
    steps = 1_500 * 40 / small.data.max_length / small.training.per_device_train_batch_size
    steps *= small.training.num_train_epochs / small.training.gradient_accumulation_steps
    assert 200 < steps < 500
    assert small.training.eval_on_start
    own = load(starter_recipe(methods, model="org/m", train="rows.jsonl")).recipe
    assert own.tuning.name == "lora"
    assert own.model.dtype == "bfloat16"
    assert own.training.learning_rate == 1e-4
