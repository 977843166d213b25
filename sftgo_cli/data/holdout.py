"""Which rows are held out, and how many of an evaluation set are trained on all the same.

Rows that ask the same (see `row_keys.py`) stay on one side of the split: else a model would be measured on questions whose
answers it has learned by heart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sftgo_cli import columns
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

NAMED_ROWS = 5
Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Leakage:
    """Of `num_rows` rows of an evaluation set: how many stand in the training rows too, of how many others these have
    the same prompt, and the first few of both."""

    num_rows: int
    same_row: int
    same_prompt: int
    first_rows: tuple[str, ...]


def column_of(datasets: Sequence[Dataset], name: str) -> Keys:
    """int64[R]: a column of keys of all data sets after each other."""
    parts = [np.asarray(dataset.with_format("numpy", columns=[name])[:][name], dtype=np.int64) for dataset in datasets]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def leakage(evaluation: Sequence[Dataset], train: Sequence[Dataset]) -> Leakage:
    """How much of an evaluation set is trained on."""
    same_row = np.isin(column_of(evaluation, columns.ROW_KEY), column_of(train, columns.ROW_KEY))
    same_prompt = np.isin(column_of(evaluation, columns.PROMPT_KEY), column_of(train, columns.PROMPT_KEY)) & ~same_row
    found = np.flatnonzero(same_row | same_prompt)[:NAMED_ROWS]
    starts = np.cumsum([0, *(len(dataset) for dataset in evaluation)])
    places = [(int(starts.searchsorted(row, side="right")) - 1, int(row)) for row in found]
    named = tuple(str(evaluation[part][row - int(starts[part])][columns.ROW_ID]) for part, row in places)
    return Leakage(len(same_row), int(same_row.sum()), int(same_prompt.sum()), named)


def split_heldout(dataset: Dataset, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers for training and held out, each ascending. Held out are, in the order of a hash of the seed and what
    they ask, the first prompts with all their rows that fit max(1, round(fraction n)) rows; where none does, the first one
    that leaves half of the rows. So the choice follows the rows and not their order.

    Raises:
        UserError: fewer than two rows, or nothing would be left to train on.
    """
    num_heldout = max(1, round(fraction * len(dataset)))
    if num_heldout >= len(dataset):
        raise UserError(
            f"holding out {fraction} of {len(dataset)} rows leaves nothing to train on", "data.eval", "hold out less"
        )
    by_row = np.array([_hash(row_id) for row_id in dataset[columns.ROW_ID]], dtype=np.int64)
    by_prompt = column_of([dataset], columns.PROMPT_KEY) if columns.PROMPT_KEY in dataset.column_names else by_row
    is_held = _first_groups(by_prompt, num_heldout, seed)
    if not is_held.any():  # nearly all rows ask the same: what is held out is trained on, and `leakage` says so
        is_held = _first_groups(by_row, num_heldout, seed)
    return np.flatnonzero(~is_held).tolist(), np.flatnonzero(is_held).tolist()


def _first_groups(keys: Keys, wanted: int, seed: int) -> npt.NDArray[np.bool_]:
    """bool[R]: the rows of the first groups of equal keys, in the order of a hash, that are `wanted` rows together."""
    groups, of_row, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(_mixed(groups, seed), kind="stable")
    chosen = np.zeros(len(groups), dtype=np.bool_)
    total = 0
    for group in order.tolist():
        if total + int(sizes[group]) <= wanted:
            chosen[group] = True
            total += int(sizes[group])
        if total == wanted:
            break
    small = order[2 * sizes[order] <= len(keys)]
    if not total and len(small):
        chosen[small[0]] = True
    return np.asarray(chosen[of_row])


def _mixed(keys: Keys, seed: int) -> npt.NDArray[np.uint64]:
    """The keys in an order of the seed's own: splitmix64 (Steele, Lea and Flood 2014) of key plus seed."""
    with np.errstate(over="ignore"):
        mixed = keys.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
