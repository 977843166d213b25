"""Trainer callbacks: graceful stop on a signal, early stopping that survives a resume, and the progress display."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from sftgo_cli.errors import EXIT_INTERRUPTED
from sftgo_cli.training.launch import report_exit

WIDE = 125  # columns that the bar takes with every word


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """SIGTERM or SIGINT: finish the step, save, stop (exit 75). A second signal exits at once; checkpoints stay valid.

    With several processes the wish to stop travels with the next step's totals, so that all ranks stop after the same step.
    """

    def __init__(self) -> None:
        self.trainer: Any = None
        self.stopped = False
        self._previous: dict[int, Any] = {}

    def install(self, trainer: Any) -> None:
        """Take over both signals; `restore` gives them back."""
        self.trainer = trainer
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.trainer.stop_requested:
            report_exit(EXIT_INTERRUPTED)
            os._exit(EXIT_INTERRUPTED)
        self.trainer.stop_requested = True
        name = signal.Signals(number).name
        print(f"\n{name}: finishing the step and saving; once more to stop at once", file=sys.stderr, flush=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop after this step when all ranks agreed, or when there is only one."""
        alone = args.world_size == 1 and self.trainer.stop_requested
        if self.trainer.stop_agreed or alone:
            self.stopped = state.global_step < state.max_steps
            control.should_save = True
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Within an epoch: no evaluation, log or second save that an uninterrupted run would not have here."""
        if self.stopped and state.global_step % self.trainer.step_sampler.steps_per_epoch:
            control.should_evaluate = control.should_save = control.should_log = False


class SaveAfterEvaluation(TrainerCallback):  # type: ignore[misc]
    """A save due at the last step of an epoch (or of the run) waits for what the epoch's end logs and evaluates.

    The Trainer saves after the step and then ends the epoch; resumed from such a checkpoint, it begins the next epoch: the
    evaluation between the two would be lost from metrics.jsonl, early stopping and the choice of the best model.
    Must stand behind every callback that asks for a save.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.due = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the save off where the epoch ends."""
        if state.global_step % self.steps_per_epoch == 0 or state.global_step >= state.max_steps:
            self.due = control.should_save
            control.should_save = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save now if it was put off."""
        control.should_save = control.should_save or self.due
        self.due = False


class LogLastStep(TrainerCallback):  # type: ignore[misc]
    """Close the log's last window at the last step, so that the totals of the whole run are in metrics.jsonl."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a log line after the last step."""
        if state.global_step >= state.max_steps and args.logging_strategy != "no":
            control.should_log = True


class EarlyStopping(TrainerCallback):  # type: ignore[misc]
    """Stop after `patience` evaluations in a row without an improvement of more than `threshold`.

    A function of the logged history alone, which the checkpoint keeps: a resumed run stops where the whole one would.
    """

    def __init__(self, metric: str, greater_is_better: bool, patience: int, threshold: float) -> None:
        self.metric = metric
        self.sign = 1.0 if greater_is_better else -1.0
        self.patience = patience
        self.threshold = threshold

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop when the history says so."""
        if self.exhausted(state.log_history):
            control.should_training_stop = True

    def exhausted(self, log_history: list[dict[str, Any]]) -> bool:
        """Whether `patience` evaluations have passed since the best one."""
        best, waited = float("-inf"), 0
        for value in (entry[self.metric] for entry in log_history if entry.get(self.metric) is not None):
            improved = self.sign * value > best + self.threshold
            best, waited = (self.sign * value, 0) if improved else (best, waited + 1)
        return waited >= self.patience


class Progress(TrainerCallback):  # type: ignore[misc]
    """A rich progress bar with rate and remaining time on a terminal, one plain line per logging step elsewhere."""

    def __init__(self, console: Any, bar: bool = True) -> None:
        self.console = console
        self.wants_bar = bar
        self.bar: Any = None
        self.task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar on a terminal."""
        if not (self.wants_bar and state.is_world_process_zero and self.console.is_terminal):
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        wide = self.console.width >= WIDE
        columns = (
            *([TextColumn("[bold]training")] if wide else []),
            BarColumn(bar_width=20 if wide else 8),
            MofNCompleteColumn(),
            TextColumn("steps  {task.fields[note]}" if wide else "{task.fields[note]}"),
            *([TimeElapsedColumn()] if wide else []),
            *([TextColumn("left")] if wide else []),
            TimeRemainingColumn(elapsed_when_finished=not wide),
            *([] if wide else [TextColumn("left")]),
        )
        self.bar = Bar(*columns, console=self.console)
        self.task = self.bar.add_task("train", total=state.max_steps, completed=state.global_step, note="")
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show what was logged."""
        if not state.is_world_process_zero or not logs:
            return
        line = log_line(logs, state.global_step, state.max_steps)
        if line is None:
            return
        if self.bar is not None and "ce_loss" in logs:
            self.bar.update(self.task, note=bar_note(logs, wide=self.console.width >= WIDE))
        else:
            self.console.print(line, highlight=False, soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def bar_note(logs: dict[str, Any], wide: bool) -> str:
    """What the bar says beside the steps; on a terminal of 80 columns in as few words as fit."""
    loss, worst, speed = _short(logs["loss"]), _short(logs["worst_group_loss"]), logs.get("tokens_per_second") or 0.0
    if wide:
        return f"loss {loss}  worst group {worst}  {speed:,.0f} tokens/s"
    return f"loss {loss} worst {worst} {speed:,.0f} tok/s"


def log_line(logs: dict[str, Any], step: int, max_steps: int) -> str | None:
    """One readable line of a training or evaluation log; None for anything else (the Trainer's summary)."""
    if "ce_loss" in logs:
        groups = " ".join(_short(value) for key, value in sorted(logs.items()) if key.startswith("group_loss/"))
        speed = logs.get("tokens_per_second")
        return (
            f"step {step}/{max_steps}  loss {_short(logs['loss'])}  cross-entropy {_short(logs['ce_loss'])}  "
            f"worst group {_short(logs['worst_group_loss'])}  groups 0..: {groups}  "
            f"lr {logs['learning_rate']:.2e}  {speed or 0:,.0f} tokens/s"
        )
    losses = {key[5:-5]: value for key, value in logs.items() if key.startswith("eval_") and key.endswith("_loss")}
    sets = [name for name in losses if not name.endswith("_worst_group")]
    if not sets:
        return None
    parts = [
        f"{name}: loss {_short(losses[name])}, worst group {_short(losses.get(f'{name}_worst_group'))}" for name in sets
    ]
    return f"step {step}/{max_steps}  evaluated {'; '.join(parts)}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
