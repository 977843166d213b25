"""Values that are fine alone and wrong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sftgo_cli.errors import nearest
from sftgo_cli.recipe.data_section import EvalSource
from sftgo_cli.recipe.field_types import MAX_GROUPS
from sftgo_cli.recipe.node import KeyPath
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.training_section import TrainingSection

BY_SCORE = ("boundaries", "quantiles", "thresholds", "important_fraction")
AS_GIVEN = ("column", "roles", "segments")  # the rows themselves say which group a token has
ROW_KEYS = ("name", "split", "revision", "format", "columns")


@dataclass(frozen=True)
class Finding:
    """What contradicts what, the key paths that take part (the first present one is shown), and what to do."""

    what: str
    paths: tuple[KeyPath, ...]
    fix: str


def contradictions(recipe: Recipe) -> list[Finding]:
    """Every contradiction of a recipe whose single values are valid."""
    return [
        *_grouping(recipe),
        *_eval_sources(recipe.data.eval),
        *_chosen_sets(recipe),
        *_steps(recipe.training),
        *_loading(recipe),
        *_evaluating(recipe),
        *_best_model(recipe),
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


def _default(key: str) -> object:
    return EvalSource.model_fields[key].get_default(call_default_factory=True)


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


def _steps(training: TrainingSection) -> Iterator[Finding]:
    if training.max_steps == 0:
        yield Finding("training.max_steps: 0 trains nothing", (("training", "max_steps"),), "give a number, or -1")
    if training.warmup_ratio is not None and training.warmup_steps is not None:
        paths = (("training", "warmup_steps"), ("training", "warmup_ratio"))
        yield Finding("training.warmup_ratio and training.warmup_steps exclude each other", paths, "keep one of them")


def _loading(recipe: Recipe) -> Iterator[Finding]:
    training = recipe.training
    if recipe.data.packing and training.train_sampling_strategy == "group_by_length":
        paths = (("training", "train_sampling_strategy"), ("data", "packing"))
        what = "data.packing fills every sequence, so train_sampling_strategy: group_by_length has no effect"
        yield Finding(what, paths, "set data.packing: false or another strategy")
    workers: KeyPath = ("training", "dataloader_num_workers")
    for key in ("dataloader_persistent_workers", "dataloader_prefetch_factor"):
        if getattr(training, key) and training.dataloader_num_workers == 0:
            what = f"training.{key} needs data workers"
            yield Finding(what, (("training", key), workers), "set training.dataloader_num_workers or remove it")


def eval_strategy(recipe: Recipe) -> str:
    """When the run evaluates: as written, else every epoch if there are evaluation sets."""
    return recipe.training.eval_strategy or ("epoch" if recipe.data.eval else "no")


def _evaluating(recipe: Recipe) -> Iterator[Finding]:
    """Keys that need evaluation during training, in a recipe that has none."""
    training = recipe.training
    wants = {
        "eval_strategy": training.eval_strategy not in (None, "no"),
        "eval_on_start": training.eval_on_start,
        "early_stopping_patience": training.early_stopping_patience is not None,
        "load_best_model_at_end": training.load_best_model_at_end,
    }
    for key in (key for key, wanted in wants.items() if wanted):
        path: KeyPath = ("training", key)
        if not recipe.data.eval:
            what = f"training.{key} needs an evaluation set, and data.eval is empty"
            yield Finding(what, (path, ("data", "eval")), "add data.eval: {heldout: {fraction: 0.02}}")
        elif training.eval_strategy == "no" and key == "early_stopping_patience":
            paths = (path, ("training", "eval_strategy"))
            yield Finding(f"training.{key} needs evaluation during training", paths, "set eval_strategy: epoch")


def _best_model(recipe: Recipe) -> Iterator[Finding]:
    training = recipe.training
    if not recipe.data.eval:
        return
    metric, path = training.metric_for_best_model, ("training", "metric_for_best_model")
    if metric is not None and not any(metric.removeprefix("eval_").startswith(f"{name}_") for name in recipe.data.eval):
        sets = " or ".join(f"eval_{name}_loss" for name in recipe.data.eval)
        yield Finding(f"training.metric_for_best_model: {metric!r} is no metric of a set", (path,), f"use {sets}")
    if not training.load_best_model_at_end:
        return
    strategy, save = eval_strategy(recipe), training.save_strategy
    best = ("training", "load_best_model_at_end")
    if strategy != save:
        paths = (best, ("training", "eval_strategy"), ("training", "save_strategy"))
        what = f"training.load_best_model_at_end: evaluation is by {strategy!r} but saving by {save!r}"
        yield Finding(what, paths, "give eval_strategy and save_strategy the same value")
    every = training.eval_steps or training.logging_steps
    if strategy == save == "steps" and training.save_steps % every:
        paths = (("training", "save_steps"), ("training", "eval_steps"), best)
        what = f"training.save_steps {training.save_steps} is no multiple of eval_steps {every}"
        yield Finding(what, paths, "save where an evaluation stands, so that the best model is on disk")
