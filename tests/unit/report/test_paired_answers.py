"""The paired bootstrap against its closed forms, and how a comparison words it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sftgo_cli.report.paired_answers import paired_difference, read_accepted
from sftgo_cli.report.run_sentences import comparison_sentences
from sftgo_cli.report.run_tables import RunSummary


def answers(accepted: list[bool]) -> dict[str, bool]:
    return {f"q{number}": value for number, value in enumerate(accepted)}


def test_equal_answers_have_no_difference_and_no_width() -> None:
    found = paired_difference(answers([True, False, True]), answers([True, False, True]))
    assert found is not None
    assert (found.first, found.second, found.low, found.high, found.num_questions) == (2 / 3, 2 / 3, 0.0, 0.0, 3)


def test_only_common_questions_count() -> None:
    found = paired_difference({"a": True, "b": True, "c": False}, {"b": False, "c": True, "d": True})
    assert found is not None
    assert (found.num_questions, found.first, found.second) == (2, 0.5, 0.5)
    assert paired_difference({"a": True}, {"b": True}) is None
    assert paired_difference({}, {}) is None


def test_the_interval_is_that_of_the_normal_approximation_for_many_questions() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(4000) < 0.5, rng.random(4000) < 0.6
    found = paired_difference(answers(first.tolist()), answers(second.tolist()))
    assert found is not None
    differences = second.astype(float) - first
    error = 1.96 * differences.std() / math.sqrt(len(differences))
    assert found.second - found.first == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - error, abs=0.15 * error)
    assert found.high == pytest.approx(differences.mean() + error, abs=0.15 * error)


def test_pairing_narrows_the_interval() -> None:
    """Two runs that differ on few questions: the interval knows it, whatever the accuracies are."""
    base = [number % 2 == 0 for number in range(1000)]
    changed = [True] * 20 + base[20:]
    found = paired_difference(answers(base), answers(changed))
    assert found is not None
    assert 0 < found.low < 0.010 < found.high < 0.018


def test_the_direction_follows_the_order() -> None:
    worse = paired_difference(answers([True] * 50), answers([False] * 50))
    assert worse is not None
    assert (worse.low, worse.high) == (-1.0, -1.0)


def run(name: str, accepted: dict[str, bool]) -> RunSummary:
    result = {"loss": 1.0, "num_tokens": 10}
    return RunSummary(name, "cross_entropy", {"heldout": result}, None, 1, 10, None, accepted={"heldout": accepted})


@pytest.mark.parametrize(
    ("second", "told"),
    [([True] * 40, ": more."), ([False] * 40, ": fewer."), ([True, False] * 20, "beyond chance.")],
)
def test_a_comparison_says_which_way_and_how_sure(second: list[bool], told: str) -> None:
    first = [number % 4 in (0, 3) for number in range(40)]
    sentences = comparison_sentences([run("a", answers(first)), run("b", answers(second))])
    said = [sentence for sentence in sentences if "questions" in sentence]
    assert len(said) == 1
    assert said[0].startswith("heldout: of 40 questions b (cross_entropy) answers ")
    assert said[0].endswith(told)


def test_answers_are_read_from_the_run_s_folder(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    lines = [{"row_id": "r1", "accepted": True, "answer": "\u2028"}, {"row_id": "r2", "accepted": False, "answer": ""}]
    (folder / "heldout.answers.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    )
    assert read_accepted(tmp_path) == {"heldout": {"r1": True, "r2": False}}
    assert read_accepted(tmp_path / "nothing") == {}
