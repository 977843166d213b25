"""A method of another kind among a method's options: validated by its own options, at its own place."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.json_schema import recipe_json_schema
from sftgo_cli.recipe.load import LoadedRecipe, load_recipe
from sftgo_cli.recipe.options import GeneratorChoice, JudgeChoice, MethodOptions
from tests.unit.recipe.conftest import CrossEntropy, Lora, SftGo, Tables, Tfidf


class Numeric(MethodOptions):
    tolerance: float = Field(0.0, ge=0.0)


class Asked(MethodOptions):
    generator: GeneratorChoice | None = None
    prompt: str = "default"


class Model(MethodOptions):
    model: str | None = None
    temperature: float = 0.0


class Chosen(MethodOptions):
    judge: JudgeChoice
    generator: GeneratorChoice | None = None


METHODS = Tables(
    {
        "scoring": {"tfidf": Tfidf},
        "objective": {"sft_go": SftGo, "cross_entropy": CrossEntropy},
        "tuning": {"lora": Lora},
        "curation": {"chosen": Chosen},
        "judge": {"numeric": Numeric, "asked": Asked},
        "generator": {"model": Model},
    }
)


def load(folder: Path, curation: str, *overrides: str) -> LoadedRecipe:
    path = folder / "recipe.yaml"
    path.write_text(f"model: m\ndata: d\ntraining: {{output_dir: r}}\ncuration: {curation}\n")
    return load_recipe(path, list(overrides), METHODS)


def test_options_are_the_method_s_own(tmp_path: Path) -> None:
    text = "[{name: chosen, judge: {name: numeric, tolerance: 0.5}, generator: {name: model, temperature: 0.7}}]"
    options = load(tmp_path, text).recipe.curation[0].options
    assert options.judge == JudgeChoice(name="numeric", options=Numeric(tolerance=0.5))
    assert options.generator == GeneratorChoice(name="model", options=Model(temperature=0.7))


def test_a_name_alone_and_a_choice_within_a_choice(tmp_path: Path) -> None:
    options = load(tmp_path, "[{name: chosen, judge: numeric}]").recipe.curation[0].options
    assert options.judge.options == Numeric()
    assert options.generator is None
    text = "[{name: chosen, judge: {name: asked, generator: {name: model, temperature: 0.3}}}]"
    judge = load(tmp_path, text).recipe.curation[0].options.judge
    assert judge.options.generator.options.temperature == 0.3


def test_the_resolved_recipe_loads_again_to_the_same(tmp_path: Path) -> None:
    from sftgo_cli.recipe.dump import to_yaml

    text = "[{name: chosen, judge: {name: asked, generator: {name: model}}, generator: null}]"
    loaded = load(tmp_path, text)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(loaded.resolved))
    assert load_recipe(again, [], METHODS).recipe == loaded.recipe


WRONG = {
    "[{name: chosen}]": "curation.0.judge is missing",
    "[{name: chosen, judge: numerc}]": "did you mean numeric?",
    "[{name: chosen, judge: {name: numeric, tolerence: 1}}]": "did you mean tolerance?",
    "[{name: chosen, judge: {name: numeric, tolerance: -1}}]": "curation.0.judge.tolerance",
    "[{name: chosen, judge: {tolerance: 1}}]": "curation.0.judge.name is missing",
    "[{name: chosen, judge: 3}]": "curation.0.judge: expected a method's name",
    "[{name: chosen, judge: {name: asked, generator: {name: modl}}}]": "did you mean model?",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert WRONG[text] in str(caught.value)
    assert "recipe.yaml:4:" in str(caught.value)


def test_an_override_reaches_the_inner_options(tmp_path: Path) -> None:
    text = "[{name: chosen, judge: {name: numeric, tolerance: 0.5}}]"
    override = "curation.0.judge.tolerance=0.25"
    assert load(tmp_path, text, override).recipe.curation[0].options.judge.options.tolerance == 0.25
    changed = load(tmp_path, text, "curation.0.judge.name=asked").recipe.curation[0].options.judge
    assert changed.options == Asked(), "the options of the other method are dropped"


def test_the_json_schema_knows_the_inner_methods() -> None:
    schema = recipe_json_schema(METHODS)
    chosen = next(shape for shape in schema["$defs"]["curation"]["items"]["oneOf"] if "properties" in shape)
    assert chosen["properties"]["judge"]["$ref"] == "#/$defs/judge"
    assert {"$ref": "#/$defs/generator"} in chosen["properties"]["generator"]["anyOf"]
    names = [
        shape["properties"]["name"]["const"] for shape in schema["$defs"]["judge"]["oneOf"] if "properties" in shape
    ]
    assert names == ["numeric", "asked"]
    assert "JudgeChoice" not in str(schema)
