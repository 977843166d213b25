"""The grouping rule against cases computed elsewhere, a slow independent version, and its edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sftgo_cli.grouping import group_tokens, num_above, ordered_bits
from tests.objectives.reference import cases

CASES = cases("grouping_cases.json")


def group_one(scores: list[float], special: list[bool], cuts: list[float], **options: Any) -> list[int]:
    values = np.array(scores, dtype=np.float32)
    supervised = np.ones(len(values), dtype=bool)
    offsets = np.array([0, len(values)])
    return group_tokens(values, offsets, supervised, np.array(special, dtype=bool), cuts, **options).tolist()


def test_there_are_two_hundred_cases() -> None:
    assert len(CASES) == 200


def test_reference_cases() -> None:
    for number, case in enumerate(CASES):
        got = group_one(
            case["scores"],
            case["special"],
            case["boundaries"],
            special_tokens=case["special_tokens"],
            invert=case["invert"],
        )
        assert got == case["expected"], f"case {number}"


def slow_groups(scores: list[float], cuts: list[float]) -> list[int]:
    if not scores:
        return []
    ranked = sorted(scores, reverse=True)
    thresholds = [ranked[max(1, math.ceil(cut * len(scores) - 1e-9)) - 1] for cut in cuts]
    return [sum(score >= threshold for threshold in thresholds) for score in scores]


def test_many_rows_at_once_equal_each_row_alone() -> None:
    generator = np.random.default_rng(0)
    rows = [generator.choice([0.0, 0.5, 1.5, 2.5, -1.0], size=generator.integers(0, 30)) for _ in range(200)]
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    flat = np.concatenate(rows).astype(np.float32)
    supervised = np.ones(len(flat), dtype=bool)
    got = group_tokens(flat, offsets, supervised, ~supervised, [0.2, 0.5])
    for row, start, stop in zip(rows, offsets[:-1], offsets[1:], strict=True):
        assert got[start:stop].tolist() == slow_groups(row.tolist(), [0.2, 0.5])


def test_unsupervised_tokens_have_no_group_and_do_not_rank() -> None:
    scores = np.array([9.0, 1.0, 2.0, 3.0, np.nan], dtype=np.float32)
    supervised = np.array([False, True, True, True, False])
    got = group_tokens(scores, np.array([0, 5]), supervised, np.zeros(5, dtype=bool), [0.3])
    assert got.tolist() == [-1, 0, 0, 1, -1]


def test_equal_scores_share_a_group_even_beyond_the_fraction() -> None:
    assert group_one([1.0] * 10, [False] * 10, [0.1]) == [1] * 10
    assert group_one([0.0, -0.0, -1.0], [False] * 3, [0.3]) == [1, 1, 0]


@pytest.mark.parametrize(("choice", "group"), [("important", 1), ("unimportant", 0)])
def test_a_sample_of_pinned_tokens_has_one_group(choice: Any, group: int) -> None:
    assert group_one([5.0, 1.0], [True, True], [0.3], special_tokens=choice) == [group, group]
    assert group_one([5.0, 1.0], [True, True], [0.3], special_tokens=choice, invert=True) == [group, group]


def test_number_above_a_cut_is_exact_where_floats_are_not() -> None:
    # 0.3 * 10 is 3.0000000000000004 or 2.9999999999999996 depending on how it is written; three tokens either way.
    assert num_above(0.3, np.array([10])).tolist() == [3]
    assert num_above(0.1 + 0.2, np.array([10])).tolist() == [3]
    assert num_above(0.01, np.array([1, 5])).tolist() == [1, 1]
    assert num_above(1.0, np.array([7])).tolist() == [7]


def test_bit_order_is_numeric_order() -> None:
    values = np.array([-np.inf, -3e38, -2.0, -1e-40, 0.0, 1e-40, 1.0, 3e38, np.inf], dtype=np.float32)
    bits = ordered_bits(values)
    assert (np.diff(bits.astype(np.int64)) > 0).all()
    assert ordered_bits(np.array([-0.0], dtype=np.float32)) == ordered_bits(np.array([0.0], dtype=np.float32))
