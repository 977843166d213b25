"""The Trainer's way with checkpoints, replaced: written beside and published whole, without pickle, resumed exactly."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from transformers import Trainer

from sftgo_cli import durable, metrics_log
from sftgo_cli.errors import StateError
from sftgo_cli.new_tokens import saves_embeddings
from sftgo_cli.training import checkpoints
from sftgo_cli.training.objective_step import StepObjective
from sftgo_cli.training.optimizer_state import (
    averaged_weights,
    holds_averaged_weights,
    load_optimizer,
    save_optimizer,
)
from sftgo_cli.training.window import Window
from sftgo_cli.tuning.adapter_file import name_magnitudes


class CheckpointingTrainer(Trainer):  # type: ignore[misc]
    """Saves and resumes a run in `run_dir`: model, optimizer, schedule, and each rank's random state, `window` and
    `objective`."""

    run_dir: Path
    window: Window
    objective: StepObjective
    control: Any

    def _sharded(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Model and tokenizer as safetensors; unlike the Trainer's, no pickled training_args.bin.

        Raises:
            DivergedError: a weight is not finite: the last step's update overflowed.
        """
        checkpoints.check_finite(self.model, self.state.global_step)
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        with averaged_weights(self.optimizer, exact=not self._sharded()), warnings.catch_warnings():
            # peft looks for a resized vocabulary; an adapter's folder as base has none
            warnings.filterwarnings("ignore", message="Could not find a config file in")
            whole = {"save_embedding_layers": True} if saves_embeddings(model) else {}
            model.save_pretrained(folder, state_dict=state_dict, **whole)
        name_magnitudes(Path(folder))
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write beside, publish atomically, then rotate; every rank writes its own random state and window.

        Raises:
            EnvironmentProblem: the disk is full or failing; the checkpoints before are untouched.
            DivergedError: a weight is not finite.
        """
        target = self.run_dir / f"checkpoint-{self.state.global_step}"
        partial = self.run_dir / f"{durable.PARTIAL_PREFIX}{target.name}"
        try:
            with durable.storage_faults(target, checkpoints.num_bytes(self.model, self.optimizer)):
                self._write_checkpoint(partial, target)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self.window.restart_clock()

    def _write_checkpoint(self, partial: Path, target: Path) -> None:
        step = self.state.global_step
        if self.is_world_process_zero():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            log = self.run_dir / metrics_log.FILE_NAME
            if log.exists():  # a power failure that the checkpoint survives must not take lines before it
                durable.fsync_path(log)
        self.accelerator.wait_for_everyone()
        self.store_flos()
        self.save_model(str(partial), _internal_call=True)
        if self._sharded():
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
        elif self.is_world_process_zero():
            save_optimizer(partial, self.optimizer)
            checkpoints.save_scheduler(partial, self.lr_scheduler, self.accelerator.scaler)
        kept = {"window": self.window.state(), "objective": self.objective.saved_state()}
        checkpoints.save_rank_state(partial, self.args.process_index, kept)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            if self.state.best_global_step:
                self.state.best_model_checkpoint = str(self.run_dir / f"checkpoint-{self.state.best_global_step}")
            self.state.save_to_json(str(partial / "trainer_state.json"))
            durable.publish_folder(partial, target, {"step": step, "world_size": self.args.world_size})
            checkpoints.rotate(self.run_dir, self.args.save_total_limit, self.state.best_model_checkpoint, target)
        self.accelerator.wait_for_everyone()

    def _determine_best_metric(self, metrics: dict[str, Any], trial: Any) -> bool:
        """The Trainer's; a new best model that is asked for is saved, also where no save is due: else it would be lost."""
        best = bool(super()._determine_best_metric(metrics, trial))
        if best and self.args.load_best_model_at_end:
            self.control.should_save = True
        return best or bool(self.control.should_save)  # with save_strategy: best, it decides alone: a stop saves too

    def _load_best_model(self) -> None:
        """The Trainer's, which would keep the last model without a word where the best one is missing or damaged.

        Raises:
            StateError: the best checkpoint is damaged.
        """
        best = Path(str(self.state.best_model_checkpoint))
        faults = durable.manifest_faults(best)
        if faults:
            raise StateError(
                f"the best checkpoint is damaged: {faults[0]}",
                str(best),
                "set training.load_best_model_at_end=false to end with the last model",
            )
        super()._load_best_model()
        holds_averaged_weights(self.optimizer)

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """The Trainer's, which would go on with the intervals of logging, evaluation and saving that the checkpoint has."""
        position: tuple[int, int] = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)
        return position

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            # Not with the random state: the Trainer restores that only after it has drawn the first step's rows.
            kept = checkpoints.read_rank_state(Path(checkpoint), self.args.process_index)
            self.window.load(kept["window"])
            self.objective.load_state(kept.get("objective", {}))
        if checkpoint is None or self._sharded():
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        load_optimizer(Path(checkpoint), self.optimizer)
        checkpoints.load_scheduler(Path(checkpoint), self.lr_scheduler, self.accelerator.scaler)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if self._sharded():
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.restore_random_state(Path(checkpoint), self.args.process_index)
