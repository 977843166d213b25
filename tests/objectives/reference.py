"""The objective in plain Python float64, written from its definition and sharing no code with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sftgo_cli.objectives.group_losses import StepTotals, SupervisedTokens

HERE = Path(__file__).parent


def cases(name: str) -> list[dict[str, Any]]:
    """Cases computed independently of the package, with expected values."""
    loaded: list[dict[str, Any]] = json.loads((HERE / name).read_text())
    return loaded


def expected_loss(samples: list[dict[str, Any]], mixing_weight: float) -> float:
    """L = (1 - m) CE + m sum r W / sum r, straight from the definition."""
    numerator = denominator = worst = rows = 0.0
    for sample in samples:
        groups: dict[int, list[tuple[float, float]]] = {}
        for nll, group, weight in zip(sample["nll"], sample["group_ids"], sample["token_weights"], strict=True):
            groups.setdefault(group, []).append((weight, nll))
            numerator += sample["row_weight"] * weight * nll
            denominator += sample["row_weight"] * weight
        means = [sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) for pairs in groups.values()]
        worst += sample["row_weight"] * max(means)
        rows += sample["row_weight"]
    return (1 - mixing_weight) * numerator / denominator + mixing_weight * worst / rows


def tokens_of(
    samples: list[dict[str, Any]], num_groups: int, dtype: torch.dtype = torch.float64
) -> tuple[SupervisedTokens, torch.Tensor]:
    """A micro-batch of the samples, and its nll leaf."""
    nll = torch.tensor([v for s in samples for v in s["nll"]], dtype=dtype, requires_grad=True)
    tokens = SupervisedTokens(
        nll_N=nll,
        group_ids_N=torch.tensor([v for s in samples for v in s["group_ids"]], dtype=torch.int64),
        token_weights_N=torch.tensor([v for s in samples for v in s["token_weights"]], dtype=torch.float64),
        sample_N=torch.tensor([i for i, s in enumerate(samples) for _ in s["nll"]], dtype=torch.int64),
        row_weights_S=torch.tensor([s["row_weight"] for s in samples], dtype=torch.float64),
        num_groups=num_groups,
    )
    return tokens, nll


def totals_of(samples: list[dict[str, Any]], num_groups: int) -> StepTotals:
    """The totals of a step made of the samples."""
    weights = torch.zeros(num_groups, dtype=torch.float64)
    for sample in samples:
        for group, weight in zip(sample["group_ids"], sample["token_weights"], strict=True):
            weights[group] += sample["row_weight"] * weight
    number = float(len(samples))
    return StepTotals(
        weight=weights.sum(),
        row_weight=torch.tensor(sum(s["row_weight"] for s in samples), dtype=torch.float64),
        num_samples=torch.tensor(number, dtype=torch.float64),
        num_tokens=torch.tensor(number, dtype=torch.float64),
        group_weight_G=weights,
    )
