"""SFT-GO's loss and gradient against cases computed elsewhere, its definition, and its limits."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from sftgo_cli.objectives import cross_entropy, sft_go
from sftgo_cli.objectives.group_losses import Step, StepTotals, group_losses, statistics, worst_group
from tests.objectives.reference import cases, expected_loss, tokens_of, totals_of

CASES = [case for case in cases("objective_cases.json") if (case["aggregation"], case["scope"]) == ("max", "sample")]


def random_samples(seed: int, num_samples: int = 7, num_groups: int = 3) -> list[dict[str, Any]]:
    generator = random.Random(seed)
    samples = []
    for _ in range(num_samples):
        length = generator.randint(1, 13)
        samples.append(
            {
                "nll": [generator.expovariate(0.5) for _ in range(length)],
                "group_ids": [generator.randrange(num_groups) for _ in range(length)],
                "token_weights": [generator.choice([0.25, 1.0, 2.0]) for _ in range(length)],
                "row_weight": generator.choice([0.5, 1.0, 3.0]),
            }
        )
    return samples


def loss_and_gradient(
    samples: list[dict[str, Any]], totals: StepTotals, num_groups: int, mixing: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, nll = tokens_of(samples, num_groups, dtype)
    terms = sft_go.local_loss(tokens, Step(totals), sft_go.Options(mixing_weight=mixing))
    terms.loss.backward()
    assert nll.grad is not None
    return terms.loss.detach(), nll.grad


def test_there_are_cases() -> None:
    assert len(CASES) == 10


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reference_case(case: dict[str, Any], dtype: torch.dtype) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    totals = totals_of(case["samples"], case["num_groups"])
    tokens, nll = tokens_of(case["samples"], case["num_groups"], dtype)
    terms = sft_go.local_loss(tokens, Step(totals), sft_go.Options(mixing_weight=case["mixing_weight"]))
    terms.loss.backward()
    expected = case["expected"]
    for value, name in ((terms.loss, "loss"), (terms.ce_loss, "ce_loss"), (terms.worst_group_loss, "worst_group_loss")):
        assert value.item() == pytest.approx(expected[name], rel=tolerance, abs=tolerance)
    gradient = torch.tensor([v for sample in expected["gradient"] for v in sample], dtype=torch.float64)
    assert nll.grad is not None
    assert float((nll.grad.double() - gradient).norm() / gradient.norm()) <= tolerance


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mixing", [0.0, 0.3, 0.9, 1.0])
def test_equals_the_definition(seed: int, mixing: float) -> None:
    samples = random_samples(seed)
    loss, _ = loss_and_gradient(samples, totals_of(samples, 3), 3, mixing, torch.float64)
    assert float(loss) == pytest.approx(expected_loss(samples, mixing), rel=1e-13)


def test_gradient_equals_finite_differences() -> None:
    samples = random_samples(11)
    totals = totals_of(samples, 3)
    _, gradient = loss_and_gradient(samples, totals, 3, 0.9, torch.float64)
    position = 0
    for sample in samples:
        for index in range(len(sample["nll"])):
            kept = sample["nll"][index]
            values = []
            for step in (1e-6, -1e-6):
                sample["nll"][index] = kept + step
                values.append(expected_loss(samples, 0.9))
            sample["nll"][index] = kept
            assert float(gradient[position]) == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-8)
            position += 1


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_any_split_of_a_step_adds_up_to_the_whole(parts: int) -> None:
    samples = random_samples(3)
    totals = totals_of(samples, 3)
    whole, whole_gradient = loss_and_gradient(samples, totals, 3, 0.9, torch.float64)
    pieces = [samples[part::parts] for part in range(parts)]
    results = [loss_and_gradient(piece, totals, 3, 0.9, torch.float64) for piece in pieces]
    assert float(sum(loss for loss, _ in results)) == pytest.approx(float(whole), rel=1e-13)
    split_gradient = torch.cat([gradient for _, gradient in results])
    assert sorted(split_gradient.tolist()) == pytest.approx(sorted(whole_gradient.tolist()), rel=1e-13)


def test_weight_of_a_token_is_the_papers() -> None:
    """Relative to 1/N: (1-m) + m N/(B n) inside the worst group, 1-m outside; 3.1 and 0.1 at 30 %, m 0.9."""
    length, important, num_samples = 10, 3, 4
    samples = [
        {
            "nll": [2.0] * important + [1.0] * (length - important),
            "group_ids": [1] * important + [0] * (length - important),
            "token_weights": [1.0] * length,
            "row_weight": 1.0,
        }
        for _ in range(num_samples)
    ]
    _, gradient = loss_and_gradient(samples, totals_of(samples, 2), 2, 0.9, torch.float64)
    relative = gradient.view(num_samples, length) * (num_samples * length)
    assert relative[:, :important].flatten().tolist() == pytest.approx([3.1] * important * num_samples)
    assert relative[:, important:].flatten().tolist() == pytest.approx([0.1] * (length - important) * num_samples)


def test_exact_ties_share_the_gradient_equally() -> None:
    samples = [{"nll": [2.0, 2.0, 1.0], "group_ids": [0, 1, 2], "token_weights": [1.0] * 3, "row_weight": 1.0}]
    totals = totals_of(samples, 3)
    _, gradient = loss_and_gradient(samples, totals, 3, 1.0, torch.float64)
    assert gradient.tolist() == [0.5, 0.5, 0.0]
    tokens, _ = tokens_of(samples, 3)
    logged = statistics(tokens, totals)
    assert logged.worst_share_G.tolist() == [0.5, 0.5, 0.0]
    assert float(logged.tied_share) == 1.0


def test_an_empty_group_never_enters_the_maximum() -> None:
    """Negative losses (impossible for a nll, possible for a bug) would lose against an empty group's zero."""
    samples = [{"nll": [-3.0, -2.0], "group_ids": [0, 0], "token_weights": [1.0, 1.0], "row_weight": 1.0}]
    tokens, _ = tokens_of(samples, 4)
    losses = group_losses(tokens)
    assert worst_group(losses).item() == -2.5
    assert torch.isinf(losses[0, 1:]).all()


def test_an_empty_micro_batch_is_an_exact_zero_attached_to_the_graph() -> None:
    hidden = torch.randn(0, 4, requires_grad=True)
    tokens, _ = tokens_of([], 2)
    tokens = replace(tokens, nll_N=hidden.sum(dim=1))
    totals = totals_of(random_samples(1), 3)
    terms = sft_go.local_loss(tokens, Step(totals), sft_go.Options())
    assert terms.loss.item() == 0.0
    terms.loss.backward()
    assert hidden.grad is not None


def test_one_group_makes_the_worst_group_the_samples_mean() -> None:
    samples = random_samples(5, num_groups=1)
    tokens, _ = tokens_of(samples, 1)
    means = [
        sum(w * v for w, v in zip(s["token_weights"], s["nll"], strict=True)) / sum(s["token_weights"]) for s in samples
    ]
    assert worst_group(group_losses(tokens)).tolist() == pytest.approx(means, rel=1e-14)


def test_mixing_weight_zero_is_cross_entropy() -> None:
    samples = random_samples(8)
    totals = totals_of(samples, 3)
    loss, gradient = loss_and_gradient(samples, totals, 3, 0.0, torch.float64)
    tokens, nll = tokens_of(samples, 3)
    terms = cross_entropy.local_loss(tokens, Step(totals), cross_entropy.Options())
    terms.loss.backward()
    assert nll.grad is not None
    assert loss.item() == terms.loss.item()
    assert torch.equal(gradient, nll.grad)
    weights = [s["row_weight"] * w for s in samples for w in s["token_weights"]]
    values = [v for s in samples for v in s["nll"]]
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert float(loss) == pytest.approx(mean, rel=1e-14)


def test_order_of_samples_does_not_matter() -> None:
    samples = random_samples(13)
    totals = totals_of(samples, 3)
    loss, gradient = loss_and_gradient(samples, totals, 3, 0.9, torch.float64)
    backwards, reversed_gradient = loss_and_gradient(samples[::-1], totals, 3, 0.9, torch.float64)
    assert float(loss) == pytest.approx(float(backwards), rel=1e-14)
    assert sorted(gradient.tolist()) == pytest.approx(sorted(reversed_gradient.tolist()), rel=1e-14)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.9, 0.9, 0.9]),
        ("linear", [0.9, 0.5, 0.1]),
        ("cosine", [0.9, 0.1 + 0.8 * (1 + math.cos(math.pi / 2)) / 2, 0.1]),
    ],
)
def test_schedules(schedule: Any, expected: list[float]) -> None:
    options = sft_go.Options(mixing_weight=0.9, mixing_weight_end=0.1, schedule=schedule)
    assert [sft_go.mixing_weight(options, p) for p in (0.0, 0.5, 1.0)] == pytest.approx(expected)


def test_a_schedule_may_rise() -> None:
    options = sft_go.Options(mixing_weight=0.0, mixing_weight_end=1.0, schedule="linear")
    assert [sft_go.mixing_weight(options, p) for p in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]
