"""Every aggregation and scope: 90 steps computed elsewhere, split in any way; limits; definitions; state over steps."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sftgo_cli.objectives import aggregation, sft_go
from sftgo_cli.objectives.training_facts import TrainingFacts
from tests.objectives.reference import cases, step_over
from tests.objectives.test_sft_go import random_samples

CASES = cases("objective_cases.json")
INF = torch.inf


def options_of(case: dict[str, Any]) -> sft_go.Options:
    """The case's recipe options."""
    keys = {"mixing_weight", "aggregation", "scope", "temperature", "alpha"} & case.keys()
    return sft_go.Options(**{key: case[key] for key in keys})


def facts(counts: list[int]) -> TrainingFacts:
    """Facts that only know the groups' sizes."""
    return TrainingFacts(lambda: torch.tensor(counts).numpy(), lambda name: torch.zeros(0).numpy(), 7)


def splits(samples: list[dict[str, Any]], seed: str) -> dict[str, list[list[int]]]:
    """Ways to cut a step's samples into micro-batches, in any order and with empty ones."""
    order = list(range(len(samples)))
    shuffled = random.Random(seed).sample(order, len(order))
    middle = len(order) // 2
    return {
        "whole": [order],
        "one by one": [[index] for index in order],
        "two, shuffled": [shuffled[:middle], shuffled[middle:]],
        "three, one empty": [shuffled[:1], [], shuffled[1:]],
    }


def test_there_are_ninety_cases() -> None:
    assert len(CASES) == 90


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['aggregation']}-{case['scope']}")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reference_case_split_in_any_way(case: dict[str, Any], dtype: torch.dtype) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    samples, expected = case["samples"], case["expected"]
    state = {"q": torch.tensor(case["q"], dtype=torch.float64)} if "q" in case else None
    for name, split in splits(samples, case["name"]).items():
        parts = [[samples[index] for index in part] for part in split]
        summed, gradients = step_over(sft_go, options_of(case), parts, case["num_groups"], state, dtype)
        for key, value in summed.items():
            assert value == pytest.approx(expected[key], rel=tolerance, abs=tolerance), (name, key)
        wanted = torch.tensor([v for part in split for i in part for v in expected["gradient"][i]], dtype=torch.float64)
        got = torch.cat(gradients).double()
        assert float((got - wanted).norm() / wanted.norm()) <= tolerance, name


def rows(*losses: list[float]) -> torch.Tensor:
    """Losses of samples, float64[S, G]."""
    return torch.tensor(losses, dtype=torch.float64)


LOSSES = rows([1.0, 3.0, 2.0], [2.0, -INF, 2.0], [-INF, -INF, 0.5])
WEIGHTS = rows([2.0, 1.0, 1.0], [3.0, 0.0, 1.0], [0.0, 0.0, 2.0])


def test_softmax_limits() -> None:
    worst, means = [3.0, 2.0, 0.5], [2.0, 2.0, 0.5]
    assert aggregation.softmax(LOSSES, 1e-4).tolist() == pytest.approx(worst, abs=1e-3)
    assert aggregation.softmax(LOSSES, 1e-300).tolist() == pytest.approx(worst, abs=1e-12)
    assert aggregation.softmax(LOSSES, 1e9).tolist() == pytest.approx(means, rel=1e-8)


def test_cvar_limits() -> None:
    token_means = [(2.0 * 1 + 3 + 2) / 4, 2.0, 0.5]
    assert aggregation.cvar(LOSSES, WEIGHTS, 1.0).tolist() == pytest.approx(token_means, rel=1e-14)
    assert aggregation.cvar(LOSSES, WEIGHTS, 1e-300).tolist() == [3.0, 2.0, 0.5]
    # The worst 40 % of the first row: its 25 % of loss 3, then 15 % of loss 2.
    assert aggregation.cvar(LOSSES, WEIGHTS, 0.4)[0].item() == pytest.approx((0.25 * 3 + 0.15 * 2) / 0.4, rel=1e-14)


def test_cvar_ties_share_in_proportion_to_their_weight() -> None:
    losses = rows([2.0, 2.0, 1.0]).requires_grad_(True)
    aggregation.cvar(losses, rows([3.0, 1.0, 4.0]), 0.25).sum().backward()
    assert losses.grad is not None
    assert losses.grad[0].tolist() == pytest.approx([0.75, 0.25, 0.0], rel=1e-14)


@pytest.mark.parametrize("kind", ["softmax", "cvar"])
def test_slopes_are_weights_and_agree_with_finite_differences(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    losses = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    losses[0, 1] = losses[2, :3] = -INF
    weight = torch.where(torch.isfinite(losses), torch.rand(6, 4, generator=generator, dtype=torch.float64) + 0.1, 0.0)

    def worst(values: torch.Tensor) -> torch.Tensor:
        return aggregation.softmax(values, 0.3) if kind == "softmax" else aggregation.cvar(values, weight, 0.37)

    leaf = losses.clone().requires_grad_(True)
    worst(leaf).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad >= 0).all()
    assert leaf.grad.sum(dim=1).tolist() == pytest.approx([1.0] * 6, rel=1e-12)
    for sample, group in torch.nonzero(torch.isfinite(losses)).tolist():
        moved = [losses.clone(), losses.clone()]
        moved[0][sample, group] += 1e-6
        moved[1][sample, group] -= 1e-6
        slope = float((worst(moved[0]) - worst(moved[1])).sum() / 2e-6)
        assert float(leaf.grad[sample, group]) == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("scope", ["sample", "step"])
def test_limits_reach_max_and_the_token_mean_through_the_objective(scope: str) -> None:
    samples = random_samples(21, num_groups=4)
    whole = [samples]
    hard, hard_gradient = step_over(sft_go, sft_go.Options(mixing_weight=1.0, scope=scope), whole, 4)
    for near in ({"aggregation": "softmax", "temperature": 1e-7}, {"aggregation": "cvar", "alpha": 1e-12}):
        options = sft_go.Options(mixing_weight=1.0, scope=scope, **near)
        soft, gradient = step_over(sft_go, options, whole, 4)
        assert soft["loss"] == pytest.approx(hard["loss"], abs=1e-5)
        assert torch.allclose(gradient[0], hard_gradient[0], atol=1e-9)
    if scope == "step":  # alpha 1 is the step's token mean: exactly cross-entropy
        options = sft_go.Options(mixing_weight=1.0, scope=scope, aggregation="cvar", alpha=1.0)
        mean, gradient = step_over(sft_go, options, whole, 4)
        plain, plain_gradient = step_over(sft_go, sft_go.Options(mixing_weight=0.0), whole, 4)
        assert mean["loss"] == pytest.approx(plain["loss"], rel=1e-13)
        assert torch.allclose(gradient[0], plain_gradient[0], rtol=1e-12)


def test_step_scope_pools_the_groups_over_samples() -> None:
    """Worst of pooled means, by hand: group 0 has (1 + 3) / 2, group 1 (0.5 + 4) / 2."""
    samples = [
        {"nll": [1.0, 0.5], "group_ids": [0, 1], "token_weights": [1.0, 1.0], "row_weight": 1.0},
        {"nll": [3.0, 4.0], "group_ids": [0, 1], "token_weights": [1.0, 1.0], "row_weight": 1.0},
    ]
    summed, gradients = step_over(
        sft_go, sft_go.Options(mixing_weight=1.0, scope="step"), [samples[:1], samples[1:]], 2
    )
    assert summed["loss"] == pytest.approx(2.25, rel=1e-14)
    assert torch.cat(gradients).tolist() == pytest.approx([0.0, 0.5, 0.0, 0.5], rel=1e-14)


def test_exponentiated_gradient_over_steps_equals_the_definition() -> None:
    """q_k exp(eta (L_k + C / sqrt(n_k))), renormalized; the loss of a step uses the q before it."""
    options = sft_go.Options(mixing_weight=1.0, aggregation="exponentiated_gradient", eta=0.5, size_adjustment=2.0)
    sizes = [100, 25, 4]
    state = sft_go.initial_state(options, 3, facts(sizes))
    q = [1 / 3] * 3
    for losses in ([1.0, 2.0, 0.5], [0.3, 4.0, 1.0]):
        samples = [{"nll": losses, "group_ids": [0, 1, 2], "token_weights": [1.0] * 3, "row_weight": 1.0}]
        summed, _ = step_over(sft_go, options, [samples], 3, state)
        assert summed["loss"] == pytest.approx(sum(a * b for a, b in zip(q, losses, strict=True)), rel=1e-14)
        grown = [w * math.exp(0.5 * (v + 2 / math.sqrt(n))) for w, v, n in zip(q, losses, sizes, strict=True)]
        q = [value / sum(grown) for value in grown]
        state = sft_go.next_state(state, torch.tensor(losses, dtype=torch.float64), options)
        assert state["q"].tolist() == pytest.approx(q, rel=1e-13)


def test_an_empty_group_keeps_its_q_and_huge_losses_do_not_overflow() -> None:
    q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    grown = aggregation.grown_weights(q, torch.tensor([1.0, -INF, 1.0], dtype=torch.float64), 0.7)
    assert grown.tolist() == pytest.approx([0.2, 0.5, 0.3], rel=1e-14)
    grown = aggregation.grown_weights(q, torch.tensor([1e6, -INF, 0.0], dtype=torch.float64), 10.0)
    assert grown.tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-300)
    assert torch.equal(aggregation.grown_weights(q, torch.full((3,), -INF, dtype=torch.float64), 1.0), q)


def test_a_moving_average_orders_the_groups() -> None:
    """Group 1 was far worse before: it stays first although this step's loss of group 0 is larger."""
    options = sft_go.Options(mixing_weight=1.0, aggregation="cvar", alpha=0.5, ema=0.1, scope="step")
    state = sft_go.initial_state(options, 2, facts([1, 1]))
    state = sft_go.next_state(state, torch.tensor([1.0, 9.0], dtype=torch.float64), options)
    assert state["average"].tolist() == [1.0, 9.0]
    samples = [{"nll": [2.0, 1.0], "group_ids": [0, 1], "token_weights": [1.0, 1.0], "row_weight": 1.0}]
    summed, gradients = step_over(sft_go, options, [samples], 2, state)
    assert gradients[0].tolist() == pytest.approx([0.0, 1.0])
    assert summed["loss"] == pytest.approx(1.0)
    state = sft_go.next_state(state, torch.tensor([2.0, -INF], dtype=torch.float64), options)
    assert state["average"].tolist() == pytest.approx([0.9 * 1.0 + 0.1 * 2.0, 9.0])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"aggregation": "exponentiated_gradient", "scope": "sample"}, "scope must be step"),
        ({"aggregation": "max", "temperature": 0.5}, "belongs to softmax"),
        ({"aggregation": "softmax", "alpha": 0.5}, "belongs to cvar"),
        ({"aggregation": "cvar", "ema": 0.1}, "needs scope: step"),
        ({"aggregation": "cvar", "alpha": 0.0}, "greater than 0"),
    ],
)
def test_options_that_contradict_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        sft_go.Options(**values)
