"""The recipes for popular models: each validates, with its own settings, against a tiny model of its architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import pipeline
from sftgo_cli.cli.main import main
from tests.integration.lookalikes import LOOKALIKES, write_lookalike

FOLDER = Path(__file__).parents[2] / "recipes" / "models"
LIKES = [(name, id(like)) for name, like in LOOKALIKES.items()]
TALKS = [
    [
        ("user", f"What is {n} plus {n}?"),
        ("assistant", f"It is {2 * n}."),
        ("user", "Thanks!"),
        ("assistant", f"Bye {n}."),
    ]
    for n in range(24)
]


def test_every_popular_family_has_a_recipe_and_a_lookalike() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(LOOKALIKES)
    families = {"llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "qwen3-4b", "qwen2.5-7b", "mistral-7b", "gemma-3-1b"}
    families |= {"phi-4-mini", "gpt-oss-20b", "smollm3-3b", "olmo-2-7b", "deepseek-r1-distill-7b"}
    assert families <= set(LOOKALIKES)


@pytest.mark.parametrize("name", LOOKALIKES)
def test_the_recipe_says_what_to_change(name: str) -> None:
    loaded = pipeline.load(FOLDER / f"{name}.yaml", [])
    assert loaded.recipe.training.output_dir == f"runs/{name}"
    assert f"sftgo train recipes/models/{name}.yaml" in loaded.text
    assert loaded.recipe.model.revision is None
    assert max(map(len, loaded.text.splitlines())) <= 120


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talks") / "talks.jsonl"
    rows = [{"messages": [{"role": role, "content": text} for role, text in talk]} for talk in TALKS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# One of each kind: recipes of one architecture differ in the model's name only.
KINDS = list({like: name for name, like in reversed(LIKES)}.values())


@pytest.mark.parametrize("name", LOOKALIKES)
def test_recipes_of_one_kind_differ_in_the_model_alone(name: str) -> None:
    kind = next(kind for kind in KINDS if LOOKALIKES[kind] is LOOKALIKES[name])
    one, other = (pipeline.load(FOLDER / f"{stem}.yaml", []).resolved for stem in (kind, name))
    assert {**one["model"], "name_or_path": ""} == {**other["model"], "name_or_path": ""}
    assert {**one["training"], "output_dir": ""} == {**other["training"], "output_dir": ""}
    assert (one["data"], one["tuning"], one["objective"]) == (other["data"], other["tuning"], other["objective"])


@pytest.mark.parametrize("name", KINDS)
def test_the_recipe_validates_on_a_model_of_its_kind(name: str, talks: Path, tmp_path: Path, capsys: Any) -> None:
    model = write_lookalike(LOOKALIKES[name], tmp_path / "model")
    capsys.readouterr()
    overrides = [f"model.name_or_path={model}", f"data.train=[{{path: '{talks}'}}]", "training.use_cpu=true"]
    code = main(
        ["validate", str(FOLDER / f"{name}.yaml"), *overrides, "training.output_dir=" + str(tmp_path / "run"), "--json"]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    found = json.loads(out)
    assert found["num_rows"] + found["evaluation_rows"]["heldout"] == len(TALKS)
    supervised = sum(source["supervised_tokens"] for source in found["sources"])
    answers = sum(len(text) for talk in TALKS for role, text in talk if role == "assistant")
    # A byte is a token: all of both answers and their ends of turn are trained, with what a template writes around them
    # (an empty think block, a channel), and none of the questions.
    assert answers + 2 * len(TALKS) <= supervised <= answers + 24 * len(TALKS)
