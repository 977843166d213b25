"""The order of the stages: tokenize, hold out, curate, score, group, train, evaluate. The only file that knows it.

Every data stage is cached by content. Sources are tokenized one by one; scores and groups of the training rows are
computed over all of them together, those of evaluation sets with the training set's statistics. Curation gives training
rows new answers; rows that are held out keep the given ones, so that runs with and without it are measured alike.
Methods are asked for by section and name, never known by name here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import cache, methods
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.load import LoadedRecipe, load_recipe
from sftgo_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from sftgo_cli.curation.questions import CurationContext
    from sftgo_cli.data.holdout import Leakage
    from sftgo_cli.data.preparation_report import PreparationReport
    from sftgo_cli.data.stages import Rows, Tokenizing
    from sftgo_cli.training.inputs import TrainingInputs

Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedData:
    """What training and evaluation read: training rows, evaluation sets by name, reports of all sources; and where the
    provenance of curated rows lies, by the label of their source."""

    train: Rows
    evaluation: dict[str, Rows]
    reports: list[PreparationReport]
    tokenizer: Any
    template: str | None
    num_groups: int
    curated: dict[str, Path] = field(default_factory=dict)
    leaks: dict[str, Leakage] = field(default_factory=dict)  # by evaluation set: how much of it is trained on


def load(path: Path, overrides: Sequence[str]) -> LoadedRecipe:
    """The recipe with its overrides, checked against the methods that exist. Raises UserError(s)."""
    return load_recipe(path, overrides, methods)


@dataclass(frozen=True)
class TokenizedData:
    """All rows before they are scored."""

    train: Rows
    evaluation: dict[str, Rows]
    reports: list[PreparationReport]
    tokenizer: Any
    template: str | None
    curated: dict[str, Path]
    leaks: dict[str, Leakage]


def prepare(
    loaded: LoadedRecipe,
    say: Say,
    num_processes: int | None = None,
    console: Any = None,
    training: bool = False,
    generating: bool = True,
) -> PreparedData:
    """Run or reuse every data stage of a recipe; `say` gets one line about every stage that does work.

    Args:
        num_processes: `-n`, for generators and scorers that run a model; None for one per accelerator.
        console: shows progress where it is a terminal; else lines do.
        training: also what only the objective reads of the training rows.
        generating: False checks an unfinished curation, and goes on with the given answers.

    Raises:
        UserError: anything wrong with the data, the tokenizer, the template, the curation or the scores.
    """
    from sftgo_cli.scoring.context import ScoringContext
    from sftgo_cli.scoring.group_stage import check_given, grouped
    from sftgo_cli.scoring.reference_nll import check_objective, with_reference_nll
    from sftgo_cli.scoring.stages import scored

    recipe = loaded.recipe
    scorer = methods.module("scoring", recipe.scoring.name)
    objective = methods.module("objective", recipe.objective.name)
    check_objective(recipe.objective, objective, recipe.scoring, scorer)
    if hasattr(objective, "check"):
        objective.check(recipe.objective.options, recipe.grouping.num_groups())
    rows = tokenize(loaded, say, num_processes, console, generating)
    train, tokenizer = rows.train, rows.tokenizer
    processes = _model_processes(num_processes)
    context = ScoringContext(recipe.model, loaded.source_dir, tokenizer, find_run, processes, say, console)
    check_given([train, *rows.evaluation.values()], recipe.grouping)
    sets = {"": train} | {name: rows.evaluation[name] for name in recipe.data.eval}
    sets = {name: scored(part, train, recipe.scoring, scorer, context, say) for name, part in sets.items()}
    done = {name: grouped(part, sets[""], recipe.grouping, say) for name, part in sets.items()}
    if training and recipe.evaluation.answers:
        _check_answers(loaded, rows, num_processes, say, console)
    if training:
        done[""] = with_reference_nll(done[""], train, recipe.objective, objective, context)
    groups = recipe.grouping.num_groups()
    return PreparedData(done.pop(""), done, rows.reports, tokenizer, rows.template, groups, rows.curated, rows.leaks)


def _check_answers(
    loaded: LoadedRecipe, rows: TokenizedData, num_processes: int | None, say: Say, console: Any
) -> None:
    """What `sftgo eval` would refuse after the training is refused before it."""
    from sftgo_cli.evaluation.answers import AnswerJob, check_answers

    context = curation_context(loaded, rows.tokenizer, rows.template, num_processes, say, console)
    check_answers(AnswerJob(loaded.recipe, None, rows.evaluation, context))


def tokenize(
    loaded: LoadedRecipe, say: Say, num_processes: int | None = None, console: Any = None, generating: bool = True
) -> TokenizedData:
    """The stages before scoring: tokenize, hold out, curate. Arguments and errors as `prepare`."""
    from sftgo_cli.data.holdout import leakage
    from sftgo_cli.data.preparation_report import refuse_lost, refuse_unsupervised
    from sftgo_cli.data.sampling import check_drawn
    from sftgo_cli.data.segments import given_groups
    from sftgo_cli.data.stages import Tokenizing, held_out, tokenized
    from sftgo_cli.data.template_tokens import say_split_tokens
    from sftgo_cli.data.templates import chosen_template
    from sftgo_cli.data.tokenizer import load_tokenizer

    recipe = loaded.recipe
    cache.made_for.set(str(loaded.path.resolve()))
    _check_context(recipe, loaded.source_dir)
    tokenizer = load_tokenizer(recipe.model, loaded.source_dir)
    template = chosen_template(recipe.data, tokenizer, loaded.source_dir)
    say_split_tokens(template, tokenizer, say)
    keep, keep_row = methods.source_columns(recipe)
    given = given_groups(recipe.grouping)
    job = Tokenizing(recipe.data, loaded.source_dir, tokenizer, template, keep, say, keep_row, given)
    train, reports = tokenized({f"train.{number}": source for number, source in enumerate(recipe.data.train)}, job)
    if recipe.data.on_left_out == "error":
        refuse_lost(reports)
    refuse_unsupervised(reports, recipe.data.max_unsupervised_fraction)
    keep, keep_row = methods.source_columns(recipe, training=False)
    evaluation_job = dataclasses.replace(job, keep_columns=keep, keep_row_columns=keep_row)
    evaluation: dict[str, Rows] = {}
    for name, source in recipe.data.eval.items():
        if source.fraction is None:
            evaluation[name], report = tokenized({name: source}, evaluation_job)
            reports += report
    fractions = {name: source.fraction for name, source in recipe.data.eval.items() if source.fraction is not None}
    train, heldout = held_out(train, fractions, say)
    curated: dict[str, Path] = {}
    if recipe.curation:
        train, reports, curated = _curate(loaded, train, reports, job, num_processes, console, generating)
    check_drawn([len(dataset) for dataset in train.datasets], [source.weight for source in recipe.data.train])
    evaluation |= heldout
    leaks = {name: leakage(rows.datasets, train.datasets) for name, rows in evaluation.items()}
    return TokenizedData(train, evaluation, reports, tokenizer, template, curated, leaks)


def _curate(
    loaded: LoadedRecipe,
    train: Rows,
    reports: list[PreparationReport],
    job: Tokenizing,
    num_processes: int | None,
    console: Any,
    generating: bool,
) -> tuple[Rows, list[PreparationReport], dict[str, Path]]:
    """The training rows with their targets, all reports (those of the given answers last), and where provenance lies."""
    from sftgo_cli.curation.sources import curated_sources, curation_jobs, folders
    from sftgo_cli.curation.stage import curated, unfinished
    from sftgo_cli.data.stages import tokenized

    recipe = loaded.recipe
    context = curation_context(loaded, job.tokenizer, job.template, num_processes, job.say, console)
    chosen = [(choice, methods.module("curation", choice.name)) for choice in recipe.curation]
    sources, rest = reports[: len(recipe.data.train)], reports[len(recipe.data.train) :]
    jobs = curation_jobs(recipe, train, [report.format for report in sources], chosen, job, context)
    if not generating and unfinished(jobs):
        job.say("curation was checked and not run: what follows is with the given answers")
        return train, reports, {}
    stages = curated(jobs)
    rows, own = tokenized(curated_sources(jobs, stages), job, "the chosen targets")
    given = [dataclasses.replace(report, source=f"{report.source} as given") for report in sources]
    return rows, [*own, *rest, *given], folders(jobs, stages)


def curation_context(
    loaded: LoadedRecipe, tokenizer: Any, template: str | None, num_processes: int | None, say: Say, console: Any
) -> CurationContext:
    """What generators and judges of a recipe get besides their options."""
    from sftgo_cli.curation.questions import CurationContext

    return CurationContext(
        model=loaded.recipe.model,
        recipe_dir=loaded.source_dir,
        tokenizer=tokenizer,
        template=template,
        find_run=find_run,
        num_processes=_model_processes(num_processes),
        use_cpu=loaded.recipe.training.use_cpu,
        say=say,
        console=console,
        system_prompt=loaded.recipe.data.system_prompt,
    )


def _model_processes(asked: int | None) -> int:
    """Processes of what runs a model before training: as asked, else one per accelerator; one in each rank."""
    from sftgo_cli.training import launch

    return 1 if launch.inside_launcher() else asked or max(1, launch.num_accelerators())


def find_run(target: Path) -> Path:
    """The folder of the finished run of a recipe (its file, or the run's folder).

    Raises:
        UserError: there is no such recipe, or it was not trained to its end.
    """
    from sftgo_cli.run_dir import finished_run

    loaded, folder = open_target(target, [])
    run = finished_run(str(folder or loaded.recipe.training.output_dir))
    if run is None:
        raise UserError("the recipe has no finished run", str(target), f"train it first: sftgo train {target}")
    return run.resolve()


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
    from sftgo_cli.report.data_notes import data_notes
    from sftgo_cli.report.data_table import data_table

    console.print(data_table(data.reports, data.leaks))
    weights = {f"train.{number}": source.weight for number, source in enumerate(loaded.recipe.data.train)}
    for note in data_notes(data.reports, weights, data.leaks):
        console.print(note, highlight=False, markup=False)
    for name, source in loaded.recipe.data.eval.items():
        if source.fraction is not None:
            held, kept = data.evaluation[name].num_rows, data.train.num_rows
            console.print(f"Held out for {name}: {held:,} of the kept rows; {kept:,} are trained on.", highlight=False)


def train(
    loaded: LoadedRecipe,
    num_processes: int | None,
    launch_flags: Sequence[str],
    arguments: Sequence[str],
    say: Say,
    console: Any,
    on_ranks: Callable[[], None] = lambda: None,
) -> int:
    """Check the folder, run the data stages, then train here or in ranks of their own; returns the exit code.

    Args:
        num_processes: `-n`, for the ranks and for a scorer that runs a model; None for one per accelerator.
        launch_flags, arguments: flags for `accelerate launch`; the command line that a rank runs: `train RECIPE overrides`.
        on_ranks: called when other processes take over, which then say themselves what they do.
    """
    from sftgo_cli.training import launch
    from sftgo_cli.training.preflight import check_start

    if not launch.inside_launcher():
        launch.check_launcher(launch_flags)
    check_start(loaded, alone=launch.num_accelerators() <= 1 and not launch_flags, say=say)
    data = prepare(loaded, say, num_processes, console, training=True)
    if launch.inside_launcher():
        launch.check_expected()
    else:
        planned = launch.plan_launch(num_processes, launch_flags, loaded.recipe.training.use_cpu)
        print_reports(loaded, data, console)
        if planned is not None:
            on_ranks()
            return launch.run_ranks(planned, arguments)
    from sftgo_cli.training.run import train as train_here

    train_here(training_inputs(loaded, data, launch.world_size()), say, console)
    return 0


def training_inputs(loaded: LoadedRecipe, data: PreparedData, world_size: int) -> TrainingInputs:
    """Everything a rank needs, as plain data."""
    from sftgo_cli.base_model import model_fingerprint
    from sftgo_cli.reference_model import reference_fingerprint
    from sftgo_cli.run_dir import RunIdentity, check_output_dir
    from sftgo_cli.training.inputs import TrainingInputs
    from sftgo_cli.training.objective_reference import objective_reference

    recipe = loaded.recipe
    content = {
        "training data": dict(enumerate(data.train.keys)),
        "base model": model_fingerprint(recipe.model, loaded.source_dir),
        "row formats": [report.format for report in data.reports[: len(recipe.data.train)]],
    }
    objective = methods.module("objective", recipe.objective.name)
    reference = objective_reference(recipe, objective, loaded.source_dir, data.tokenizer, find_run)
    if reference is not None:
        content["reference model"] = reference_fingerprint(reference)
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
        objective=objective,
        reference=reference,
    )


def estimate(loaded: LoadedRecipe, data: PreparedData, num_processes: int, say: Say) -> list[str]:
    """What a training would take: steps, parameters, and the memory of weights, gradients and optimizer state."""
    from sftgo_cli.training.estimate import estimate_lines

    return estimate_lines(training_inputs(loaded, data, num_processes), num_processes, say)


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
