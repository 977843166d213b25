"""Contradictions within `training`, and between it and the rest of a recipe: what only a later step would refuse.

What needs the Trainer's own code to decide (arguments of an optimizer or a schedule) is in training/preflight.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from sftgo_cli.errors import nearest
from sftgo_cli.recipe.finding import Finding
from sftgo_cli.recipe.node import KeyPath
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.trainer_names import (
    BY_METRIC,
    OPTIMIZERS,
    REFUSED_OPTIMIZERS,
    SCHEDULES,
    WITHOUT_ARGUMENTS,
    WITHOUT_WARMUP,
    schedule_free,
)
from sftgo_cli.recipe.training_section import TrainingSection

SET_METRICS = ("loss", "perplexity", "token_accuracy", "num_tokens", "num_rows", "worst_group_loss")
GROUP_METRICS = ("group_loss", "group_tokens")
# A key that has an effect only beside another one.
NEEDS: dict[str, str] = {
    "gradient_checkpointing_kwargs": "gradient_checkpointing",
    "dataloader_persistent_workers": "dataloader_num_workers",
    "dataloader_prefetch_factor": "dataloader_num_workers",
    "early_stopping_threshold": "early_stopping_patience",
}


def training_findings(recipe: Recipe) -> Iterator[Finding]:
    """Everything that contradicts `training`."""
    yield from _names(recipe.training)
    yield from _steps(recipe.training)
    yield from _warm_up(recipe.training)
    yield from _alone(recipe)
    yield from _evaluating(recipe)
    yield from _best_metric(recipe)
    yield from _best_model(recipe)


def _names(training: TrainingSection) -> Iterator[Finding]:
    """Optimizers and schedules that there are not, and optimizers that cannot run here."""
    optim, schedule = training.optim, training.lr_scheduler_type
    if optim in REFUSED_OPTIMIZERS:
        yield Finding(f"training.optim: {optim} is refused", (("training", "optim"),), REFUSED_OPTIMIZERS[optim])
    elif optim not in OPTIMIZERS:
        yield _no_such("optim", "optimizer", optim, [*OPTIMIZERS])
    if schedule not in SCHEDULES:
        yield _no_such("lr_scheduler_type", "schedule", schedule, [*SCHEDULES])


def _no_such(key: str, noun: str, name: str, known: list[str]) -> Finding:
    close = nearest(name, known)
    listed = f"choose from {', '.join(known)}"
    fix = f"did you mean {close}?" if close else listed
    return Finding(f"training.{key}: there is no {noun} {name!r}", (("training", key),), fix)


def _steps(training: TrainingSection) -> Iterator[Finding]:
    if training.max_steps == 0:
        yield Finding("training.max_steps: 0 trains nothing", (("training", "max_steps"),), "give a number, or -1")
    if training.warmup_ratio is not None and training.warmup_steps is not None:
        paths = (("training", "warmup_steps"), ("training", "warmup_ratio"))
        yield Finding("training.warmup_ratio and training.warmup_steps exclude each other", paths, "keep one of them")


def _warm_up(training: TrainingSection) -> Iterator[Finding]:
    schedule = training.lr_scheduler_type
    if training.lr_scheduler_kwargs and schedule in WITHOUT_ARGUMENTS:
        paths: tuple[KeyPath, ...] = (("training", "lr_scheduler_kwargs"), ("training", "lr_scheduler_type"))
        what = f"training.lr_scheduler_type: {schedule} takes no arguments, so lr_scheduler_kwargs has no effect"
        yield Finding(what, paths, "remove lr_scheduler_kwargs")
    if not (training.warmup_ratio or training.warmup_steps) or schedule not in WITHOUT_WARMUP:
        return
    if schedule == "constant" and training.optim in ("schedule_free_adamw", "schedule_free_sgd"):
        return  # these warm up themselves
    key = "warmup_steps" if training.warmup_steps else "warmup_ratio"
    fix = "use constant_with_warmup" if schedule == "constant" else f"remove {key}"
    if schedule == "constant" and schedule_free(training.optim):
        fix = f"remove {key}"
    paths = (("training", key), ("training", "lr_scheduler_type"))
    yield Finding(f"training.lr_scheduler_type: {schedule} has no warm-up, so {key} has no effect", paths, fix)


def _alone(recipe: Recipe) -> Iterator[Finding]:
    training = recipe.training
    if recipe.model.new_tokens and training.weight_decay and recipe.tuning.name != "full":
        shown: tuple[KeyPath, ...] = (("training", "weight_decay"), ("model", "new_tokens"))
        what = "training.weight_decay would shrink the embedding rows of all tokens, where only model.new_tokens are trained"
        yield Finding(what, shown, "remove weight_decay, or use tuning: full")
    if recipe.data.packing and training.train_sampling_strategy == "group_by_length":
        paths: tuple[KeyPath, ...] = (("training", "train_sampling_strategy"), ("data", "packing"))
        what = "data.packing fills every sequence, so train_sampling_strategy: group_by_length has no effect"
        yield Finding(what, paths, "set data.packing: false or another strategy")
    for key, other in NEEDS.items():
        if getattr(training, key) and not getattr(training, other):
            needed = "data workers" if other == "dataloader_num_workers" else other
            fix = f"set training.{other}, or remove {key}"
            yield Finding(f"training.{key} needs {needed}", (("training", key), ("training", other)), fix)


def eval_strategy(recipe: Recipe) -> str:
    """When the run evaluates: as written, else every epoch if there are evaluation sets."""
    return recipe.training.eval_strategy or ("epoch" if recipe.data.eval else "no")


def _evaluating(recipe: Recipe) -> Iterator[Finding]:
    """Keys that need evaluation during training, in a recipe that has none."""
    training = recipe.training
    during = {
        "early_stopping_patience": training.early_stopping_patience is not None,
        "load_best_model_at_end": training.load_best_model_at_end,
        "save_strategy": training.save_strategy == "best",
        "lr_scheduler_type": training.lr_scheduler_type in BY_METRIC,
        "metric_for_best_model": training.metric_for_best_model is not None,
    }
    wants = {
        "eval_strategy": training.eval_strategy not in (None, "no"),
        "eval_on_start": training.eval_on_start,
        **during,
    }
    for key in (key for key, wanted in wants.items() if wanted):
        path: KeyPath = ("training", key)
        value = getattr(training, key)
        shown = f"training.{key}: {value}" if isinstance(value, str) else f"training.{key}"
        if not recipe.data.eval:
            what = f"{shown} needs an evaluation set, and data.eval is empty"
            yield Finding(what, (path, ("data", "eval")), "add data.eval: {heldout: {fraction: 0.02}}")
        elif training.eval_strategy == "no" and key in during:
            paths = (path, ("training", "eval_strategy"))
            yield Finding(f"{shown} needs evaluation during training", paths, "set eval_strategy: epoch")


def logged_metrics(recipe: Recipe) -> list[str]:
    """The metrics that every evaluation logs: `eval_<set>_<metric>`, in the order of the sets."""
    groups = [f"{name}/{group}" for name in GROUP_METRICS for group in range(recipe.grouping.num_groups())]
    return [f"eval_{name}_{key}" for name in recipe.data.eval for key in (*SET_METRICS, *groups)]


def best_metric(recipe: Recipe) -> str | None:
    """The logged metric that chooses the best checkpoint: the first set's loss, or as written, with or without
    `eval_`; None where there is no such metric."""
    known, written = logged_metrics(recipe), recipe.training.metric_for_best_model
    if written is None:
        return known[0] if known else None
    return next((name for name in (written, f"eval_{written}") if name in known), None)


def _best_metric(recipe: Recipe) -> Iterator[Finding]:
    """A metric that no evaluation logs."""
    written, known = recipe.training.metric_for_best_model, logged_metrics(recipe)
    if written is None or not known or best_metric(recipe) is not None:
        return
    close = nearest(written if written.startswith("eval_") else f"eval_{written}", known)
    fix = f"did you mean {close}?" if close else f"use {' or '.join(f'eval_{name}_loss' for name in recipe.data.eval)}"
    what = f"training.metric_for_best_model: {written!r} is no metric of a set"
    yield Finding(what, (("training", "metric_for_best_model"),), fix)


def _best_model(recipe: Recipe) -> Iterator[Finding]:
    training = recipe.training
    strategy, save = eval_strategy(recipe), training.save_strategy
    if not recipe.data.eval or not training.load_best_model_at_end or save == "best" or training.eval_strategy == "no":
        return
    best = ("training", "load_best_model_at_end")
    if strategy != save:
        paths = (best, ("training", "eval_strategy"), ("training", "save_strategy"))
        what = f"training.load_best_model_at_end: evaluation is by {strategy!r} but saving by {save!r}"
        yield Finding(what, paths, "give eval_strategy and save_strategy the same value, or save_strategy: best")
        return
    every, saved = training.eval_steps or training.logging_steps, training.save_steps
    if strategy != "steps":
        return
    paths = (("training", "save_steps"), ("training", "eval_steps"), best)
    if (every < 1) != (saved < 1):
        what = f"training.save_steps {saved} and eval_steps {every}: one is a share of the run, the other a number"
        yield Finding(what, paths, "give both as numbers, or both as shares")
    elif abs(saved / every - round(saved / every)) > 1e-9:
        what = f"training.save_steps {saved} is no multiple of eval_steps {every}"
        yield Finding(what, paths, "save where an evaluation stands, so that the best model is on disk")
