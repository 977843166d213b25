"""The JSON schema: well formed, and it accepts and refuses what the loader does (checked with a small validator)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sftgo_cli.recipe.json_schema import recipe_json_schema
from sftgo_cli.recipe.schema import Recipe

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "then", "format", "defaultSnippets"}


def holds(schema: Any, value: Any, root: Any) -> bool:
    """Whether `value` satisfies `schema`, for the keywords our schema uses; an unknown keyword is an error."""
    if isinstance(schema, bool):
        return schema
    return all(_keyword(key, schema, value, root) for key in schema if key not in ANNOTATIONS)


def _keyword(key: str, schema: Any, value: Any, root: Any) -> bool:
    rule = schema[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match key:
        case "$ref":
            return holds(root["$defs"][rule.removeprefix("#/$defs/")], value, root)
        case "type":
            return any(_is(value, name) for name in ([rule] if isinstance(rule, str) else rule))
        case "anyOf":
            return any(holds(part, value, root) for part in rule)
        case "oneOf":
            return sum(holds(part, value, root) for part in rule) == 1
        case "not":
            return not holds(rule, value, root)
        case "if":
            return not holds(rule, value, root) or holds(schema["then"], value, root)
        case "enum":
            return value in rule
        case "const":
            return bool(value == rule)
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            bounds = {"minimum": rule, "maximum": -rule, "exclusiveMinimum": rule, "exclusiveMaximum": -rule}
            signed = value if "inimum" in key else -value if is_number else value
            return not is_number or (signed > bounds[key] if "exclusive" in key else signed >= bounds[key])
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "minLength" | "maxLength":
            return not isinstance(value, str) or (len(value) >= rule if key == "minLength" else len(value) <= rule)
        case "minItems":
            return not isinstance(value, list) or len(value) >= rule
        case "items":
            return not isinstance(value, list) or all(holds(rule, item, root) for item in value)
        case _:
            return not isinstance(value, dict) or _object_keyword(key, schema, value, root)


def _is(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _object_keyword(key: str, schema: Any, value: Any, root: Any) -> bool:
    rule = schema[key]
    match key:
        case "required":
            return all(name in value for name in rule)
        case "properties":
            return all(holds(part, value[name], root) for name, part in rule.items() if name in value)
        case "patternProperties":
            return all(
                holds(part, v, root)
                for pattern, part in rule.items()
                for n, v in value.items()
                if re.search(pattern, n)
            )
        case "propertyNames":
            return all(holds(rule, name, root) for name in value)
        case "additionalProperties":
            patterns = list(schema.get("patternProperties", {}))
            extra = [
                n for n in value if n not in schema.get("properties", {}) and not any(re.search(p, n) for p in patterns)
            ]
            return all(holds(rule, value[name], root) for name in extra)
    raise AssertionError(f"keyword {key!r} is not understood by this test")


def nodes(schema: Any) -> Iterator[Any]:
    yield schema
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in children:
        yield from nodes(child)


@pytest.fixture
def schema(methods: Any) -> Any:
    return recipe_json_schema(methods)


def test_it_is_plain_json_of_draft_2020_12_and_every_reference_resolves(schema: Any) -> None:
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    references = {node["$ref"] for node in nodes(schema) if isinstance(node, dict) and "$ref" in node}
    assert {ref.removeprefix("#/$defs/") for ref in references} <= set(schema["$defs"])
    assert "#/$defs/curation.s3ft.Judge" in references


def test_every_section_and_training_key_is_described(schema: Any) -> None:
    assert all(schema["properties"][section]["description"] for section in Recipe.model_fields)
    training = schema["$defs"]["TrainingSection"]["properties"]
    assert [key for key, shape in training.items() if not shape.get("description")] == []
    assert training["seed"]["default"] == 42


SHORT = {"model": "m", "data": "d", "training": {"output_dir": "r"}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "cross_entropy"},
        {"objective": {"mixing_weight": 0.2}},
        {"objective": {"name": "sft_go", "schedule": "linear"}},
        {"objective": {}},
        {"objective": None, "grouping": None},
        {"curation": [{"name": "s3ft", "judge": {"name": "tests"}}]},
        {"curation": []},
        {"data": {"train": ["a", {"path": "b", "weight": 2}], "eval": {"h": "x", "g": {"fraction": 0.1}}}},
        {"data": {"train": {"path": "b"}}},
        {"scoring": {"name": "reference", "layers": [1, 2]}},
        {"tuning": {"name": "lora", "target_modules": ["q"]}},
        {"training": {"output_dir": "r", "learning_rate": 1, "report_to": ["wandb"], "eval_strategy": "no"}},
    ],
)
def test_schema_and_loader_accept(schema: Any, load: Any, changes: dict[str, Any]) -> None:
    recipe = {**SHORT, **changes}
    assert holds(schema, recipe, schema)
    load(json.dumps(recipe))


@pytest.mark.parametrize(
    "changes",
    [
        {"modle": "x"},
        {"model": 3},
        {"model": {"dtype": "float32"}},
        {"data": {"packing": True}},
        {"data": {"train": []}},
        {"data": {"train": "a", "eval": {"../h": "x"}}},
        {"training": {}},
        {"training": {"output_dir": "r", "learning_rate": "x"}},
        {"training": {"output_dir": "r", "max_steps": True}},
        {"training": {"output_dir": "r", "sede": 1}},
        {"objective": "nope"},
        {"objective": {"name": "nope"}},
        {"objective": {"name": "cross_entropy", "mixing_weight": 0.5}},
        {"objective": {"mixing_weight": 1.5}},
        {"curation": [{"name": "s3ft"}]},
        {"grouping": {"important_fraction": 0}},
    ],
)
def test_schema_and_loader_refuse(schema: Any, load: Any, changes: dict[str, Any]) -> None:
    from sftgo_cli.errors import UserError

    recipe = {**SHORT, **changes}
    assert not holds(schema, recipe, schema)
    with pytest.raises(UserError):
        load(json.dumps(recipe))


def test_an_extending_recipe_may_give_only_a_part(schema: Any) -> None:
    assert holds(schema, {"extends": "a.yaml", "data": {"packing": False}, "objective": {"mixing_weight": 0.1}}, schema)
    assert not holds(schema, {"extends": "a.yaml", "data": {"pakcing": False}}, schema)
    assert not holds(schema, {}, schema)


def test_the_resolved_recipe_satisfies_the_schema(schema: Any, load: Any) -> None:
    assert holds(schema, load(json.dumps(SHORT)).resolved, schema)


@pytest.mark.parametrize(
    ("part", "fits"),
    [
        ("random", True),
        ({"name": "random", "seed": 3, "weight": 0.5}, True),
        ({"name": "combine", "scorers": ["tfidf", "random"], "weight": 2}, True),
        ("randm", False),
        ({"name": "random", "weight": 0}, False),
        ({"name": "random", "sed": 3}, False),
        ({"name": "rho1"}, False),
        ({"weight": 1.0}, False),
        ({"name": "combine", "scorers": ["tfidf"]}, False),
    ],
)
def test_methods_within_a_method(part: Any, fits: bool) -> None:
    from sftgo_cli import methods

    schema = recipe_json_schema(methods)
    references = {node["$ref"] for node in nodes(schema) if isinstance(node, dict) and "$ref" in node}
    assert references <= {f"#/$defs/{name}" for name in schema["$defs"]}
    recipe = {**SHORT, "scoring": {"name": "combine", "scorers": ["tfidf", part]}}
    assert holds(schema, recipe, schema) == fits
    assert not holds(schema, {**SHORT, "scoring": {"name": "random", "weight": 1.0}}, schema)


@pytest.mark.parametrize("kind", ["scoring", "objective", "tuning", "curation", "judge", "generator"])
def test_every_method_is_completed_also_those_that_need_options(kind: str) -> None:
    from sftgo_cli import methods

    schema = recipe_json_schema(methods)
    shape = schema["$defs"][kind]
    shape = shape.get("items", shape)
    names = list(methods.names(kind))
    assert shape["properties"]["name"]["enum"] == names
    required = {name: _required(methods.options_of(kind, name)) for name in names}
    assert [name for name in names if not required[name]] == shape["oneOf"][0]["enum"]
    snippets = {snippet["label"]: list(snippet["body"])[1:] for snippet in shape.get("defaultSnippets", [])}
    assert snippets == {name: keys for name, keys in required.items() if keys}


def _required(options: Any) -> list[str]:
    return [key for key, field in options.model_fields.items() if field.is_required()]


@pytest.mark.parametrize("key", ["optim", "lr_scheduler_type"])
def test_optimizers_and_schedules_are_completed(schema: Any, key: str) -> None:
    shapes = schema["$defs"]["TrainingSection"]["properties"][key]["anyOf"]
    names = next(shape["enum"] for shape in shapes if "enum" in shape)
    assert {"optim": "adamw_torch", "lr_scheduler_type": "cosine"}[key] in names
    assert len(names) >= 12
