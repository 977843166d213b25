"""Objectives that need the whole step, or keep a state: one micro-batch, several, and two processes train the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.equivalence.runs import largest_relative_difference, losses, metrics, run, weights

STEPS = 8
PER_STEP = 1e-6
OBJECTIVES = {
    "worst of the step": ["objective.scope=step"],
    "soft worst of the step": ["objective.aggregation=softmax", "objective.scope=step", "objective.temperature=0.2"],
    "moving average": [
        "objective.aggregation=cvar",
        "objective.scope=step",
        "objective.alpha=0.4",
        "objective.ema=0.3",
    ],
    "learned weights": ["objective.aggregation=exponentiated_gradient", "objective.eta=0.1"],
    "dft": ["objective=dft"],
}
# Plain gradient descent: Adam divides tiny gradients by their size, and with them their rounding.
SHORT = [
    f"training.max_steps={STEPS}",
    "training.optim=sgd",
    "training.learning_rate=0.1",
    "grouping.boundaries=[0.2, 0.6]",
]


def check_same(one: Path, other: Path) -> None:
    """Loss and weights within 1e-6 per step taken (of 1 nat where DFT's loss is far below: its error is that of l)."""
    assert len(losses(one)) == len(losses(other)) == STEPS
    difference = (losses(one) - losses(other)).abs() / losses(one).clamp(min=1.0)
    assert (difference <= PER_STEP * torch.arange(1, STEPS + 1)).all()
    assert largest_relative_difference(weights(one), weights(other)) <= STEPS * PER_STEP


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_micro_batch_or_several(name: str, tmp_path: Path) -> None:
    """Between forward and backward pass in one case, by a pass without gradients in the other; the fifth step is short."""
    options = [*SHORT, *OBJECTIVES[name]]
    one = run(tmp_path, "one", *options)
    split = ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=4"]
    check_same(one, run(tmp_path, "split", *options, *split))
    assert metrics(one)[-1]["grad_norm"] > 0


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_rho1_selects_over_the_whole_step(processes: int, tmp_path: Path) -> None:
    """The threshold is that of all micro-batches and ranks: the same tokens are kept however the step is split."""
    reference = run(tmp_path, "reference", "training.max_steps=4")
    options = [*SHORT, "objective=rho1", f"objective.reference={reference}", "objective.keep_fraction=0.4"]
    split = ["training.per_device_train_batch_size=2", f"training.gradient_accumulation_steps={4 // processes}"]
    one = run(tmp_path, "one", *options)
    check_same(one, run(tmp_path, "split", *options, *split, processes=processes))
    assert all(line["loss"] > line["ce_loss"] for line in metrics(one))  # the harder tokens were kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["worst of the step", "learned weights"])
def test_two_processes(name: str, tmp_path: Path) -> None:
    options = [*SHORT, *OBJECTIVES[name]]
    split = ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=2"]
    check_same(run(tmp_path, "one", *options), run(tmp_path, "ranks", *options, *split, processes=2))


def test_the_pass_before_leaves_dropout_alone(tmp_path: Path) -> None:
    """With mixing weight 0 the pass before each step decides nothing: the same losses as without it. Other dropout masks
    would change them in the second digit; what is left is that a frozen head scales its gradients before or after the
    product."""
    shared = [*SHORT[:3], "tuning=lora", "tuning.lora_dropout=0.5", "objective.mixing_weight=0"]
    split = ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=4"]
    one = run(tmp_path, "without", *shared, *split)
    other = run(tmp_path, "with", *shared, *split, "objective.scope=step")
    check_same(one, other)


def test_learned_weights_move(tmp_path: Path) -> None:
    """The logged worst-group loss is q L: with a large step size it ends near the worst group's."""
    options = [*SHORT, "objective.aggregation=exponentiated_gradient"]
    slow = metrics(run(tmp_path, "slow", *options, "objective.eta=1e-9"))[-1]
    fast = metrics(run(tmp_path, "fast", *options, "objective.eta=50"))[-1]
    means = [slow[f"group_loss/{group}"] for group in range(3)]
    assert slow["worst_group_loss"] == pytest.approx(sum(means) / 3, rel=1e-5)
    worst = max(fast[f"group_loss/{group}"] for group in range(3))
    assert fast["worst_group_loss"] == pytest.approx(worst, rel=0.2)
    assert fast["worst_group_loss"] > slow["worst_group_loss"] * 0.9
