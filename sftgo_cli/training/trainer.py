"""The transformers.Trainer subclass: the exact objective over the whole optimizer step, our order of rows, our log.

Overridden: the training loader (one batch sampler that is a function of seed and epoch), `get_batch_samples` (sees all
micro-batches of a step, all-reduces its totals: the step's one collective), `compute_loss` (world size x local share of
the loss), `log` (float64 window means) and `evaluate` (running sums). What it keeps in checkpoints: checkpointing.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from sftgo_cli import durable, metrics_log
from sftgo_cli.data.collation import Collator
from sftgo_cli.data.rows import TokenTable
from sftgo_cli.data.sampling import StepSampler
from sftgo_cli.errors import DivergedError
from sftgo_cli.evaluation.heldout import EvaluationSet, evaluate_set
from sftgo_cli.losses.head import reference_of
from sftgo_cli.objectives.group_losses import StepTotals, SupervisedTokens, statistics
from sftgo_cli.objectives.micro_batch import MODEL_INPUTS, local_totals, step_totals
from sftgo_cli.training.checkpointing import CheckpointingTrainer
from sftgo_cli.training.divergence import diverged
from sftgo_cli.training.objective_step import MicroBatch, StepObjective
from sftgo_cli.training.optimizer_state import averaged_weights
from sftgo_cli.training.window import Window

if TYPE_CHECKING:
    from torch import Tensor


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose `set_epoch` reaches the batch sampler; it draws nothing from the global random state."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


class SftgoTrainer(CheckpointingTrainer):
    """See the module's docstring. `rows` is the training table, `sets` the evaluation sets by name."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        rows: TokenTable,
        sampler: StepSampler,
        collator: Collator,
        objective: StepObjective,
        sets: dict[str, EvaluationSet],
        run_dir: Path,
        **kwargs: Any,
    ) -> None:
        self.rows = rows
        self.step_sampler = sampler
        self.objective = objective
        self.sets = sets
        self.run_dir = run_dir
        self.stop_requested = False  # set by a signal; agreed on by all ranks with the step's totals
        self.stop_agreed = False
        self._step_rows: list[tuple[list[str], SupervisedTokens]] = []
        self.control: Any = None
        super().__init__(
            model=model, args=args, data_collator=collator, train_dataset=rows, eval_dataset=dict(sets), **kwargs
        )
        self.window = Window(objective.num_groups, self.args.device)

    # ---- rows -------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Rank-aware already: accelerate must not shard it again, nor repeat rows to even batches out."""
        workers = self.args.dataloader_num_workers
        return EpochLoader(
            self.rows,  # type: ignore[arg-type]
            batch_sampler=self.step_sampler,
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            persistent_workers=self.args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            generator=torch.Generator().manual_seed(self.args.data_seed),  # else it draws from the training state
        )

    def num_examples(self, dataloader: Any) -> int:
        """Samples per epoch, for the Trainer's speed summary."""
        return len(self.rows)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], StepTotals]:
        """The step's micro-batches and its totals over all ranks; the stop flag travels with them."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        local = local_totals(batches, self.objective.num_groups, float(self.stop_requested))
        reduced = self.all_reduce(local.to(device))
        totals, stop_votes = step_totals(reduced)
        self.stop_agreed = stop_votes > 0
        self.window.add_step(totals)
        self._step_rows = []
        self.objective.begin(totals, self.progress, num_batches)
        if self.objective.needs_pre_pass:
            self._pre_pass(batches)
        return batches, totals

    def _pre_pass(self, batches: list[dict[str, Any]]) -> None:
        """The objective's statistics of all micro-batches, without gradients, leaving the random state untouched: the
        passes with gradients then draw the same dropout masks."""
        model = self.model_wrapped
        model.train()
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad(), self.compute_loss_context_manager():
            for batch in batches:
                inputs = self._prepare_inputs(batch)
                self.objective.observe(self.objective.tokens(self._outputs(model, inputs), inputs))
        self.objective.share_statistics()

    # ---- loss -------------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Completed steps / max(1, max_steps - 1), in [0, 1]."""
        return self._progress_at(self.state.global_step)

    def _progress_at(self, completed_steps: int) -> float:
        return min(1.0, float(completed_steps) / max(1, int(self.state.max_steps) - 1))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """World size x this micro-batch's share of the step's loss; gradients are averaged over ranks afterwards."""
        totals: StepTotals = num_items_in_batch
        scaler = self.accelerator.scaler
        scale = self.accelerator.num_processes * (1.0 if scaler is None else float(scaler.get_scale()))
        micro_batch = self.objective.micro_batch(inputs, scale)
        outputs = self._outputs(model, inputs, micro_batch)
        tokens = micro_batch.tokens(outputs["nll"])
        self.objective.finish_micro_batch(tokens, self.all_reduce)
        self.window.add_micro_batch(micro_batch.terms(), statistics(tokens, totals))
        self._step_rows.append((inputs["row_ids"], tokens))
        loss = outputs["loss"] * self.accelerator.num_processes
        if "auxiliary_loss" in outputs:  # a mean over the step's micro-batches by tokens: empty ones weigh nothing
            share = inputs["num_tokens"] / totals.num_tokens * self.accelerator.num_processes
            loss = loss + outputs["auxiliary_loss"] * share
        return (loss, outputs) if return_outputs else loss

    def _outputs(self, model: Any, inputs: dict[str, Any], micro_batch: MicroBatch | None = None) -> dict[str, Any]:
        """What the wrapped model's loss head finds: losses, and with a micro-batch also its share of the step's loss."""
        fed = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
        if micro_batch is None:
            asked: dict[str, Any] = {"terms": self.objective.head_terms}
        elif self.objective.reference is None:
            asked = {"weighing": micro_batch.weighing}
        else:
            found = reference_of(self.objective.reference, fed, inputs["labels"])
            asked = {"weighing": replace(micro_batch.weighing, reference=found)}
        outputs: dict[str, Any] = model(**fed, supervised_labels=inputs["labels"], **asked)
        return outputs

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The Trainer's gradient norm, and the last moment to stop a step that would poison the weights."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        scaled = self.accelerator.scaler is not None  # fp16: an overflow only skips the step and halves the scale
        if norm is not None and not scaled and not torch.isfinite(torch.as_tensor(norm)):
            raise diverged(float(norm), self.state.global_step + 1, self._step_rows)
        return norm

    def all_reduce(self, vector: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(vector)
        return vector

    # ---- log and evaluation -----------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Replace the Trainer's running loss by the window's float64 means and write metrics.jsonl."""
        if "loss" in logs:
            line = {
                **self.window.close(self.all_reduce),
                "mixing_weight": self.objective.mixing_weight(self._progress_at(self.state.global_step - 1)),
                "learning_rate": logs["learning_rate"],
                "grad_norm": logs.get("grad_norm"),
                "epoch": self.state.epoch,
                "step": self.state.global_step,
            }
            self._write({"event": "train", **line})
            logs = line
        super().log(logs, start_time)

    def _write(self, line: dict[str, Any]) -> None:
        if self.is_world_process_zero():
            path = self.run_dir / metrics_log.FILE_NAME
            with durable.storage_faults(path):
                metrics_log.append(path, line)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, Any]:
        """Every evaluation set, every row once, with running sums; leaves the training random state untouched."""
        metrics: dict[str, Any] = {}
        for name, evaluation_set in self.sets.items():
            with averaged_weights(self.optimizer, exact=not self._sharded()):
                measured = evaluate_set(self.model_wrapped, evaluation_set, self.args.device, self.all_reduce)
            metrics.update({f"{metric_key_prefix}_{name}_{key}": value for key, value in measured.items()})
            if measured["loss"] is not None and not math.isfinite(measured["loss"]):
                raise DivergedError(
                    f"the loss of the evaluation set {name!r} became {measured['loss']}",
                    f"step {self.state.global_step}",
                    "lower training.learning_rate or add warm-up; before step 1 the base model itself is at fault",
                )
        self._write({"event": "eval", **metrics, "epoch": self.state.epoch or 0.0, "step": self.state.global_step})
        super().log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.window.restart_clock()
        return metrics
