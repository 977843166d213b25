"""Configurations of other tools become recipes that load and say the same; every key is converted or named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sftgo_cli import methods
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.conversion import DEFAULTS, converted
from sftgo_cli.recipe.foreign_tools import TOOLS, other_tool
from sftgo_cli.recipe.load import load_recipe

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("foreign_configs.yaml").read_text())


def value_at(resolved: Any, key: str) -> Any:
    for part in key.split("."):
        resolved = resolved[int(part)] if isinstance(resolved, list) else resolved[part]
    return resolved


def loaded(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, [], methods).resolved


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['tool']}-{len(case['config'])}")
def test_a_configuration_becomes_a_recipe(tmp_path: Path, case: dict[str, Any]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(case["config"]))
    text, tool, left_out = converted(config, methods)
    assert tool == TOOLS[case["tool"]]
    assert not [line for line in left_out if "not known here" in line]
    resolved = loaded(tmp_path, text)
    assert {key: value_at(resolved, key) for key in case["expect"]} == case["expect"]
    for key in case["left_out"]:
        assert any(line.startswith(f"{key}:") for line in left_out) or key == "enable_liger_kernel", key
    assert all(f"#   {line}" in text for line in left_out)


def test_there_are_fifteen_of_all_four_tools() -> None:
    assert len(CASES) >= 15
    assert {case["tool"] for case in CASES} == set(TOOLS)
    assert all(len([case for case in CASES if case["tool"] == tool]) >= 3 for tool in TOOLS)


def test_json_is_read_and_the_tools_defaults_are_written_out(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_name_or_path": "m", "dataset_name": "d", "output_dir": "o"}))
    resolved = loaded(tmp_path, converted(config, methods)[0])
    assert {key: value_at(resolved, key) for key in DEFAULTS["trl"]} == DEFAULTS["trl"]
    assert resolved["training"]["output_dir"] == "o"


def test_registered_data_sets_are_looked_up(tmp_path: Path) -> None:
    info = {
        "local": {"file_name": "l.json", "columns": {"prompt": "q", "response": "a"}},
        "hub": {"hf_hub_url": "o/d", "formatting": "sharegpt", "columns": {"messages": "talk"}, "split": "test"},
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    config = tmp_path / "config.yaml"
    config.write_text("{model_name_or_path: m, stage: sft, dataset: 'local, hub', template: llama3, output_dir: o}")
    train = loaded(tmp_path, converted(config, methods)[0])["data"]["train"]
    assert train[0]["path"] == "data/l.json"
    assert train[0]["columns"] == {"instruction": "q", "output": "a"}
    assert (train[1]["path"], train[1]["format"], train[1]["split"]) == ("o/d", "sharegpt", "test")
    assert train[1]["columns"] == {"conversations": "talk"}


@pytest.mark.parametrize("text", ["{}", "{a: 1}", "[1]", "", "a: [", "{lr: 1}"])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    with pytest.raises(UserError) as caught:
        converted(config, methods)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['tool']}-{len(case['config'])}")
def test_a_configuration_given_as_a_recipe_is_sent_to_the_conversion(tmp_path: Path, case: dict[str, Any]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(case["config"]))
    with pytest.raises(UserError) as caught:
        load_recipe(config, [], methods)
    if other_tool(case["config"]) is not None:
        assert str(caught.value).count("\n") == 0
        assert f"sftgo init recipe.yaml --from-config {config}" in str(caught.value)


def test_most_configurations_are_recognized_and_no_recipe_is() -> None:
    assert [other_tool(case["config"]) for case in CASES].count(None) <= 2
    recipe = {"model": "m", "data": {"train": "d"}, "training": {}, "template": 1, "stage": 2, "cutoff_len": 3}
    assert other_tool(recipe) is None
