"""The recipe's JSON schema (draft 2020-12), so that editors complete, explain and check recipes while one types.

It knows the short forms, `extends`, and each method's options by `name`. What an editor cannot know stays with
`sftgo validate`: contradictions, inherited values, and numbers taken as texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftgo_cli.recipe.options import JudgeChoice, MethodPart, NestedChoice, PartWeight
from sftgo_cli.recipe.schema import DEFAULT_METHODS, Recipe
from sftgo_cli.recipe.unknown_keys import MethodTables, nested_keys, part_keys

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT: Schema = {"type": "string", "minLength": 1}
REQUIRED = {"model": ["name_or_path"], "data": ["train"], "training": ["output_dir"]}
SECTIONS = {
    "model": "Which base model, or just its name",
    "data": "Training and evaluation rows, or just the path of the training rows",
    "curation": "Data stages from rows to rows, in order",
    "scoring": "How important each token is",
    "grouping": "How token scores become groups",
    "objective": "The loss of an optimizer step",
    "tuning": "Which parameters are trained",
    "training": "The Trainer's own options",
    "evaluation": "What `sftgo eval` measures",
}


def recipe_json_schema(methods: MethodTables) -> dict[str, Any]:
    """The schema of a recipe file."""
    schema = Recipe.model_json_schema(ref_template="#/$defs/{model}")
    defs: Schema = schema["$defs"]
    defs.pop("MethodChoice", None)
    defs.pop(JudgeChoice.__name__, None)
    judge = defs["AnswerCheck"]["properties"]
    judge["judge"] = _nested(judge["judge"], JudgeChoice, methods, defs)
    for section in ("ModelSection", "DataSection", "TrainingSection"):
        defs[section].pop("required", None)  # an extending recipe may give only a part; see `_complete`
    properties: Schema = schema["properties"]
    for kind in ("scoring", "objective", "tuning", "curation"):
        defs[kind] = _method(kind, methods, defs)
        properties[kind] = {"$ref": f"#/$defs/{kind}"}
    _allow_short_forms(properties, defs)
    for section, description in SECTIONS.items():
        properties[section]["description"] = description
    properties["extends"] = {**TEXT, "description": "Recipe to inherit from, relative to this file"}
    schema.pop("required", None)
    return {"$schema": DIALECT, **schema, "title": "sftgo recipe", **_complete()}


def _complete() -> Schema:
    """A recipe that extends nothing has every required key itself."""
    sections = {
        section: {"if": {"type": "object"}, "then": {"required": keys}} for section, keys in sorted(REQUIRED.items())
    }
    return {"if": {"not": {"required": ["extends"]}}, "then": {"required": list(REQUIRED), "properties": sections}}


def _allow_short_forms(properties: Schema, defs: Schema) -> None:
    source, eval_source = {"$ref": "#/$defs/TrainSource"}, {"$ref": "#/$defs/EvalSource"}
    properties["model"] = _any_of(TEXT, properties["model"])
    properties["data"] = _any_of(TEXT, properties["data"])
    entry = _any_of(TEXT, source)
    train = defs["DataSection"]["properties"]["train"]
    defs["DataSection"]["properties"]["train"] = {
        "description": train["description"],
        **_any_of(TEXT, source, {"type": "array", "minItems": 1, "items": entry}),
    }
    sets = defs["DataSection"]["properties"]["eval"]
    pattern = next(iter(sets.pop("patternProperties")))
    fraction = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    named = {pattern: _any_of(TEXT, fraction, eval_source)}
    sets.pop("type", None)
    by_name = {"type": ["object", "null"], "patternProperties": named, "additionalProperties": False}
    sets |= _any_of(TEXT, fraction, by_name)
    for section in ("grouping", "evaluation"):
        properties[section] = _any_of({"type": "null"}, properties[section])
    one = defs["curation"]
    defs["curation"] = {"type": ["array", "null"], "items": one, "default": []}


def _any_of(*shapes: Schema) -> Schema:
    return {"anyOf": list(shapes)}


def _method(kind: str, methods: MethodTables, defs: Schema) -> Schema:
    """A method by name, or name and options; without a name, options of the default or the inherited method."""
    names = list(methods.names(kind))
    variants = [_variant(kind, name, methods, defs) for name in names]
    defs |= _part(kind, names, variants)
    shapes: list[Schema] = [_bare(names, variants), *variants]
    if kind not in DEFAULT_METHODS:
        return {"oneOf": shapes, **_named(names, variants)} if names else {"not": {}}
    nameless = {"type": "object", "not": {"required": ["name"]}, "properties": _all_options(variants)}
    shapes += [{**nameless, "additionalProperties": False}, {"type": "null"}]
    return {"oneOf": shapes, "default": {"name": DEFAULT_METHODS[kind]}, **_named(names, variants)}


def _needs(variant: Schema) -> list[str]:
    """The options that must be given with a method."""
    return [key for key in variant["required"] if key != "name"]


def _bare(names: Sequence[str], variants: Sequence[Schema]) -> Schema:
    """The methods that a name alone says."""
    return {"enum": [name for name, variant in zip(names, variants, strict=True) if not _needs(variant)]}


def _named(names: Sequence[str], variants: Sequence[Schema]) -> Schema:
    """For editors: every name after `name:`, whatever options are still missing, and a snippet for what needs options."""
    snippets = [
        {"label": name, "body": {"name": name, **{key: f"${number}" for number, key in enumerate(_needs(variant), 1)}}}
        for name, variant in zip(names, variants, strict=True)
        if _needs(variant)
    ]
    return {"properties": {"name": {"enum": list(names)}}, **({"defaultSnippets": snippets} if snippets else {})}


def _variant(kind: str, name: str, methods: MethodTables, defs: Schema) -> Schema:
    options = methods.options_of(kind, name)
    assert options is not None, name
    schema = options.model_json_schema(ref_template=f"#/$defs/{kind}.{name}.{{model}}")
    parts, nested = part_keys(options), nested_keys(options)
    own = {MethodPart.__name__, *(choice.__name__ for choice in nested.values())} if parts or nested else set()
    for model, definition in schema.pop("$defs", {}).items():
        if model in own:
            continue
        defs[f"{kind}.{name}.{model}"] = definition
    for key in parts:
        schema["properties"][key]["items"] = {"$ref": f"#/$defs/{kind}.part"}
    for key, choice in nested.items():
        schema["properties"][key] = _nested(schema["properties"][key], choice, methods, defs)
    properties = {"name": {"const": name, "description": f"Which {kind} method"}, **schema.get("properties", {})}
    required = ["name", *schema.get("required", [])]
    return {**schema, "title": f"{kind}: {name}", "properties": properties, "required": required}


def _nested(shape: Schema, choice: type[NestedChoice], methods: MethodTables, defs: Schema) -> Schema:
    """A method of another kind among the options: its name, or its name and options."""
    if choice.section not in defs:
        defs[choice.section] = {}  # before its own options, which may hold such choices themselves, are described
        defs[choice.section] = _method(choice.section, methods, defs)
    reference: Schema = {"$ref": f"#/$defs/{choice.section}"}
    described: Schema = {key: value for key, value in shape.items() if key in ("description", "default")}
    return {**described, **(_any_of(reference, {"type": "null"}) if "anyOf" in shape else reference)}


def _part(kind: str, names: Sequence[str], variants: Sequence[Schema]) -> Schema:
    """A method among the options of another one: like a method of the section, and it may have a weight."""
    weight = PartWeight.model_json_schema()["properties"]
    weighted = [{**variant, "properties": {**variant["properties"], **weight}} for variant in variants]
    return {f"{kind}.part": {"oneOf": [_bare(names, variants), *weighted], **_named(names, variants)}}


def _all_options(variants: Sequence[Schema]) -> Schema:
    """Every option of every method of a kind; one that several methods have may look like any of theirs."""
    shapes: dict[str, list[Schema]] = {}
    for variant in variants:
        for key, shape in variant["properties"].items():
            if key != "name" and shape not in shapes.setdefault(key, []):
                shapes[key].append(shape)
    return {key: found[0] if len(found) == 1 else {"anyOf": found} for key, found in shapes.items()}
