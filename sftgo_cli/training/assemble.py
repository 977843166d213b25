"""Puts a rank's trainer together: the model, probed; rows, objective, optimizer, callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.columns import GROUP_IDS
from sftgo_cli.data.collation import Collator, needs_one_sequence, pad_token_id
from sftgo_cli.data.rows import TokenTable, loss_table
from sftgo_cli.data.templates import saved_templates
from sftgo_cli.evaluation.heldout import evaluation_set
from sftgo_cli.objectives.training_facts import TrainingFacts
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.training.inputs import TrainingInputs, planned_steps, step_sampler

if TYPE_CHECKING:
    from sftgo_cli.training.callbacks import EarlyStopping
    from sftgo_cli.training.objective_step import StepObjective
    from sftgo_cli.training.trainer import SftgoTrainer

Say = Callable[[str], None]


def early_stopping(recipe: Recipe, args: Any) -> EarlyStopping | None:
    from sftgo_cli.training.callbacks import EarlyStopping

    patience = recipe.training.early_stopping_patience
    if patience is None:
        return None
    metric = str(args.metric_for_best_model)
    return EarlyStopping(metric, bool(args.greater_is_better), patience, recipe.training.early_stopping_threshold)


def _callbacks(recipe: Recipe, args: Any, stop: Any, console: Any, steps_per_epoch: int) -> list[Any]:
    """The run's own callbacks, in their order: what puts a save off stands behind what asks for one."""
    from sftgo_cli.training.callbacks import LogLastStep, Progress, SaveAfterEvaluation

    stopping = early_stopping(recipe, args)
    progress = Progress(console, bar=not recipe.training.disable_tqdm)
    return [stop, LogLastStep(), progress, *([stopping] if stopping else []), SaveAfterEvaluation(steps_per_epoch)]


def build_trainer(inputs: TrainingInputs, args: Any, folder: Path, stop: Any, say: Say, console: Any) -> SftgoTrainer:
    """The trainer of this rank, ready to train.

    Raises:
        UserError, EnvironmentProblem: the model, the tuner or the optimizer does not go with the recipe.
    """
    from transformers import PrinterCallback

    from sftgo_cli.training.model import load_model, mixed_type, num_logits, probe_model, unpacked
    from sftgo_cli.training.objective_step import asked
    from sftgo_cli.training.optimizers import class_and_arguments
    from sftgo_cli.training.tile_compilation import tokens_per_epoch, worth_compiling
    from sftgo_cli.training.trainer import SftgoTrainer

    recipe, rank, world = inputs.recipe, args.process_index, args.world_size
    pad_id = pad_token_id(inputs.tokenizer)
    options = recipe.objective.options
    columns = (
        asked(inputs.objective, "token_columns", options),
        asked(inputs.objective, "source_row_columns", options),
    )
    table = loss_table(inputs.train, *columns)
    sampler = step_sampler(recipe, inputs.train, table, rank, world)
    model = load_model(inputs, say)
    objective = _objective(inputs, table, model, args.device)
    tokens_per_step = tokens_per_epoch(table, inputs.train, recipe) / sampler.steps_per_epoch / world
    objective.compile_tiles = worth_compiling(
        planned_steps(recipe, sampler) * tokens_per_step,
        num_logits(model),
        args.device.type,
    )
    collator = Collator(pad_id, recipe.data.packing, None, needs_one_sequence(model.config), *columns)
    trainer = SftgoTrainer(
        model=model,
        args=args,
        rows=table,
        sampler=sampler,
        collator=collator,
        objective=objective,
        sets={
            name: evaluation_set(datasets, recipe, pad_id, rank, world) for name, datasets in inputs.evaluation.items()
        },
        run_dir=folder,
        processing_class=inputs.tokenizer,
        callbacks=_callbacks(recipe, args, stop, console, sampler.steps_per_epoch),
        optimizer_cls_and_kwargs=class_and_arguments(args, recipe.training, planned_steps(recipe, sampler)),
    )
    trainer.remove_callback(PrinterCallback)
    probed = probe_model(trainer.model, recipe, pad_id, mixed_type(args), say)
    if recipe.data.packing and not probed.isolates:
        del trainer, model, objective  # two models would not fit
        return build_trainer(replace(inputs, recipe=unpacked(recipe)), args, folder, stop, say, console)
    if probed.isolates and args.neftune_noise_alpha is None:
        collator.padding_free_width = getattr(model.config.get_text_config(), "hidden_size", None)
    if inputs.template is not None:
        # Saved with the model, so that generation uses the same.
        inputs.tokenizer.chat_template = saved_templates(inputs.template, inputs.tokenizer)
    return trainer


def _objective(inputs: TrainingInputs, table: TokenTable, model: Any, device: Any) -> StepObjective:
    import numpy as np

    from sftgo_cli.training.model import num_logits
    from sftgo_cli.training.objective_reference import open_reference
    from sftgo_cli.training.objective_step import StepObjective

    options = inputs.recipe.objective.options
    num_groups = inputs.recipe.grouping.num_groups()

    def count_tokens() -> Any:
        counts = [
            np.bincount(chunk.columns[GROUP_IDS][chunk.supervised], minlength=num_groups) for chunk in table.chunks()
        ]
        return np.sum(counts, axis=0)

    def row_values(name: str) -> Any:
        return np.array([value for chunk in table.chunks() for value in chunk.columns[name]], dtype=np.float64)

    facts = TrainingFacts(count_tokens, row_values, num_logits(model))
    found = inputs.reference
    reference = None if found is None else open_reference(found, inputs.recipe.model.dtype, device)
    return StepObjective(inputs.objective, options, num_groups, facts, reference)
