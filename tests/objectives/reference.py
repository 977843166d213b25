"""The objective in plain Python float64, written from its definition and sharing no code with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sftgo_cli.objectives.group_losses import Step, StepStatistics, StepTotals, SupervisedTokens

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
    samples: list[dict[str, Any]],
    num_groups: int,
    dtype: torch.dtype = torch.float64,
    columns: tuple[str, ...] = (),
    row_columns: tuple[str, ...] = (),
) -> tuple[SupervisedTokens, torch.Tensor]:
    """A micro-batch of the samples, and its nll leaf; `columns` and `row_columns` are further keys of the samples."""
    nll = torch.tensor([v for s in samples for v in s["nll"]], dtype=dtype, requires_grad=True)
    tokens = SupervisedTokens(
        nll_N=nll,
        group_ids_N=torch.tensor([v for s in samples for v in s["group_ids"]], dtype=torch.int64),
        token_weights_N=torch.tensor([v for s in samples for v in s["token_weights"]], dtype=torch.float64),
        sample_N=torch.tensor([i for i, s in enumerate(samples) for _ in s["nll"]], dtype=torch.int64),
        row_weights_S=torch.tensor([s["row_weight"] for s in samples], dtype=torch.float64),
        num_groups=num_groups,
        columns={name: torch.tensor([v for s in samples for v in s[name]], dtype=dtype) for name in columns},
        row_columns={name: torch.tensor([s[name] for s in samples], dtype=torch.float64) for name in row_columns},
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


def step_over(
    module: Any,
    options: Any,
    parts: list[list[dict[str, Any]]],
    num_groups: int,
    state: Any = None,
    dtype: torch.dtype = torch.float64,
    progress: float = 0.0,
    **further: Any,
) -> tuple[dict[str, float], list[torch.Tensor]]:
    """One optimizer step through an objective, a micro-batch per part: summed terms, and the gradient of every nll.

    `further` goes to `tokens_of`.
    """
    totals = totals_of([sample for part in parts for sample in part], num_groups)
    batches = [tokens_of(part, num_groups, dtype, **further) for part in parts]
    own: list[torch.Tensor] = []
    if hasattr(module, "needs_step") and module.needs_step(options):
        with torch.no_grad():
            own = [module.local_statistics(tokens, options) for tokens, _ in batches]
    summed = {"loss": 0.0, "ce_loss": 0.0, "worst_group_loss": 0.0}
    gradients = []
    for number, (tokens, nll) in enumerate(batches):
        statistics = StepStatistics(own[number], tuple(own)) if own else None
        terms = module.local_loss(tokens, Step(totals, progress, state or {}, statistics), options)
        terms.loss.backward()
        assert nll.grad is not None
        gradients.append(nll.grad)
        for name in summed:
            summed[name] += float(getattr(terms, name).detach())
    return summed, gradients
