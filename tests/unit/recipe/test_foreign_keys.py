"""Every configuration key of TRL, axolotl, LLaMA-Factory, ms-swift and the Trainer gets an answer: ours, or why not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sftgo_cli import methods
from sftgo_cli.recipe.foreign_keys import foreign_keys
from sftgo_cli.recipe.load import load_recipe
from sftgo_cli.recipe.schema import DEFAULT_METHODS, Recipe
from sftgo_cli.recipe.training_section import REFUSED_TRAINING_KEYS
from sftgo_cli.recipe.unknown_keys import _homes, models_in, unknown_key

LISTS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("foreign_key_lists.yaml").read_text())
SECTIONS = list(Recipe.model_fields)


@pytest.mark.parametrize("tool", [*LISTS, "trainer"])
def test_every_key_is_answered_exactly(tool: str) -> None:
    if tool == "trainer":
        from transformers import TrainingArguments

        keys = [field.name for field in dataclasses.fields(TrainingArguments)]
    else:
        keys = LISTS[tool].split()
    assert len(keys) > 50
    homes = _homes(methods)
    known = {*SECTIONS, *homes, *REFUSED_TRAINING_KEYS}
    guessed = [key for key in keys if key.lower() not in known and foreign_keys().answer(key.lower()) is None]
    assert guessed == []
    for key in keys:
        if key not in SECTIONS:
            _, fix = unknown_key((key,), SECTIONS, None, methods)
            assert fix
            assert not fix.startswith("choose from"), key


def is_key(path: str) -> bool:
    """Whether a dotted key exists in a recipe, methods' options included."""
    first, *rest = path.split(".")
    if first in DEFAULT_METHODS:
        named = [methods.options_of(first, name) for name in methods.names(first)]
        return rest == ["name"] or any(options and rest[0] in options.model_fields for options in named)
    models = models_in(Recipe.model_fields[first].annotation)
    for part in rest:
        if models and not part.isdigit():
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            if not fields:
                return part in ("heldout", "test")
            models = [model for field in fields for model in models_in(field.annotation)] or models
    return True


def test_what_the_table_names_exists_here() -> None:
    table = foreign_keys()
    answers = [answer for row in table.values.values() for answer in row.values() if isinstance(answer, dict)]
    settings = [item for answer in answers for item in answer.items()]
    for ours in {*table.same.values(), *(key for key, _ in settings)}:
        assert is_key(ours), ours


def test_no_key_has_two_answers() -> None:
    table = foreign_keys()
    tables: list[Any] = [table.same, table.instead, table.reasons]
    keys = [key for one in tables for key in one]
    assert len(keys) == len(set(keys))


def test_the_page_about_other_tools_names_keys_that_exist() -> None:
    page = (Path(__file__).parents[3] / "docs" / "coming-from.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    named = re.findall(
        r"\b((?:model|data|tuning|training|objective)\.[a-z_0-9.]+[a-z_])\b", " ".join(row[-1] for row in rows)
    )
    assert len(named) > 15
    assert [key for key in named if not is_key(key)] == []
    theirs = " ".join(cell for row in rows[2:] for cell in row[1:-1])
    keys = [key for key in re.findall(r"`([a-z_0-9]+)(?::[^`]*)?`", theirs) if "_" in key]
    known = {*_homes(methods), *REFUSED_TRAINING_KEYS, "resume_from_checkpoint"}
    assert [key for key in keys if key not in known and foreign_keys().answer(key) is None] == []


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("load_in_4bit: false", "remove it: with this value it asks for nothing here"),
        ("load_in_4bit: true", "did you mean model.quantization: nf4?"),
        ("finetuning_type: full", "did you mean tuning: full?"),
        ("finetuning_type: oft", "not here: all parameters (tuning: full) or LoRA (tuning: lora)"),
        ("use_dora: true", "did you mean tuning.use_dora?"),
        ("adapter: qlora", "did you mean tuning: lora and model.quantization: nf4?"),
        ("flash_attn: fa2", "did you mean model.attn_implementation: flash_attention_2?"),
        ("val_set_size: 0.05", "did you mean data.eval.heldout.fraction?"),
        ("val_set_size: 500", "not here: rows are held out by fraction"),
        ("rl: dpo", "not here: supervised fine-tuning only"),
        ("galore_rank: 8", "not here: not among the optimizers that work here"),
        ("datasets: [{path: x}]", "here it is data.train: a list of {path: ...}"),
        ("wandb_project: p", "did you mean training.report_to: wandb and training.project?"),
        ("fsdp_version: 2", "here it is -- --config_file configs/accelerate/fsdp2.yaml"),
        ("use_dft_loss: true", "did you mean objective: dft?"),
    ],
)
def test_the_answer_depends_on_the_value(tmp_path: Path, line: str, fix: str) -> None:
    from sftgo_cli.errors import UserError

    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: m\ndata: {{train: d}}\ntraining: {{output_dir: r}}\n{line}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(path, [], methods)
    assert fix in str(caught.value)


def test_a_key_of_another_section_is_sent_home_before_other_methods_options() -> None:
    fix = unknown_key(("scoring", "dtype"), ["name", "unit"], "tfidf", methods)[1]
    assert fix.startswith("did you mean model.dtype")
    assert "llmlingua2" not in fix
    fix = unknown_key(("scoring", "name_or_path"), ["name", "unit"], "tfidf", methods)[1]
    assert fix == "did you mean model.name_or_path?"
    assert unknown_key(("weight",), SECTIONS, None, methods)[1] == "did you mean data.train.0.weight?"
    assert unknown_key(("model", "fraction"), ["dtype"], None, methods)[1] == "did you mean data.eval.NAME.fraction?"
