"""Two runs on the same questions: the difference of their accuracies with a paired bootstrap interval over the questions.

    d_i = accepted_second(i) - accepted_first(i)              i = 1..n, the questions that both answered
    interval = 2.5 % and 97.5 % quantiles of the mean of n of the d_i drawn with replacement, 10,000 times

Pairing takes out what makes a question hard for both (Efron and Tibshirani 1993, chapter 13, percentile interval). It
says how far the choice of questions could change the difference, not how far another seed of training could.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NUM_RESAMPLES = 10_000
SEED = 0
SUFFIX = ".answers.jsonl"


@dataclass(frozen=True)
class PairedDifference:
    """Accuracies in [0, 1] on `num_questions` common questions, and the interval of second - first."""

    first: float
    second: float
    low: float
    high: float
    num_questions: int


def read_accepted(run: Path) -> dict[str, dict[str, bool]]:
    """Set -> question -> whether the run's answer was accepted, of every set that `sftgo eval` had answered."""
    files = sorted((run / "evaluation").glob(f"*{SUFFIX}"))
    return {path.name.removesuffix(SUFFIX): _accepted(path) for path in files}


def _accepted(path: Path) -> dict[str, bool]:
    with path.open(encoding="utf-8", newline="\n") as lines:  # other line ends may stand in an answer
        rows = [json.loads(line) for line in lines]
    return {row["row_id"]: bool(row["accepted"]) for row in rows}


def paired_difference(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedDifference | None:
    """The difference on the questions that both answered; None where there is none."""
    import numpy as np

    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    pairs = np.array([[first[row], second[row]] for row in common], dtype=np.float64)
    differences = pairs[:, 1] - pairs[:, 0]
    # The mean depends on how many of -1, 0 and 1 are drawn only, so those counts are drawn.
    values, counts = np.unique(differences, return_counts=True)
    drawn = np.random.default_rng(SEED).multinomial(len(common), counts / len(common), NUM_RESAMPLES)
    low, high = np.quantile(drawn @ values / len(common), [0.025, 0.975])
    means = pairs.mean(axis=0)
    return PairedDifference(float(means[0]), float(means[1]), float(low), float(high), len(common))
