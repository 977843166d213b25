"""Objectives that train some tokens: named groups, and Rho-1's live selection over the whole step."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from sftgo_cli.errors import UserError
from sftgo_cli.objectives import rho1, selected
from tests.objectives.reference import step_over
from tests.objectives.test_sft_go import random_samples


def samples_with_reference(seed: int, num_samples: int = 6) -> list[dict[str, Any]]:
    """Random samples with a reference loss per token; some excess losses tie exactly."""
    generator = random.Random(seed)
    samples = random_samples(seed, num_samples)
    for sample in samples:
        sample["nll"] = [round(4 * value) / 4 for value in sample["nll"]]
        sample["reference_nll"] = [generator.choice([0.0, 0.5, 1.0]) for _ in sample["nll"]]
    return samples


def flat(samples: list[dict[str, Any]]) -> list[tuple[float, float, float, int]]:
    """(nll, excess, r w, group) per token."""
    return [
        (
            nll,
            nll - sample.get("reference_nll", sample["nll"])[i],
            sample["row_weight"] * sample["token_weights"][i],
            group,
        )
        for sample in samples
        for i, (nll, group) in enumerate(zip(sample["nll"], sample["group_ids"], strict=True))
    ]


def selected_mean(tokens: list[tuple[float, float, float, int]], kept: list[bool]) -> tuple[float, list[float]]:
    """The mean over the kept tokens, and its gradient."""
    total = sum(token[2] for token, keep in zip(tokens, kept, strict=True) if keep)
    gradient = [token[2] / total if keep else 0.0 for token, keep in zip(tokens, kept, strict=True)]
    return sum(g * token[0] for g, token in zip(gradient, tokens, strict=True)), gradient


@pytest.mark.parametrize("parts", [1, 2, 6])
@pytest.mark.parametrize("keep_fraction", [0.01, 0.37, 0.6, 1.0])
def test_rho1_keeps_the_top_of_the_whole_step(parts: int, keep_fraction: float) -> None:
    for seed in range(4):
        samples = samples_with_reference(seed)
        pieces = [samples[part::parts] for part in range(parts)]
        summed, gradients = step_over(
            rho1, rho1.Options(keep_fraction=keep_fraction), pieces, 3, columns=("reference_nll",)
        )
        tokens = flat([sample for piece in pieces for sample in piece])
        excess = sorted((token[1] for token in tokens), reverse=True)
        threshold = excess[max(1, math.ceil(keep_fraction * len(tokens) - 1e-9)) - 1]
        loss, gradient = selected_mean(tokens, [token[1] >= threshold for token in tokens])
        assert summed["loss"] == pytest.approx(loss, rel=1e-13)
        assert torch.cat(gradients).tolist() == pytest.approx(gradient, rel=1e-13)


def test_rho1_by_micro_batch_is_a_weighted_mean_of_each_ones_selection() -> None:
    samples = samples_with_reference(9)
    pieces = [samples[:2], samples[2:]]
    options = rho1.Options(keep_fraction=0.5, selection="micro_batch")
    assert not rho1.needs_step(options)
    summed, _ = step_over(rho1, options, pieces, 3, columns=("reference_nll",))
    expected = weight = 0.0
    for piece in pieces:
        tokens = flat(piece)
        threshold = sorted((token[1] for token in tokens), reverse=True)[math.ceil(0.5 * len(tokens)) - 1]
        mean, _ = selected_mean(tokens, [token[1] >= threshold for token in tokens])
        share = sum(token[2] for token in tokens)
        expected, weight = expected + share * mean, weight + share
    assert summed["loss"] == pytest.approx(expected / weight, rel=1e-13)


def test_rho1_keeping_everything_is_cross_entropy() -> None:
    samples = samples_with_reference(2)
    summed, _ = step_over(rho1, rho1.Options(keep_fraction=1.0), [samples], 3, columns=("reference_nll",))
    assert summed["loss"] == pytest.approx(summed["ce_loss"], rel=1e-14)


@pytest.mark.parametrize("parts", [1, 3])
def test_selected_is_the_mean_over_the_named_groups(parts: int) -> None:
    samples = random_samples(5)
    pieces = [samples[part::parts] for part in range(parts)]
    summed, gradients = step_over(selected, selected.Options(groups=[0, 2]), pieces, 3)
    tokens = flat([sample for piece in pieces for sample in piece])
    loss, gradient = selected_mean(tokens, [token[3] in (0, 2) for token in tokens])
    assert summed["loss"] == pytest.approx(loss, rel=1e-13)
    assert torch.cat(gradients).tolist() == pytest.approx(gradient, rel=1e-13)


def test_a_step_without_a_selected_token_is_an_exact_zero() -> None:
    samples = [{"nll": [1.0, 2.0], "group_ids": [0, 0], "token_weights": [1.0, 1.0], "row_weight": 1.0}]
    summed, gradients = step_over(selected, selected.Options(groups=[1]), [samples], 2)
    assert summed["loss"] == 0.0
    assert gradients[0].tolist() == [0.0, 0.0]


def test_a_group_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="no group 2: grouping makes 2"):
        selected.check(selected.Options(groups=[0, 2]), 2)
