"""The grouping rule against cases computed elsewhere, a slow independent version, and its edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sftgo_cli.grouping import (
    global_thresholds,
    group_by_thresholds,
    group_tokens,
    num_above,
    ordered_bits,
    score_bits,
)
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


def sorted_thresholds(scores: np.ndarray, cuts: list[float]) -> list[float]:
    ranked = np.sort(scores)[::-1]
    return [float(ranked[max(1, math.ceil(cut * len(ranked) - 1e-9)) - 1]) for cut in cuts]


def in_chunks(scores: np.ndarray, sizes: list[int]) -> Any:
    def chunks() -> Any:
        yield from np.split(scores, np.cumsum(sizes))

    return chunks


@pytest.mark.parametrize("spread", ["normal", "ties", "tiny", "huge", "one value"])
def test_thresholds_over_everything_equal_a_sort(spread: str) -> None:
    generator = np.random.default_rng(3)
    for size in (1, 2, 10, 997, 20000):
        scores = {
            "normal": generator.normal(size=size),
            "ties": generator.choice([-1.5, -0.0, 0.0, 0.25, 7.0], size=size),
            "tiny": generator.normal(size=size) * 1e-41,  # denormal: only the lower bits differ
            "huge": generator.normal(size=size) * 10.0 ** generator.integers(-38, 38, size=size),
            "one value": np.full(size, -2.5),
        }[spread].astype(np.float32)
        cuts = sorted({*generator.uniform(0.001, 0.999, size=5).tolist(), 0.3})
        got = global_thresholds(in_chunks(scores, [0, size // 3, size // 3]), cuts)
        expected = sorted_thresholds(scores, cuts)
        assert got == ordered_bits(np.array(expected, dtype=np.float32)).tolist()
        everything = np.ones(size, dtype=bool)
        groups = group_by_thresholds(scores, everything, ~everything, got)
        assert groups.tolist() == [sum(score >= t for t in expected) for score in scores]


def test_no_score_at_all_gives_thresholds_above_every_score() -> None:
    thresholds = global_thresholds(lambda: iter([np.zeros(0, dtype=np.float32)]), [0.3, 0.5])
    one = np.ones(1, dtype=bool)
    assert group_by_thresholds(np.array([3e38], dtype=np.float32), one, ~one, thresholds).tolist() == [0]


def test_fixed_thresholds_count_those_that_a_score_reaches() -> None:
    scores = np.array([-3.0, 0.0, -0.0, 0.7, 1.5, 9.0, 5.0, np.nan], dtype=np.float32)
    supervised = np.array([True] * 7 + [False])
    pinned = np.array([False] * 6 + [True, False])
    bits = [score_bits(threshold) for threshold in (0.0, 0.7, 1.5, 1e300)]
    assert group_by_thresholds(scores, supervised, pinned, bits).tolist() == [0, 1, 1, 2, 3, 3, 4, -1]
    low = group_by_thresholds(scores, supervised, pinned, bits[:3], "unimportant")
    assert low.tolist() == [0, 1, 1, 2, 3, 3, 0, -1]
    scored = group_by_thresholds(scores, supervised, pinned, bits[:3], "scored", invert=True)
    assert scored.tolist() == [3, 1, 1, 0, 0, 0, 0, -1]  # 3, 0, 0, -0.7, -1.5, -9, -5 against 0, 0.7, 1.5
