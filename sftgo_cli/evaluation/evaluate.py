"""Measures evaluation sets with a trained or base model outside training; a run keeps the results in evaluation/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import durable
from sftgo_cli.data.collation import pad_token_id
from sftgo_cli.evaluation.heldout import evaluate_set, evaluation_set
from sftgo_cli.losses import head, head_probe
from sftgo_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from sftgo_cli.data.stages import Rows

FOLDER = "evaluation"


@dataclass(frozen=True)
class EvaluationJob:
    """What to measure: the sets' rows, and the run's model (or, without a run, the recipe's base model)."""

    recipe: Recipe
    recipe_dir: Path
    run_dir: Path | None
    sets: dict[str, Rows]
    tokenizer: Any


def evaluate_sets(job: EvaluationJob, console: Any) -> dict[str, dict[str, Any]]:
    """Results by set, as `evaluate_set` returns them plus the rows' content key; with a progress bar on a terminal."""
    from rich.progress import Progress

    model, device = load_for_inference(job.recipe, job.recipe_dir, job.run_dir, len(job.tokenizer))
    slower = with_loss_head(model, str(job.run_dir or f"model.name_or_path: {job.recipe.model.name_or_path}"))
    if slower is not None:
        console.print(slower, highlight=False, markup=False)
    results: dict[str, dict[str, Any]] = {}
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        for name, rows in job.sets.items():
            task = progress.add_task(f"evaluating {name}", total=rows.num_rows)
            measured = evaluate_set(
                model,
                evaluation_set(rows.datasets, job.recipe, pad_token_id(job.tokenizer)),
                device,
                on_batch=lambda count, task=task: progress.advance(task, count),  # type: ignore[misc]
            )
            results[name] = {**measured, "content": rows.keys}
    return results


def write_results(run_dir: Path | None, results: dict[str, dict[str, Any]]) -> None:
    """A run's results go to its evaluation/<set>.json; a base model has no folder."""
    if run_dir is None:
        return
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    for name, result in results.items():
        durable.write_json(folder / f"{name}.json", result)


def load_for_inference(recipe: Recipe, recipe_dir: Path, run_dir: Path | None, num_tokens: int) -> tuple[Any, Any]:
    """The model in its compute type, on the accelerator when there is one; and the device.

    Args:
        num_tokens: the tokenizer's.

    Raises:
        UserError: the model cannot be loaded, or does not embed all of the tokenizer's tokens.
    """
    import torch

    from sftgo_cli.base_model import check_embeds, load_base_model, load_trained_model

    if run_dir is None:
        model: Any = load_base_model(recipe.model, recipe_dir, recipe.model.dtype)
    else:
        model = load_trained_model(run_dir, recipe.model, recipe_dir, recipe.model.dtype)
    use_cpu = recipe.training.use_cpu or not torch.accelerator.is_available()
    device = torch.device("cpu") if use_cpu else torch.accelerator.current_accelerator()
    check_embeds(model, num_tokens, f"model.name_or_path: {recipe.model.name_or_path}")
    return model.to(device).eval(), device


def with_loss_head(model: Any, where: str) -> str | None:
    """Attach the loss head and verify it; a line to be said where losses take more memory.

    Raises:
        UserError: the model is not causal.
    """
    head.attach(model.get_base_model() if hasattr(model, "get_base_model") else model)
    return head_probe.fit(model, where)
