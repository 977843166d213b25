"""One rank's training run: claim the folder, load, resume from the newest valid checkpoint, train, publish the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import durable, metrics_log, run_dir
from sftgo_cli.errors import InterruptedRun, StateError
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.training import checkpoints
from sftgo_cli.training.arguments import training_arguments
from sftgo_cli.training.assemble import build_trainer, early_stopping
from sftgo_cli.training.environment import environment, versions
from sftgo_cli.training.inputs import TrainingInputs, planned_steps
from sftgo_cli.training.launch import check_joined

if TYPE_CHECKING:
    from sftgo_cli.training.trainer import SftgoTrainer

Say = Callable[[str], None]


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
        if stages is not None and checkpoint is None and run_dir.has_begun(folder, stages):
            say("the run in the folder has no checkpoint yet; starting from step 0")
        say(f"loading the model {recipe.model.name_or_path}")
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
    trainer = build_trainer(inputs, args, folder, stop, say, console)
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
    if args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
        say(
            "no evaluation chose a best model: the last one is kept; see training.eval_strategy, eval_steps and eval_delay"
        )
    with durable.storage_faults(folder):
        _publish(inputs, trainer, folder)


def _stopped_early(recipe: Recipe, args: Any, checkpoint: Path) -> bool:
    """Whether early stopping had ended the run at this checkpoint: then it is done, and must not train on."""
    from transformers import TrainerState

    stopping = early_stopping(recipe, args)
    if stopping is None:
        return False
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return stopping.exhausted(state.log_history)


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
        if (partial / "adapter_config.json").is_file():  # peft saves none, and the adapter's turns end where these say
            trainer.accelerator.unwrap_model(trainer.model).generation_config.save_pretrained(partial)
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
