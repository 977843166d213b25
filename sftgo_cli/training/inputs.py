"""What a rank is given to train with, and which rows and how many steps follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.data.rows import TokenTable
from sftgo_cli.data.sampling import SamplingPlan, SourceRows, StepSampler
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.run_dir import RunIdentity

if TYPE_CHECKING:
    from datasets import Dataset

    from sftgo_cli.reference_model import ReferenceModel


@dataclass(frozen=True)
class TrainingInputs:
    """Everything a rank needs: the recipe, the finished rows, how to tune, and what identifies the run."""

    recipe: Recipe
    recipe_text: str
    recipe_dir: Path
    identity: RunIdentity
    train: Sequence[Dataset]
    evaluation: dict[str, Sequence[Dataset]]
    tokenizer: Any
    template: str | None
    tuner: Any  # module of the chosen tuning method
    objective: Any  # module of the chosen objective
    reference: ReferenceModel | None  # the frozen model that the objective runs live


def step_sampler(recipe: Recipe, datasets: Sequence[Dataset], table: TokenTable, rank: int, world: int) -> StepSampler:
    """The order of rows for this rank."""
    training, starts = recipe.training, [0]
    for dataset in datasets:
        starts.append(starts[-1] + len(dataset))
    sources = tuple(
        SourceRows(start, len(dataset), source.weight)
        for start, dataset, source in zip(starts, datasets, recipe.data.train, strict=False)
    )
    plan = SamplingPlan(
        sources=sources,
        lengths=table.lengths,
        data_seed=training.seed if training.data_seed is None else training.data_seed,
        strategy=training.train_sampling_strategy,
        pack_to=recipe.data.max_length if recipe.data.packing else None,
    )
    bins_per_step = training.per_device_train_batch_size * training.gradient_accumulation_steps * world
    epochs = math.ceil(training.num_train_epochs)
    if training.max_steps > 0:
        least = StepSampler(
            plan, 1, training.per_device_train_batch_size, training.gradient_accumulation_steps, 0, world
        )
        epochs = math.ceil(training.max_steps * bins_per_step / max(1, least.num_bins)) + 1
    return StepSampler(
        plan, epochs, training.per_device_train_batch_size, training.gradient_accumulation_steps, rank, world
    )


def planned_steps(recipe: Recipe, sampler: StepSampler) -> int:
    """Optimizer steps of the whole run."""
    if recipe.training.max_steps > 0:
        return recipe.training.max_steps
    return math.ceil(recipe.training.num_train_epochs * sampler.steps_per_epoch)
