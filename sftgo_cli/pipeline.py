"""The order of the stages: tokenize, hold out, score, group, train, evaluate. The only file that knows it.

Every data stage is cached by content. Sources are tokenized one by one; scores and groups of the training rows are
computed over all of them together, those of evaluation sets with the training set's statistics. Methods are asked for
by section and name, never known by name here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import methods
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.load import LoadedRecipe, load_recipe
from sftgo_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from sftgo_cli.data.preparation_report import PreparationReport
    from sftgo_cli.data.stages import Rows
    from sftgo_cli.evaluation.generate import Decoding
    from sftgo_cli.training.run import TrainingInputs

Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedData:
    """What training and evaluation read: training rows, evaluation sets by name, reports of all sources."""

    train: Rows
    evaluation: dict[str, Rows]
    reports: list[PreparationReport]
    tokenizer: Any
    template: str | None
    num_groups: int


def load(path: Path, overrides: Sequence[str]) -> LoadedRecipe:
    """The recipe with its overrides, checked against the methods that exist. Raises UserError(s)."""
    return load_recipe(path, overrides, methods)


def prepare(loaded: LoadedRecipe, say: Say) -> PreparedData:
    """Run or reuse every data stage of a recipe; `say` gets one line about every stage that does work.

    Raises:
        UserError: anything wrong with the data, the tokenizer, the template or the scores.
    """
    from sftgo_cli.data.preparation_report import refuse_unsupervised
    from sftgo_cli.data.sampling import check_drawn
    from sftgo_cli.data.stages import Tokenizing, held_out, tokenized
    from sftgo_cli.data.templates import resolve_chat_template
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.scoring.group_stage import grouped
    from sftgo_cli.scoring.stages import scored

    recipe = loaded.recipe
    _check_context(recipe, loaded.source_dir)
    tokenizer = load_tokenizer(recipe.model, loaded.source_dir)
    template = resolve_chat_template(recipe.data.chat_template, tokenizer, loaded.source_dir)
    scorer = methods.module("scoring", recipe.scoring.name)
    keep = scorer.source_columns(recipe.scoring.options) if hasattr(scorer, "source_columns") else ()
    job = Tokenizing(recipe.data, loaded.source_dir, tokenizer, template, tuple(keep), say)

    train, reports = tokenized({f"train.{number}": source for number, source in enumerate(recipe.data.train)}, job)
    refuse_unsupervised(reports, recipe.data.max_unsupervised_fraction)
    evaluation: dict[str, Rows] = {}
    for name, source in recipe.data.eval.items():
        if source.fraction is None:
            evaluation[name], report = tokenized({name: source}, job)
            reports += report
    fractions = {name: source.fraction for name, source in recipe.data.eval.items() if source.fraction is not None}
    train, heldout = held_out(train, fractions, say)
    check_drawn([len(dataset) for dataset in train.datasets], [source.weight for source in recipe.data.train])
    evaluation |= heldout

    def finished(rows: Rows) -> Rows:
        return grouped(scored(rows, train, recipe.scoring, scorer, say), recipe.grouping, say)

    ordered = {name: finished(evaluation[name]) for name in recipe.data.eval}
    return PreparedData(finished(train), ordered, reports, tokenizer, template, recipe.grouping.num_groups())


def _check_context(recipe: Recipe, recipe_dir: Path) -> None:
    from sftgo_cli.base_model import max_positions

    limit = max_positions(recipe.model, recipe_dir)
    if limit is not None and recipe.data.max_length > limit:
        raise UserError(
            f"the model's context is {limit} tokens, data.max_length is {recipe.data.max_length}",
            "data.max_length",
            f"set it to {limit} or less",
        )


def print_reports(loaded: LoadedRecipe, data: PreparedData, console: Any) -> None:
    """The length and token table of every source, always printed before training."""
    from sftgo_cli.report.data_table import data_notes, data_table

    console.print(data_table(data.reports))
    weights = {f"train.{number}": source.weight for number, source in enumerate(loaded.recipe.data.train)}
    for note in data_notes(data.reports, weights):
        console.print(note, highlight=False, markup=False)
    for name, source in loaded.recipe.data.eval.items():
        if source.fraction is not None:
            held, kept = data.evaluation[name].num_rows, data.train.num_rows
            console.print(f"Held out for {name}: {held:,} of the kept rows; {kept:,} are trained on.", highlight=False)


def select_rows(
    data: PreparedData, set_name: str | None, start: int, num_rows: int, row_id: str | None
) -> list[dict[str, Any]]:
    """Rows to look at: some from a position on, or the one with an id, of the training rows or an evaluation set.

    Raises:
        UserError: there is no such set or row.
    """
    from datasets import concatenate_datasets

    if set_name is not None and set_name not in data.evaluation:
        close = nearest(set_name, list(data.evaluation))
        hint = f"did you mean {close}?" if close else f"sets: {', '.join(data.evaluation) or 'none'}"
        raise UserError(f"there is no evaluation set {set_name!r}", "--set", hint)
    datasets = (data.train if set_name is None else data.evaluation[set_name]).datasets
    if row_id is not None:
        for dataset in datasets:
            ids = list(dataset["row_id"])
            if row_id in ids:
                return [dataset[ids.index(row_id)]]
        raise UserError(f"there is no row {row_id!r}", "--row", "ids are the rows' own, or <file>:<number>")
    if len(datasets) > 1:
        shared = [name for name in datasets[0].column_names if all(name in part.column_names for part in datasets)]
        datasets = [dataset.select_columns(shared) for dataset in datasets]
    rows = concatenate_datasets(datasets)
    if start >= len(rows):
        raise UserError(f"there are only {len(rows)} rows", "--start", "give a smaller number")
    return [rows[index] for index in range(start, min(start + num_rows, len(rows)))]


def train(
    loaded: LoadedRecipe,
    num_processes: int | None,
    launch_flags: Sequence[str],
    arguments: Sequence[str],
    say: Say,
    console: Any,
) -> int:
    """Check the folder, run the data stages, then train here or in ranks of their own; returns the exit code.

    Args:
        num_processes: `-n`, or None for one per accelerator.
        launch_flags: flags for `accelerate launch`.
        arguments: the command line that a rank runs: `train RECIPE overrides`.
    """
    from sftgo_cli.run_dir import check_output_dir
    from sftgo_cli.training import launch
    from sftgo_cli.training.arguments import check_names

    check_output_dir(loaded.recipe.training.output_dir)
    check_names(loaded.recipe)
    data = prepare(loaded, say)
    if launch.inside_launcher():
        launch.check_expected()
    else:
        planned = launch.plan_launch(num_processes, launch_flags, loaded.recipe.training.use_cpu)
        print_reports(loaded, data, console)
        if planned is not None:
            return launch.run_ranks(planned, arguments)
    from sftgo_cli.training.run import train as train_here

    train_here(training_inputs(loaded, data, launch.world_size()), say, console)
    return 0


def training_inputs(loaded: LoadedRecipe, data: PreparedData, world_size: int) -> TrainingInputs:
    """Everything a rank needs, as plain data."""
    from sftgo_cli.base_model import model_fingerprint
    from sftgo_cli.run_dir import RunIdentity, check_output_dir
    from sftgo_cli.training.run import TrainingInputs

    recipe = loaded.recipe
    content = {
        "training data": dict(enumerate(data.train.keys)),
        "base model": model_fingerprint(recipe.model, loaded.source_dir),
        "row formats": [report.format for report in data.reports[: len(recipe.data.train)]],
    }
    folder = check_output_dir(recipe.training.output_dir)
    return TrainingInputs(
        recipe=recipe,
        recipe_text=loaded.text,
        recipe_dir=loaded.source_dir,
        identity=RunIdentity(loaded.resolved_in(folder), content, world_size),
        train=data.train.datasets,
        evaluation={name: rows.datasets for name, rows in data.evaluation.items()},
        tokenizer=data.tokenizer,
        template=data.template,
        tuner=methods.module("tuning", recipe.tuning.name),
        objective=methods.module("objective", recipe.objective.name),
    )


def estimate(loaded: LoadedRecipe, data: PreparedData, num_processes: int) -> list[str]:
    """What a training would take: steps, parameters, and the memory of weights, gradients and optimizer state."""
    from sftgo_cli.training.estimate import estimate_lines

    return estimate_lines(training_inputs(loaded, data, num_processes), num_processes)


def evaluate(target: Path, overrides: Sequence[str], base: bool, say: Say, console: Any) -> dict[str, dict[str, Any]]:
    """Measure the evaluation sets with a run's model, or with a recipe's base model; results by set.

    A run's results also go to its evaluation/<set>.json. A recipe whose output_dir holds a finished run means that run,
    unless `base` is given.

    Raises:
        UserError: there is no evaluation set, or no model.
    """
    from sftgo_cli.evaluation.evaluate import EvaluationJob, evaluate_sets
    from sftgo_cli.run_dir import finished_run

    loaded, run = open_target(target, overrides)
    recipe = loaded.recipe
    names = recipe.evaluation.sets if recipe.evaluation.sets is not None else list(recipe.data.eval)
    if not names:
        raise UserError("there is no evaluation set", f"{target}: data.eval", "add one, or hold rows out by fraction")
    if recipe.evaluation.tasks:
        say(
            f"evaluation.tasks ({', '.join(recipe.evaluation.tasks)}): this version runs no lm-evaluation-harness tasks"
        )
    run = None if base else run or finished_run(recipe.training.output_dir)
    data = prepare(loaded, say)
    say(f"evaluating the trained model of {run}" if run else f"evaluating the base model {recipe.model.name_or_path}")
    job = EvaluationJob(
        recipe=recipe,
        recipe_dir=loaded.source_dir,
        run_dir=run,
        sets={name: data.evaluation[name] for name in names},
        tokenizer=data.tokenizer,
    )
    return evaluate_sets(job, console)


def open_target(target: Path, overrides: Sequence[str]) -> tuple[LoadedRecipe, Path | None]:
    """A recipe file, or a run's folder with the resolved recipe in it."""
    from sftgo_cli.run_dir import RESOLVED

    if not target.exists():
        raise UserError("there is no such recipe or run", str(target), "give a recipe's file or a run's folder")
    if not target.is_dir():
        return load(target, overrides), None
    if not (target / RESOLVED).is_file():
        raise UserError("not a run folder: it has no recipe.resolved.yaml", str(target), "give a recipe or a run")
    return load(target / RESOLVED, overrides), target


def generate(
    target: Path,
    overrides: Sequence[str],
    base: bool,
    prompts: Sequence[str],
    decoding: Decoding,
    raw: bool,
    say: Say,
    console: Any,
) -> list[str]:
    """Completions of the prompts by a run's model, or a recipe's (its finished run's, else its base model)."""
    from rich.progress import Progress

    from sftgo_cli.data.templates import resolve_chat_template
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.evaluation.evaluate import load_for_inference
    from sftgo_cli.evaluation.generate import complete, prompt_format_of
    from sftgo_cli.run_dir import finished_run, row_formats

    loaded, run = open_target(target, overrides)
    recipe = loaded.recipe
    run = None if base else run or finished_run(recipe.training.output_dir)
    tokenizer = load_tokenizer(recipe.model, loaded.source_dir)
    tokenizer.chat_template = resolve_chat_template(recipe.data.chat_template, tokenizer, loaded.source_dir)
    say(f"completing with {f'the trained model of {run}' if run else f'the base model {recipe.model.name_or_path}'}")
    wrapping = prompt_format_of(tokenizer.chat_template is not None, row_formats(run) if run else [], raw)
    model, _ = load_for_inference(recipe, loaded.source_dir, run)
    with Progress(console=console, disable=not console.is_terminal or len(prompts) < 2, transient=True) as progress:
        task = progress.add_task("generating", total=len(prompts))
        return complete(model, tokenizer, prompts, decoding, wrapping, lambda count: progress.advance(task, count))


def merge(run: Path, output: Path) -> None:
    """Write a run's merged model to a new folder. Raises UserError when the run has no adapter or the folder is not new."""
    from sftgo_cli.data.stages import check_new_folder
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.tuning.merge import merge_adapter

    check_new_folder(output)
    loaded, folder = open_target(run, [])
    if folder is None:
        raise UserError("merge takes a run's folder", str(run), "give training.output_dir of the recipe")
    tokenizer = load_tokenizer(loaded.recipe.model, loaded.source_dir)
    merge_adapter(folder, loaded.recipe.model, loaded.source_dir, output, tokenizer)
