"""The objective while it trains: its state through a checkpoint, chunks of a micro-batch, the exchange of statistics."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sftgo_cli.data.collation import Collator
from sftgo_cli.errors import StateError
from sftgo_cli.objectives import cross_entropy, rho1, sft_go
from sftgo_cli.objectives.micro_batch import local_totals, step_totals
from sftgo_cli.objectives.training_facts import TrainingFacts
from sftgo_cli.training.objective_step import StepObjective

GROUPS = 3
FACTS = TrainingFacts(lambda: np.array([5, 3, 2]), lambda name: np.zeros(0), 11)
GROUP_DRO = {"mixing_weight": 1.0, "aggregation": "exponentiated_gradient", "eta": 0.5}


def row(seed: int, length: int) -> dict[str, Any]:
    """A row with random labels and groups; its first half is a prompt."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, 11, length).astype(np.int32)
    labels = np.where(np.arange(length) < length // 2, -100, ids)
    return {"input_ids": ids, "labels": labels, "group_ids": generator.integers(0, GROUPS, length), "row_id": str(seed)}


ROWS = [row(seed, length) for seed, length in enumerate((6, 9, 2, 13, 5))]


def objective(**options: Any) -> StepObjective:
    return StepObjective(sft_go, sft_go.Options(**options), GROUPS, FACTS)


def step(chosen: StepObjective, cuts: list[tuple[int, int]]) -> tuple[float, torch.Tensor]:
    """One step of one micro-batch, weighed in chunks of samples; its loss and the slope of every token's loss."""
    batch = Collator(0, packed=False)([[item] for item in ROWS])
    ends = batch["sample_ends"]
    totals, _ = step_totals(local_totals([batch], GROUPS, 0.0))
    chosen.begin(totals, 0.0, 1)
    micro_batch = chosen.micro_batch(batch)
    nll = torch.rand(ends[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(True)
    starts = [0, *ends]
    total = 0.0
    for first, last in cuts:
        part = micro_batch.weighing.loss_of(starts[first], starts[last], {"nll": nll[starts[first] : starts[last]]})
        part.backward()
        total += float(part.detach())
    assert float(micro_batch.terms().loss) == pytest.approx(total, rel=1e-14)
    chosen.finish_micro_batch(micro_batch.tokens(nll.detach()), lambda vector: vector)
    assert nll.grad is not None
    return total, nll.grad


@pytest.mark.parametrize("options", [{}, {"aggregation": "softmax"}, {"aggregation": "cvar"}, GROUP_DRO], ids=str)
def test_chunks_of_samples_add_up(options: dict[str, Any]) -> None:
    whole, slopes = step(objective(**options), [(0, 5)])
    for cuts in ([(0, 2), (2, 5)], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]):
        loss, again = step(objective(**options), cuts)
        assert loss == pytest.approx(whole, rel=1e-13)
        assert torch.allclose(again, slopes, rtol=1e-12)


def test_the_collator_says_where_samples_end() -> None:
    batch = Collator(0, packed=False)([[item] for item in ROWS])
    supervised = [int((item["labels"][1:] != -100).sum()) for item in ROWS]
    assert batch["sample_ends"] == np.cumsum(supervised).tolist()


def test_the_state_survives_a_checkpoint_bit_for_bit() -> None:
    one = objective(**GROUP_DRO)
    step(one, [(0, 5)])
    other = objective(**GROUP_DRO)
    other.load_state(json.loads(json.dumps(one.saved_state())))
    for _ in range(3):
        assert step(one, [(0, 5)])[0] == step(other, [(0, 5)])[0]
    assert torch.equal(one.state["q"], other.state["q"])
    assert float((one.state["q"] - 1 / GROUPS).abs().max()) > 1e-3  # it has moved


def test_another_objectives_state_is_refused() -> None:
    plain = StepObjective(cross_entropy, cross_entropy.Options(), GROUPS, FACTS)
    plain.load_state({})
    with pytest.raises(StateError, match="has the objective's nothing, this one keeps q, adjustment"):
        objective(**GROUP_DRO).load_state(plain.saved_state())


def test_a_padding_free_batch_is_chosen_where_it_is_cheaper() -> None:
    collator = Collator(0, packed=False)
    padded = collator([[item] for item in ROWS])
    assert padded["input_ids"].shape == (5, 13)
    collator.padding_free_width = 64
    free = collator([[item] for item in ROWS])
    assert free["input_ids"].shape == (1, sum(len(item["input_ids"]) for item in ROWS))
    assert "attention_mask" not in free
    assert free["position_ids"][0, :8].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert free["sample_ends"] == padded["sample_ends"]
    equal = [row(seed, 2000) for seed in range(4)]  # nothing to save, and attention over 8,000 tokens would cost more
    assert collator([[item] for item in equal])["input_ids"].shape == (4, 2000)


def test_objectives_that_compare_tokens_get_a_micro_batch_whole() -> None:
    """Rho-1 by micro-batch takes one threshold for all tokens of the micro-batch, not one per chunk of the loss head."""
    for selection in ("step", "micro_batch"):
        chosen = StepObjective(rho1, rho1.Options(selection=selection), GROUPS, FACTS)
        assert chosen.at_once
    assert not objective().at_once
    assert objective(scope="step").at_once
    assert not objective(**GROUP_DRO).at_once
