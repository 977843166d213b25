"""Dynamic token objectives: value and gradient with respect to the logits against formulas written here, and limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from sftgo_cli.errors import UserError
from sftgo_cli.losses import logits
from sftgo_cli.objectives import asft, beyond_ll, cross_entropy, dft, eaft, focal, profit, ual
from sftgo_cli.objectives.group_losses import Step, StepTotals, SupervisedTokens
from sftgo_cli.objectives.training_facts import TrainingFacts

NUM_TOKENS, VOCABULARY, NUM_SAMPLES = 23, 31, 4
UNCERTAINTY = torch.tensor([0.5, 0.0, 9.0, 2.5], dtype=torch.float64)  # the third one reaches the cap


def inputs(seed: int = 0, scale: float = 3.0) -> dict[str, Tensor]:
    """Logits, targets, a reference's logits and weights: nothing uniform, samples of odd sizes."""
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    return {
        "logits": scale * torch.randn(NUM_TOKENS, VOCABULARY, **options),
        "reference": scale * torch.randn(NUM_TOKENS, VOCABULARY, **options),
        "targets": torch.randint(VOCABULARY, (NUM_TOKENS,), generator=generator),
        "weights": torch.rand(NUM_TOKENS, **options) + 0.1,
        "sample": torch.randint(NUM_SAMPLES, (NUM_TOKENS,), generator=generator),
        "rows": torch.rand(NUM_SAMPLES, **options) + 0.5,
    }


def ours(module: ModuleType, options: Any, data: dict[str, Tensor], pieces: int = 1) -> tuple[float, Tensor]:
    """The loss and its gradient with respect to the logits, over so many micro-batches."""
    combined = data["weights"] * data["rows"][data["sample"]]
    totals = StepTotals(combined.sum(), data["rows"].sum(), *(torch.tensor(1.0),) * 2, combined.sum()[None])
    facts = TrainingFacts(lambda: torch.ones(1).numpy(), lambda name: UNCERTAINTY.numpy(), VOCABULARY)
    state = module.initial_state(options, 1, facts) if hasattr(module, "initial_state") else {}
    names = module.head_terms(options) if hasattr(module, "head_terms") else ()
    leaf = data["logits"].clone().requires_grad_(True)
    total = 0.0
    for piece in range(pieces):
        chosen = torch.arange(piece, NUM_TOKENS, pieces)
        reference = (data["reference"][chosen], lambda rows: rows)
        outputs = logits.token_terms(leaf[chosen], data["targets"][chosen], names, reference)
        tokens = SupervisedTokens(
            nll_N=outputs.pop("nll"),
            group_ids_N=torch.zeros(len(chosen), dtype=torch.int64),
            token_weights_N=data["weights"][chosen],
            sample_N=data["sample"][chosen],
            row_weights_S=data["rows"],
            num_groups=1,
            terms=outputs,
            row_columns={"uncertainty": UNCERTAINTY},
        )
        terms = module.local_loss(tokens, Step(totals, state=state), options)
        terms.loss.backward()
        total += float(terms.loss.detach())
    assert leaf.grad is not None
    return total, leaf.grad


def defined(
    formula: Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor], data: dict[str, Tensor]
) -> tuple[float, Tensor]:
    """sum of r w f / sum of r w with f(log-probabilities, target's log-probability, data), by autograd on full logits."""
    leaf = data["logits"].clone().requires_grad_(True)
    log_p = torch.log_softmax(leaf, dim=-1)
    own = log_p[torch.arange(NUM_TOKENS), data["targets"]]
    combined = data["weights"] * data["rows"][data["sample"]]
    loss = (combined * formula(log_p, own, data)).sum() / combined.sum()
    loss.backward()
    assert leaf.grad is not None
    return float(loss.detach()), leaf.grad


def entropy_of_top_20(log_p: Tensor) -> Tensor:
    top = log_p.detach().exp().sort(dim=-1, descending=True).values[:, :20]
    top = top / top.sum(dim=-1, keepdim=True)
    return -(top * top.log()).sum(dim=-1)


def divergence(log_p: Tensor, reference: Tensor) -> Tensor:
    p_ref = torch.softmax(reference, dim=-1)
    return (p_ref * (p_ref.log() - log_p)).sum(dim=-1)


def smoothed(log_p: Tensor, data: dict[str, Tensor]) -> Tensor:
    """Cross-entropy against 1 - v on the target and v / (V - 1) elsewhere."""
    v = torch.minimum(0.1 * UNCERTAINTY / UNCERTAINTY.mean(), torch.tensor((VOCABULARY - 1) / VOCABULARY))[
        data["sample"]
    ]
    wanted = (v / (VOCABULARY - 1))[:, None].expand(-1, VOCABULARY).clone()
    wanted[torch.arange(NUM_TOKENS), data["targets"]] = 1 - v
    return -(wanted * log_p).sum(dim=-1)


CASES: dict[str, tuple[ModuleType, Any, Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]]] = {
    "dft": (dft, dft.Options(), lambda log_p, own, data: own.detach().exp() * -own),
    "eaft": (eaft, eaft.Options(alpha=1.7), lambda log_p, own, data: (entropy_of_top_20(log_p) / 3) ** 1.7 * -own),
    "focal": (focal, focal.Options(gamma=1.5), lambda log_p, own, data: (1 - own.exp()) ** 1.5 * -own),
    "profit": (
        profit,
        profit.Options(threshold=0.02),
        lambda log_p, own, data: (own.detach().exp() >= 0.02).double() * -own,
    ),
    "beyond_ll": (beyond_ll, beyond_ll.Options(alpha=0.4), lambda log_p, own, data: (1 - own.exp() ** 0.4) / 0.4),
    "asft": (
        asft,
        asft.Options(kl_weight=0.3),
        lambda log_p, own, data: own.detach().exp() * -own + 0.3 * divergence(log_p, data["reference"]),
    ),
    "ual": (ual, ual.Options(), lambda log_p, own, data: smoothed(log_p, data)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("pieces", [1, 3])
def test_value_and_gradient_are_the_formulas(name: str, pieces: int) -> None:
    module, options, formula = CASES[name]
    for seed in range(3):
        data = inputs(seed)
        loss, gradient = ours(module, options, data, pieces)
        expected, expected_gradient = defined(formula, data)
        assert loss == pytest.approx(expected, rel=1e-12)
        assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-12


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (eaft, eaft.Options(alpha=0.0)),
        (focal, focal.Options(gamma=0.0)),
        (profit, profit.Options(threshold=0.0)),
        (beyond_ll, beyond_ll.Options(alpha=0.0)),
        (ual, ual.Options(smoothing=0.0)),
    ],
    ids=["eaft", "focal", "profit", "beyond_ll", "ual"],
)
def test_a_limit_of_each_is_cross_entropy(module: ModuleType, options: Any) -> None:
    data = inputs(4)
    loss, gradient = ours(module, options, data)
    expected, expected_gradient = ours(cross_entropy, cross_entropy.Options(), data)
    assert loss == pytest.approx(expected, rel=1e-14)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-16)


def test_beyond_ll_close_to_zero_is_close_to_cross_entropy() -> None:
    data = inputs(5)
    loss, gradient = ours(beyond_ll, beyond_ll.Options(alpha=1e-9), data)
    expected, expected_gradient = ours(cross_entropy, cross_entropy.Options(), data)
    assert loss == pytest.approx(expected, rel=1e-7)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-12)


def test_the_gradient_of_dft_is_that_of_beyond_ll_at_one() -> None:
    data = inputs(6)
    _, one = ours(dft, dft.Options(), data)
    _, other = ours(beyond_ll, beyond_ll.Options(alpha=1.0), data)
    assert float((one - other).norm() / one.norm()) < 1e-14


def test_asft_without_divergence_is_dft_and_its_own_reference_costs_nothing() -> None:
    data = inputs(7)
    loss, gradient = ours(dft, dft.Options(), data)
    same, same_gradient = ours(asft, asft.Options(kl_weight=0.0), data)
    assert (same, same_gradient.tolist()) == (loss, gradient.tolist())
    anchored, anchored_gradient = ours(asft, asft.Options(kl_weight=5.0), {**data, "reference": data["logits"]})
    assert anchored == pytest.approx(loss, rel=1e-12)  # KL is 0 at the reference, and so is its gradient
    assert torch.allclose(anchored_gradient, gradient, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_certain_and_impossible_tokens_stay_finite(name: str) -> None:
    """l = 0 exactly and l = 5,000: no NaN, no infinity, in value or gradient; small losses are not rounded to nothing."""
    module, options, _ = CASES[name]
    data = inputs(8)
    logits = torch.zeros(NUM_TOKENS, VOCABULARY, dtype=torch.float64)
    logits[torch.arange(NUM_TOKENS), data["targets"]] = 5000.0
    logits[::2] *= -1
    loss, gradient = ours(module, options, {**data, "logits": logits, "reference": logits})
    assert math.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_beyond_ll_sees_small_losses() -> None:
    """(1 - p^a) / a in floating point is 0 for l = 1e-18; -expm1(-a l) / a is l."""
    totals = StepTotals(*(torch.ones((), dtype=torch.float64),) * 4, torch.ones(1, dtype=torch.float64))
    ones = torch.ones(1, dtype=torch.float64)
    index = torch.zeros(1, dtype=torch.int64)
    tokens = SupervisedTokens(torch.full((1,), 1e-18, dtype=torch.float64), index, ones, index, ones, 1)
    loss = beyond_ll.local_loss(tokens, Step(totals), beyond_ll.Options(alpha=0.5)).loss
    assert float(loss) == pytest.approx(1e-18, rel=1e-12)


def test_values_that_have_no_finite_slope_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        focal.Options(gamma=0.5)


def test_a_negative_uncertainty_is_refused() -> None:
    facts = TrainingFacts(lambda: torch.ones(1).numpy(), lambda name: torch.tensor([1.0, -0.5]).numpy(), VOCABULARY)
    with pytest.raises(UserError, match="negative"):
        ual.initial_state(ual.Options(), 1, facts)
