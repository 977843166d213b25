"""The sums between two log lines: means, totals, and their state in a checkpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sftgo_cli.objectives.group_losses import GroupStatistics, LocalTerms, StepTotals
from sftgo_cli.training.window import Window


def filled(steps: int) -> Window:
    """Step s has loss s, two groups, 10 tokens of which 4 and 6 weigh in the groups."""
    window = Window(2, "cpu")
    for step in range(1, steps + 1):
        window.add_step(
            StepTotals(
                weight=torch.tensor(10.0).double(),
                row_weight=torch.tensor(2.0).double(),
                num_samples=torch.tensor(2.0).double(),
                num_tokens=torch.tensor(15.0).double(),
                group_weight_G=torch.tensor([4.0, 0.0]).double(),
            )
        )
        for _ in range(2):  # two micro-batches, half of the step each
            half = torch.tensor(step / 2).double()
            window.add_micro_batch(
                LocalTerms(loss=half, ce_loss=half * 2, worst_group_loss=half * 3),
                GroupStatistics(
                    worst_share_G=torch.tensor([0.5, 0.0]).double(),
                    tied_share=torch.tensor(0.25).double(),
                    loss_sum_G=torch.tensor([3.0, 0.0]).double(),
                    num_tokens_G=torch.tensor([2.0, 3.0]).double(),
                ),
            )
    return window


def same(vector: Any) -> Any:
    return vector


def test_means_over_steps_sums_over_the_window() -> None:
    metrics = filled(3).close(same)
    assert {key: value for key, value in metrics.items() if key != "tokens_per_second"} == pytest.approx(
        {
            "loss": 2.0,  # mean of 1, 2, 3
            "ce_loss": 4.0,
            "worst_group_loss": 6.0,
            "tied_share": 0.5,
            "worst_group_share/0": 1.0,
            "worst_group_share/1": 0.0,
            "group_loss/0": 18 / 12,  # 3 steps x 2 x 3.0 over 3 x 4.0
            "group_loss/1": None,
            "group_tokens/0": 12,
            "group_tokens/1": 18,
            "samples_seen": 6,
            "tokens_seen": 45,
        }
    )
    assert metrics["tokens_per_second"] > 0


def test_a_new_window_keeps_only_what_is_cumulative() -> None:
    window = filled(3)
    window.close(same)
    metrics = window.close(same)
    assert metrics["loss"] is None
    assert metrics["worst_group_share/0"] is None
    assert (metrics["group_tokens/0"], metrics["samples_seen"], metrics["tokens_seen"]) == (0, 6, 45)


def test_state_survives_json_exactly() -> None:
    window = filled(7)
    restored = Window(2, "cpu")
    restored.load(json.loads(json.dumps(window.state())))
    assert restored.state() == window.state()
    expected, found = window.close(same), restored.close(same)
    del expected["tokens_per_second"], found["tokens_per_second"]
    assert found == expected


def test_all_ranks_are_summed() -> None:
    metrics = filled(1).close(lambda vector: vector * 2)  # a second rank with the same shares
    assert metrics["loss"] == pytest.approx(2.0)
    assert metrics["group_loss/0"] == pytest.approx(2 * 6 / 4)  # group weights are totals over ranks already
