"""Stopping on a signal, early stopping, when a save waits, and the progress lines."""

from __future__ import annotations

import io
import os
import re
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerControl

from sftgo_cli.training.callbacks import (
    EarlyStopping,
    LogLastStep,
    Progress,
    SaveAfterEvaluation,
    StopOnSignal,
    log_line,
)


def state(step: int, max_steps: int = 10, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=max_steps, is_world_process_zero=True, **more)


def stopping(steps_per_epoch: int = 4) -> StopOnSignal:
    callback = StopOnSignal()
    callback.install(
        SimpleNamespace(
            stop_requested=False, stop_agreed=False, step_sampler=SimpleNamespace(steps_per_epoch=steps_per_epoch)
        )
    )
    return callback


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_is_given_back(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    callback = stopping()
    control = TrainerControl()
    callback.on_step_end(SimpleNamespace(world_size=1), state(1), control)
    assert not control.should_save
    os.kill(os.getpid(), number)
    callback.on_step_end(SimpleNamespace(world_size=1), state(2), control)
    callback.restore()
    assert (control.should_save, control.should_training_stop, callback.stopped) == (True, True, True)
    assert "finishing the step and saving" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_several_processes_stop_only_when_all_agreed() -> None:
    callback = stopping()
    callback.restore()
    control = TrainerControl()
    callback.trainer.stop_requested = True
    callback.on_step_end(SimpleNamespace(world_size=2), state(2), control)
    assert not control.should_training_stop
    callback.trainer.stop_agreed = True
    callback.on_step_end(SimpleNamespace(world_size=2), state(3), control)
    assert control.should_training_stop


@pytest.mark.parametrize(("step", "suppressed"), [(3, True), (4, False), (8, False)])
def test_stopped_within_an_epoch_its_end_does_nothing(step: int, suppressed: bool) -> None:
    callback = stopping(steps_per_epoch=4)
    callback.restore()
    callback.trainer.stop_requested = True
    control = TrainerControl()
    callback.on_step_end(SimpleNamespace(world_size=1), state(step), control)
    control.should_evaluate = control.should_log = True
    callback.on_epoch_end(None, state(step), control)
    assert (control.should_evaluate, control.should_log, control.should_save) == (not suppressed,) * 3


def test_the_last_step_is_no_interruption() -> None:
    callback = stopping()
    callback.restore()
    callback.trainer.stop_requested = True
    callback.on_step_end(SimpleNamespace(world_size=1), state(10), TrainerControl())
    assert not callback.stopped


@pytest.mark.parametrize(("step", "waits"), [(3, False), (4, True), (10, True)])
def test_a_save_waits_for_the_epochs_end(step: int, waits: bool) -> None:
    callback = SaveAfterEvaluation(steps_per_epoch=4)
    control = TrainerControl(should_save=True)
    callback.on_step_end(None, state(step), control)
    assert control.should_save == (not waits)
    control.should_save = False
    callback.on_epoch_end(None, state(step), control)
    assert control.should_save == waits
    control.should_save = False
    callback.on_epoch_end(None, state(step + 1), control)
    assert not control.should_save


@pytest.mark.parametrize(
    ("losses", "threshold", "exhausted"),
    [
        ([3.0, 2.0, 1.0], 0.0, False),
        ([3.0, 2.0, 2.5, 2.1], 0.0, True),
        ([3.0, 2.0, 2.5, 1.9], 0.0, False),
        ([3.0, 2.95, 2.91], 0.1, True),
        ([3.0, 3.0, 3.0], 0.0, True),  # equal is no improvement
        ([], 0.0, False),
    ],
)
def test_early_stopping_reads_the_history(losses: list[float], threshold: float, exhausted: bool) -> None:
    history: list[dict[str, Any]] = [{"loss": 1.0}, {"eval_a_loss": None}]
    history += [{"eval_a_loss": value} for value in losses]
    callback = EarlyStopping("eval_a_loss", greater_is_better=False, patience=2, threshold=threshold)
    assert callback.exhausted(history) == exhausted
    control = TrainerControl()
    callback.on_evaluate(None, state(1, log_history=history), control)
    assert control.should_training_stop == exhausted
    rising = EarlyStopping("eval_a_loss", greater_is_better=True, patience=2, threshold=0.0)
    assert rising.exhausted([{"eval_a_loss": value} for value in (0.1, 0.2, 0.3)]) is False
    assert rising.exhausted([{"eval_a_loss": value} for value in (0.3, 0.2, 0.1)]) is True


def test_the_last_step_is_logged() -> None:
    for step, strategy, logged in ((9, "steps", False), (10, "steps", True), (10, "no", False)):
        control = TrainerControl()
        LogLastStep().on_step_end(SimpleNamespace(logging_strategy=strategy), state(step), control)
        assert control.should_log == logged


TRAIN = {
    "loss": 1.5,
    "ce_loss": 1.25,
    "worst_group_loss": 2.0,
    "group_loss/0": None,
    "group_loss/1": 2.0,
    "learning_rate": 1e-4,
    "tokens_per_second": 1234.5,
}


def test_progress_lines() -> None:
    line = log_line(TRAIN, 3, 10)
    assert line == (
        "step 3/10  loss 1.500  cross-entropy 1.250  worst group 2.000  groups 0..: - 2.000  lr 1.00e-04  1,234 tokens/s"
    )
    evaluation = {"eval_a_loss": 1.0, "eval_a_worst_group_loss": 2.0, "eval_b_loss": None}
    assert (
        log_line(evaluation, 3, 10) == "step 3/10  evaluated a: loss 1.000, worst group 2.000; b: loss -, worst group -"
    )
    assert log_line({"train_runtime": 1.0}, 3, 10) is None


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_prints_lines_or_a_bar(terminal: bool) -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=terminal, width=200))
    progress.on_train_begin(None, state(0), None)
    progress.on_step_end(None, state(3), None)
    progress.on_log(None, state(3), None, logs=TRAIN)
    progress.on_log(None, state(3), None, logs={"eval_a_loss": 1.0})
    progress.on_train_end(None, state(3), None)
    assert ("training" in out.getvalue()) == terminal
    assert "evaluated a: loss 1.000" in out.getvalue()
    assert progress.bar is None


@pytest.mark.parametrize("width", [80, 125, 200])
def test_the_bar_fits_and_nothing_in_it_is_cut(width: int) -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=True, width=width))
    huge = SimpleNamespace(is_world_process_zero=True, global_step=99_000, max_steps=100_000, log_history=[])
    progress.on_train_begin(None, huge, None)
    values = {"loss": 12.345678, "worst_group_loss": 13.456789, "tokens_per_second": 1_234_567.0}
    progress.on_log(None, huge, None, logs={**TRAIN, **values})
    progress.on_train_end(None, huge, None)
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "…" not in printed
    assert all(part in printed for part in ("99000/100000", "12.346", "13.457", "1,234,567 tok", "left"))
    assert all(len(line) <= width for line in re.split(r"[\r\n]+", printed))
