"""The order of rows: complete, reproducible, the same for every way to split a step; packing and collation."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sftgo_cli.data.collation import Collator
from sftgo_cli.data.packing import best_fit_decreasing, split_bins
from sftgo_cli.data.sampling import EvaluationSampler, SamplingPlan, SourceRows, StepSampler, draw_rows


def plan_of(num_rows: int, **options: Any) -> SamplingPlan:
    lengths = np.random.default_rng(0).integers(1, 40, size=num_rows)
    return SamplingPlan(options.pop("sources", (SourceRows(0, num_rows),)), lengths, data_seed=7, **options)


def steps_of(plan: SamplingPlan, batch: int, accumulation: int, world: int, epoch: int = 0) -> list[list[int]]:
    """The rows of each step, whatever the split: sorted, all ranks together."""
    samplers = [StepSampler(plan, 3, batch, accumulation, rank, world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    ranks = [list(sampler) for sampler in samplers]
    assert len({len(micro_batches) for micro_batches in ranks}) == 1
    assert len(ranks[0]) == len(samplers[0])
    steps = []
    for start in range(0, len(ranks[0]), accumulation):
        micro_batches = [batch for rank in ranks for batch in rank[start : start + accumulation]]
        assert all(len(bins) <= batch for bins in micro_batches)
        steps.append(sorted(row for bins in micro_batches for members in bins for row in members))
    return steps


@pytest.mark.parametrize("pack_to", [None, 64])
@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
def test_every_split_of_a_step_holds_the_same_rows(strategy: Any, pack_to: int | None) -> None:
    plan = plan_of(53, strategy=strategy, pack_to=pack_to)
    whole = steps_of(plan, 8, 1, 1)
    for batch, accumulation, world in ((4, 2, 1), (1, 8, 1), (4, 1, 2), (2, 2, 2), (1, 2, 4)):
        assert steps_of(plan, batch, accumulation, world) == whole
    rows = [row for step in whole for row in step]
    assert sorted(rows) == list(range(53))  # none repeated, none dropped


def test_epochs_differ_and_are_reproducible() -> None:
    plan = plan_of(40)
    assert steps_of(plan, 8, 1, 1, epoch=0) == steps_of(plan, 8, 1, 1, epoch=0)
    assert steps_of(plan, 8, 1, 1, epoch=0) != steps_of(plan, 8, 1, 1, epoch=1)
    other = SamplingPlan(plan.sources, plan.lengths, data_seed=8)
    assert steps_of(plan, 8, 1, 1) != steps_of(other, 8, 1, 1)


def test_weights_draw_floor_of_w_n_rows() -> None:
    sources = (SourceRows(0, 10, 0.3), SourceRows(10, 7, 2.5), SourceRows(17, 4, 1.0))
    plan = plan_of(21, sources=sources)
    for epoch in range(3):
        drawn = Counter(draw_rows(plan, epoch))
        assert sum(drawn[row] for row in range(10)) == 3
        assert sum(drawn[row] for row in range(10, 17)) == 17  # floor(2.5 * 7)
        assert all(drawn[row] >= 2 for row in range(10, 17))
        assert all(drawn[row] == 1 for row in range(17, 21))
    assert draw_rows(plan, 0) != draw_rows(plan, 1)
    assert SourceRows(0, 30, 0.1).num_drawn() == 3


def test_packed_epochs_that_draw_different_rows_are_equally_long() -> None:
    plan = plan_of(60, sources=(SourceRows(0, 60, 0.55),), pack_to=50)
    sampler = StepSampler(plan, 6, 2, 1)
    for epoch in range(6):
        sampler.set_epoch(epoch)
        micro_batches = list(sampler)
        assert len(micro_batches) == len(sampler)
        rows = [row for bins in micro_batches for members in bins for row in members]
        assert sorted(rows) == draw_rows(plan, epoch)
        assert all(plan.lengths[members].sum() <= 50 for bins in micro_batches for members in bins)


def test_best_fit_decreasing_keeps_samples_whole_and_packs_well() -> None:
    generator = random.Random(0)
    lengths = [generator.randint(1, 100) for _ in range(500)]
    bins = best_fit_decreasing(range(500), lengths, 100)
    assert sorted(row for members in bins for row in members) == list(range(500))
    assert all(sum(lengths[row] for row in members) <= 100 for members in bins)
    assert len(bins) <= 11 / 9 * sum(lengths) / 100 + 1  # the bound proven for best-fit decreasing
    # By hand: 7 goes first, 5 does not fit behind it, 3 fits 7 exactly, then 4 behind 5.
    assert best_fit_decreasing([0, 1, 2, 3], [3, 7, 5, 4], 10) == [[1, 0], [2, 3]]


def test_splitting_bins_loses_nothing() -> None:
    bins = [[1, 2, 3], [4], [5, 6]]
    assert sorted(row for members in split_bins(bins, 5) for row in members) == [1, 2, 3, 4, 5, 6]
    assert len(split_bins(bins, 5)) == 5
    with pytest.raises(ValueError, match="cannot turn 3 bins into 7"):
        split_bins(bins, 7)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_row_once(world: int) -> None:
    lengths = np.random.default_rng(1).integers(1, 9, size=23)
    ranks = [EvaluationSampler(lengths, 4, rank, world) for rank in range(world)]
    assert len({len(sampler) for sampler in ranks}) == 1
    rows = [row for sampler in ranks for bins in sampler for members in bins for row in members]
    assert sorted(rows) == list(range(23))


def row(ids: list[int], **columns: Any) -> dict[str, Any]:
    length = len(ids)
    return {
        "input_ids": np.array(ids),
        "labels": np.array([-100, *ids[1:]]),
        "group_ids": np.array(columns.pop("groups", [0] * length)),
        "row_id": f"row-{ids[0]}",
        **columns,
    }


def test_padded_layout() -> None:
    first = row([1, 2, 3], groups=[-1, 0, 1], token_weights=np.array([1.0, 0.5, 2.0]), loss_weight=3.0)
    batch: Any = Collator(pad_token_id=9, packed=False)([[first], [row([4, 5])]])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 5, 9]]
    assert batch["labels"].tolist() == [[-100, 2, 3], [-100, 5, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["group_ids"].tolist() == [[-1, 0, 1], [0, 0, -1]]
    assert batch["token_weights"].tolist() == [[1.0, 0.5, 2.0], [1.0, 1.0, 1.0]]
    assert batch["sample_index"].tolist() == [[0, 0, 0], [1, 1, -1]]
    assert batch["row_weights"].tolist() == [3.0, 1.0]
    assert batch["row_ids"] == ["row-1", "row-4"]
    assert batch["num_tokens"].item() == 5
    assert "position_ids" not in batch


def test_packed_layout_has_positions_that_restart_and_no_mask() -> None:
    batch: Any = Collator(pad_token_id=9, packed=True)([[row([1, 2, 3]), row([4, 5])], [row([6, 7])]])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 9, 9, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]  # the padded tail is its own segment
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 5], [-100, 7, -100, -100, -100]]
    assert batch["sample_index"].tolist() == [[0, 0, 0, 1, 1], [2, 2, -1, -1, -1]]
    assert "attention_mask" not in batch


def test_the_first_token_of_a_row_is_never_supervised() -> None:
    careless = row([4, 5])
    careless["labels"] = np.array([4, 5])
    batch: Any = Collator(pad_token_id=0, packed=True)([[row([1, 2]), careless]])
    assert batch["labels"].tolist() == [[-100, 2, -100, 5]]


def test_an_empty_micro_batch_has_tokens_but_no_sample() -> None:
    batch: Any = Collator(pad_token_id=3, packed=False)([])
    assert batch["input_ids"].tolist() == [[3, 3]]
    assert (batch["labels"] == -100).all()
    assert batch["row_weights"].shape == (0,)
    assert batch["num_tokens"].item() == 0


def test_packed_bins_in_one_sequence_for_attention_that_needs_it() -> None:
    bins = [[row([1, 2, 3]), row([4, 5])], [row([6, 7])]]
    batch: Any = Collator(pad_token_id=9, packed=True, one_sequence=True)(bins)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["sample_index"].tolist() == [[0, 0, 0, 1, 1, 2, 2]]
    assert batch["num_tokens"].item() == 7
    assert Collator(pad_token_id=9, packed=True, one_sequence=True)([])["input_ids"].shape == (1, 2)  # type: ignore[union-attr]


def test_only_flash_attention_needs_one_sequence() -> None:
    from types import SimpleNamespace

    from sftgo_cli.data.collation import needs_one_sequence

    kinds = (
        "flash_attention_2",
        "flash_attention_3",
        "kernels-community/flash-attn",
        "sdpa",
        "eager",
        "flex_attention",
    )
    needed = [needs_one_sequence(SimpleNamespace(_attn_implementation=kind)) for kind in kinds]
    assert needed == [True, True, True, False, False, False]
