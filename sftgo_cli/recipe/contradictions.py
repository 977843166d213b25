"""Values that are fine alone and wrong together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from sftgo_cli.errors import nearest
from sftgo_cli.recipe.data_section import EvalSource
from sftgo_cli.recipe.field_types import MAX_GROUPS
from sftgo_cli.recipe.finding import Finding
from sftgo_cli.recipe.node import KeyPath, dotted
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.training_findings import training_findings

BY_SCORE = ("boundaries", "quantiles", "thresholds", "important_fraction")
AS_GIVEN = ("column", "roles", "segments")  # the rows themselves say which group a token has
ROW_KEYS = ("name", "split", "revision", "format", "columns", "chat_template")


def contradictions(recipe: Recipe) -> list[Finding]:
    """Every contradiction of a recipe whose single values are valid."""
    return [
        *_grouping(recipe),
        *_eval_sources(recipe.data.eval),
        *_tasks(recipe),
        *_own_templates(recipe),
        *_chosen_sets(recipe),
        *training_findings(recipe),
    ]


def _grouping(recipe: Recipe) -> Iterator[Finding]:
    grouping = recipe.grouping
    chosen = [key for key in (*AS_GIVEN, *BY_SCORE) if getattr(grouping, key) is not None]
    for key in chosen[1:]:
        what = f"grouping.{key} and grouping.{chosen[0]} exclude each other"
        yield Finding(what, (("grouping", key), ("grouping", chosen[0])), "keep one of them")
    for key in ("boundaries", "quantiles", "thresholds"):
        yield from _cuts(key, getattr(grouping, key))
    yield from _roles(recipe)
    given = next((key for key in chosen if key in AS_GIVEN), None)
    ignored = {"special_tokens": grouping.special_tokens != "important", "invert": grouping.invert}
    for key in (key for key, is_set in ignored.items() if is_set and given):
        what = f"grouping.{given} gives every token its group, so grouping.{key} has no effect"
        yield Finding(what, (("grouping", key), ("grouping", str(given))), f"remove {key}")


def _cuts(key: str, cuts: list[float] | None) -> Iterator[Finding]:
    if cuts is None:
        return
    path, noun = ("grouping", key), "score" if key == "thresholds" else "fraction"
    if not cuts:
        yield Finding(f"grouping.{key} is empty", (path,), f"give at least one {noun}, or important_fraction")
    if any(low >= high for low, high in pairwise(cuts)):
        yield Finding(f"grouping.{key} must increase strictly", (path,), f"for example {sorted(set(cuts))}")
    if len(cuts) >= MAX_GROUPS:
        yield Finding(f"grouping.{key} makes more than {MAX_GROUPS} groups", (path,), f"give fewer {noun}s")


def _roles(recipe: Recipe) -> Iterator[Finding]:
    """Lists without a role, roles in two groups, and groups of which no token is ever trained."""
    roles, train_on = recipe.grouping.roles, recipe.data.train_on
    if roles is None:
        return
    path: KeyPath = ("grouping", "roles")
    example = "for example [[system, user], [assistant]]"
    if not roles:
        yield Finding("grouping.roles is empty", (path,), example)
    seen: set[str] = set()
    for number, group in enumerate(roles):
        place: KeyPath = (*path, number)
        if not group:
            yield Finding(f"grouping.roles.{number} is empty", (place, path), example)
        elif train_on != "all" and "assistant" not in group:
            what = f"data.train_on: {train_on} trains the assistant only, so no token is in grouping.roles.{number}"
            yield Finding(what, (place, path, ("data", "train_on")), "set data.train_on: all, or remove the group")
        for role in group:
            if role in seen:
                yield Finding(f"grouping.roles names {role!r} twice", (place, path), "remove one")
            seen.add(role)


def _eval_sources(sources: dict[str, EvalSource]) -> Iterator[Finding]:
    for name, source in sources.items():
        path: KeyPath = ("data", "eval", name)
        if source.path is None and source.fraction is None:
            what = f"the evaluation set {name!r} has neither path nor fraction"
            yield Finding(what, (path,), "give the path of its rows, or the fraction of training rows to hold out")
        if source.fraction is None:
            continue
        if source.path is not None:
            what = f"the evaluation set {name!r} has both path and fraction"
            yield Finding(what, ((*path, "fraction"), (*path, "path")), "keep one of them")
        for key in ROW_KEYS:
            if source.path is None and getattr(source, key) != _default(key):
                what = f"the evaluation set {name!r} is a fraction of the training rows, so {key} has no effect"
                yield Finding(what, ((*path, key), path), f"remove {key}")
    held_out = [name for name, source in sources.items() if source.fraction is not None]
    total = sum(sources[name].fraction or 0.0 for name in held_out)
    if total >= 1.0:
        paths = tuple(("data", "eval", name, "fraction") for name in held_out)
        yield Finding(f"the held-out fractions sum to {total:g}: no row is left to train on", paths, "lower them")


def _own_templates(recipe: Recipe) -> Iterator[Finding]:
    """What asks a model for answers knows one chat template."""
    by_path: dict[KeyPath, str | None] = {
        ("data", "train", number, "chat_template"): source.chat_template
        for number, source in enumerate(recipe.data.train if recipe.curation else ())
    }
    by_path |= {
        ("data", "eval", name, "chat_template"): source.chat_template
        for name, source in recipe.data.eval.items()
        if name in recipe.evaluation.answers
    }
    for path, template in by_path.items():
        if template is not None:
            section = "curation" if path[1] == "train" else "evaluation.answers"
            what = f"{dotted(path)}: {section} asks with data.chat_template alone"
            yield Finding(what, (path,), f"set data.chat_template, or remove {section}")


def _default(key: str) -> object:
    return EvalSource.model_fields[key].get_default(call_default_factory=True)


def _tasks(recipe: Recipe) -> Iterator[Finding]:
    """What a recipe asks to be measured and this version cannot measure is refused, not left out."""
    if recipe.evaluation.tasks:
        names = ", ".join(recipe.evaluation.tasks)
        what = f"evaluation.tasks: lm-evaluation-harness tasks cannot be run here ({names})"
        fix = f"remove it; a finished run is read by lm_eval --model hf --model_args pretrained=RUN --tasks {names}"
        yield Finding(what, (("evaluation", "tasks"),), fix.replace(", ", ","))


def _chosen_sets(recipe: Recipe) -> Iterator[Finding]:
    known, chosen = list(recipe.data.eval), recipe.evaluation.sets or []
    for index, name in enumerate(chosen):
        path: KeyPath = ("evaluation", "sets", index)
        if name not in known:
            close = nearest(name, known)
            fix = f"did you mean {close}?" if close else f"data.eval has {', '.join(known) or 'no set'}"
            yield Finding(f"evaluation.sets names the unknown set {name!r}", (path, ("data", "eval")), fix)
        if name in chosen[:index]:
            yield Finding(f"evaluation.sets names {name!r} twice", (path,), "remove one")
    for name in recipe.evaluation.answers:
        if name not in known:
            close = nearest(name, known)
            fix = f"did you mean {close}?" if close else f"data.eval has {', '.join(known) or 'no set'}"
            place: KeyPath = ("evaluation", "answers", name)
            yield Finding(f"evaluation.answers names the unknown set {name!r}", (place, ("data", "eval")), fix)
