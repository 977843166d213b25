"""Which rows of a prepared source are held out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sftgo_cli import columns
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def split_heldout(dataset: Dataset, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers for training and held out, each ascending: the max(1, round(fraction n)) rows with the smallest hash
    of seed and row_id are held out, so the choice follows the rows and not their order.

    Raises:
        UserError: fewer than two rows, or nothing would be left to train on.
    """
    row_ids = dataset[columns.ROW_ID]
    num_heldout = max(1, round(fraction * len(dataset)))
    if num_heldout >= len(dataset):
        raise UserError(
            f"holding out {fraction} of {len(dataset)} rows leaves nothing to train on", "data.eval", "hold out less"
        )
    keys = [(hashlib.sha256(f"{seed}\0{row_id}".encode()).digest(), index) for index, row_id in enumerate(row_ids)]
    heldout = sorted(index for _, index in sorted(keys)[:num_heldout])
    chosen = set(heldout)
    return [index for index in range(len(dataset)) if index not in chosen], heldout
