"""Every YAML in recipes/ and configs/ loads; the shipped recipes say what the paper says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sftgo_cli import pipeline
from sftgo_cli.recipe.starter import shipped_recipes
from sftgo_cli.training.launch import expected_of_flags

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
CONFIGS = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipe_loads_and_says_nothing_about_processes(path: Path) -> None:
    loaded = pipeline.load(path, [])
    assert loaded.recipe.training.output_dir.startswith("runs/")
    assert "num_processes" not in loaded.text


def test_sft_go_recipes_follow_the_paper() -> None:
    recipes = {path.stem: pipeline.load(path, []).recipe for path in (ROOT / "recipes" / "sft_go").glob("*.yaml")}
    assert recipes["tfidf"].objective.options.mixing_weight == 0.9
    assert recipes["tfidf"].model.name_or_path == "meta-llama/Llama-3.2-3B"
    assert recipes["sft"].objective.name == "cross_entropy"
    assert recipes["inverted"].grouping.invert
    assert recipes["decay"].objective.options.schedule == "linear"
    assert recipes["lora"].tuning.name == "lora"
    # The controls differ from the method in nothing but how tokens are grouped.
    for control in ("random", "inverted"):
        assert recipes[control].data == recipes["tfidf"].data
        assert recipes[control].objective == recipes["tfidf"].objective


def test_every_shipped_recipe_can_be_copied_by_init() -> None:
    assert set(shipped_recipes().values()) >= set(RECIPES)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_configuration_is_parsed_by_accelerate(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert str(config.distributed_type.value) == described["distributed_type"]
    expected = expected_of_flags(["--config_file", str(path)])
    assert expected == {"world_size": described.get("num_processes"), "wrapper": described["distributed_type"]}


def test_the_five_configurations_are_there() -> None:
    assert {path.stem for path in CONFIGS} >= {"cpu", "single_gpu", "ddp", "fsdp2", "deepspeed_zero3"}
