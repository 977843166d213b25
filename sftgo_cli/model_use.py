"""What is done with a model that is there: a run's or a recipe's is measured, completes prompts, or is merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import UserError
from sftgo_cli.pipeline import PreparedData, curation_context, open_target, prepare
from sftgo_cli.recipe.load import LoadedRecipe

if TYPE_CHECKING:
    from sftgo_cli.evaluation.answers import AnswerJob
    from sftgo_cli.evaluation.generate import Decoding

Say = Callable[[str], None]


def evaluate(target: Path, overrides: Sequence[str], base: bool, say: Say, console: Any) -> dict[str, dict[str, Any]]:
    """Measure the evaluation sets with a run's model, or with a recipe's base model; results by set.

    A run's results also go to its evaluation/<set>.json. A recipe whose output_dir holds a finished run means that run,
    unless `base` is given.

    Raises:
        UserError: there is no evaluation set, or no model.
    """
    from sftgo_cli.evaluation.answers import check_answers, measure_answers
    from sftgo_cli.evaluation.evaluate import EvaluationJob, evaluate_sets, write_results
    from sftgo_cli.run_dir import finished_run

    loaded, run = open_target(target, overrides)
    recipe = loaded.recipe
    names = recipe.evaluation.sets if recipe.evaluation.sets is not None else list(recipe.data.eval)
    if not names:
        raise UserError("there is no evaluation set", f"{target}: data.eval", "add one, or hold rows out by fraction")
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
    asked = _answer_job(loaded, data, run, names, say, console)
    check_answers(asked)
    results = evaluate_sets(job, console)
    for name, measured in measure_answers(asked).items():
        results[name] |= measured
    write_results(run, results)
    return results


def _answer_job(
    loaded: LoadedRecipe, data: PreparedData, run: Path | None, names: Sequence[str], say: Say, console: Any
) -> AnswerJob:
    """Whose answers to which questions are judged: those of the sets that the recipe has a judge for."""
    from sftgo_cli.evaluation.answers import AnswerJob

    context = curation_context(loaded, data.tokenizer, data.template, 1, say, console)
    return AnswerJob(loaded.recipe, run, {name: data.evaluation[name] for name in names}, context)


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

    from sftgo_cli.data.template_probes import open_template
    from sftgo_cli.data.templates import chosen_template
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.evaluation.evaluate import load_for_inference
    from sftgo_cli.evaluation.generate import complete, prompt_format_of
    from sftgo_cli.run_dir import finished_run, row_formats

    loaded, run = open_target(target, overrides)
    recipe = loaded.recipe
    run = None if base else run or finished_run(recipe.training.output_dir)
    tokenizer = load_tokenizer(recipe.model, loaded.source_dir)
    source = chosen_template(recipe.data, tokenizer, loaded.source_dir)
    template = None if source is None else open_template(source, tokenizer)
    say(f"completing with {f'the trained model of {run}' if run else f'the base model {recipe.model.name_or_path}'}")
    wrapping = prompt_format_of(template, row_formats(run) if run else [], raw, recipe.data.system_prompt)
    model, _ = load_for_inference(recipe, loaded.source_dir, run, len(tokenizer))
    with Progress(console=console, disable=not console.is_terminal or len(prompts) < 2, transient=True) as progress:
        task = progress.add_task("generating", total=len(prompts))
        return complete(model, tokenizer, prompts, decoding, wrapping, lambda count: progress.advance(task, count))


def merge(run: Path, output: Path) -> None:
    """Write a run's merged model to a new folder. Raises UserError when the run has no adapter or the folder is not new."""
    from sftgo_cli.data.stages import check_new_folder
    from sftgo_cli.data.templates import chosen_template, saved_templates
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.tuning.merge import merge_adapter

    check_new_folder(output)
    loaded, folder = open_target(run, [])
    if folder is None:
        raise UserError("merge takes a run's folder", str(run), "give training.output_dir of the recipe")
    tokenizer = load_tokenizer(loaded.recipe.model, loaded.source_dir)
    template = chosen_template(loaded.recipe.data, tokenizer, loaded.source_dir)
    if template is not None:
        tokenizer.chat_template = saved_templates(template, tokenizer)
    merge_adapter(folder, loaded.recipe.model, loaded.source_dir, output, tokenizer)
