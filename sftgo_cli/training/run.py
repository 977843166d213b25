"""One rank's training run: claim the folder, load, resume from the newest valid checkpoint, train, publish the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import durable, metrics_log, run_dir
from sftgo_cli.columns import GROUP_IDS
from sftgo_cli.data.collation import Collator, needs_one_sequence, pad_token_id
from sftgo_cli.data.rows import TokenTable, loss_table
from sftgo_cli.data.sampling import SamplingPlan, SourceRows, StepSampler
from sftgo_cli.data.templates import saved_templates
from sftgo_cli.errors import InterruptedRun, StateError
from sftgo_cli.evaluation.heldout import evaluation_set
from sftgo_cli.objectives.training_facts import TrainingFacts
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.training import checkpoints
from sftgo_cli.training.arguments import first_metric, training_arguments
from sftgo_cli.training.environment import environment, versions
from sftgo_cli.training.launch import check_joined

if TYPE_CHECKING:
    from datasets import Dataset

    from sftgo_cli.reference_model import ReferenceModel
    from sftgo_cli.training.callbacks import EarlyStopping
    from sftgo_cli.training.objective_step import StepObjective
    from sftgo_cli.training.trainer import SftgoTrainer

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingInputs:
    """Everything a rank needs: the recipe, the finished rows, how to tune, and what identifies the run."""

    recipe: Recipe
    recipe_text: str
    recipe_dir: Path
    identity: run_dir.RunIdentity
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


def train(inputs: TrainingInputs, say: Say, console: Any) -> Path:
    """Train, or continue, or do nothing when the run is finished; returns the run's folder.

    Raises:
        UserError, StateError, DivergedError, EnvironmentProblem, InterruptedRun: see errors.py.
    """
    import torch

    recipe = inputs.recipe
    folder = run_dir.check_output_dir(recipe.training.output_dir)
    args = training_arguments(recipe, folder, resuming=bool(checkpoints.checkpoints(folder)))
    check_joined(args.world_size)
    main = args.process_index == 0
    with run_dir.claimed(folder) if main else nullcontext():
        changed = run_dir.check_same_run(folder, inputs.identity)
        stages = run_dir.read_stages(folder)
        finished = stages is not None and stages["finished_steps"] is not None
        grows = any(line.startswith(("training.max_steps", "training.num_train_epochs")) for line in changed)
        if finished and not grows:
            say(f"{folder} is finished after {stages['finished_steps']} steps; nothing to do")  # type: ignore[index]
            return folder
        for line in changed:
            say(f"changed since the last start: {line}")
        if args.world_size > 1:
            torch.distributed.barrier()  # every rank has read the old state
        if main:
            with durable.storage_faults(folder):
                durable.sweep_partial(folder)
                run_dir.write_run_files(folder, inputs.identity, inputs.recipe_text, environment())
        if args.world_size > 1:
            torch.distributed.barrier()  # what a kill left half-done is put right: every rank finds the same checkpoint
        checkpoint = checkpoints.newest_valid(folder, say)
        if finished and checkpoint is None:
            raise StateError("the finished run has no checkpoint to continue from", str(folder), "train a new run")
        if stages is not None and checkpoint is None:
            say("the run in the folder has no checkpoint yet; starting from step 0")
        _train_from(inputs, args, folder, checkpoint, say, console)
    return folder


def _train_from(
    inputs: TrainingInputs, args: Any, folder: Path, checkpoint: Path | None, say: Say, console: Any
) -> None:
    from sftgo_cli.training.callbacks import StopOnSignal

    step = (checkpoints.checkpoint_step(checkpoint) or 0) if checkpoint is not None else 0
    if args.process_index == 0:
        with durable.storage_faults(folder / metrics_log.FILE_NAME):
            metrics_log.keep_until(folder / metrics_log.FILE_NAME, step)
    if checkpoint is not None:
        say(f"resuming from {checkpoint.name}")
    stop = StopOnSignal()
    trainer = _trainer(inputs, args, folder, stop, say, console)
    stop.install(trainer)
    try:
        total = planned_steps(inputs.recipe, trainer.step_sampler)
        if checkpoint is not None and (step >= total or _stopped_early(inputs.recipe, args, checkpoint)):
            _load_finished(trainer, checkpoint, folder)
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    finally:
        stop.restore()
    if stop.stopped:
        raise InterruptedRun(
            f"interrupted after step {trainer.state.global_step}", str(folder), "run the same command to continue"
        )
    with durable.storage_faults(folder):
        _publish(inputs, trainer, folder)


def _early_stopping(recipe: Recipe, args: Any) -> EarlyStopping | None:
    from sftgo_cli.training.callbacks import EarlyStopping

    patience = recipe.training.early_stopping_patience
    if patience is None:
        return None
    metric = str(args.metric_for_best_model or first_metric(recipe))
    return EarlyStopping(metric, bool(args.greater_is_better), patience, recipe.training.early_stopping_threshold)


def _stopped_early(recipe: Recipe, args: Any, checkpoint: Path) -> bool:
    """Whether early stopping had ended the run at this checkpoint: then it is done, and must not train on."""
    from transformers import TrainerState

    stopping = _early_stopping(recipe, args)
    if stopping is None:
        return False
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return stopping.exhausted(state.log_history)


def _trainer(inputs: TrainingInputs, args: Any, folder: Path, stop: Any, say: Say, console: Any) -> SftgoTrainer:
    from transformers import PrinterCallback

    from sftgo_cli.training.callbacks import LogLastStep, Progress, SaveAfterEvaluation
    from sftgo_cli.training.model import load_model, mixed_type, num_logits, probe_model
    from sftgo_cli.training.objective_step import asked
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
    stopping = _early_stopping(recipe, args)
    callbacks: list[Any] = [stop, LogLastStep(), Progress(console), *([stopping] if stopping else [])]
    callbacks.append(SaveAfterEvaluation(sampler.steps_per_epoch))
    model = load_model(inputs)
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
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    probed = probe_model(trainer.model, recipe, pad_id, mixed_type(args), say)
    if recipe.data.packing and not probed.isolates:
        del trainer, model, objective  # two models would not fit
        data = recipe.data.model_copy(update={"packing": False})
        unpacked = replace(inputs, recipe=recipe.model_copy(update={"data": data}))
        return _trainer(unpacked, args, folder, stop, say, console)
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


def _load_finished(trainer: SftgoTrainer, checkpoint: Path, folder: Path) -> None:
    """The last step was saved, after its evaluation, and the run then killed: only the model is left to publish."""
    from transformers import TrainerState

    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if trainer.state.best_global_step:  # by its number: the folder may have moved
        trainer.state.best_model_checkpoint = str(folder / f"checkpoint-{trainer.state.best_global_step}")
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def _publish(inputs: TrainingInputs, trainer: SftgoTrainer, folder: Path) -> None:
    """The model's files to the run's root, each renamed into place; stages.json says last that the run is finished."""
    from sftgo_cli.training.hub import upload_run
    from sftgo_cli.training.model_card import model_card

    partial = folder / f"{durable.PARTIAL_PREFIX}model"
    trainer.save_model(str(partial), _internal_call=True)
    if trainer.args.process_index == 0:
        lines = metrics_log.read_metrics(folder / metrics_log.FILE_NAME)
        evaluations = [line for line in lines if line["event"] == "eval"]
        (partial / "README.md").write_text(
            model_card(inputs.identity.recipe, evaluations, versions()), encoding="utf-8"
        )
        for path in durable.files_below(partial):
            durable.fsync_path(path)
            target = folder / path.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        durable.sweep_partial(folder)
        durable.fsync_path(folder)
        stages = run_dir.stages_of(inputs.identity, finished_steps=trainer.state.global_step)
        durable.write_json(folder / run_dir.STAGES, stages)
    trainer.accelerator.wait_for_everyone()
    if inputs.recipe.training.push_to_hub and trainer.args.process_index == 0:
        upload_run(folder, inputs.recipe.training)
