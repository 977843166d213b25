"""Whether this run compiles the loss head's tile functions: faster per step, and seconds of compiling at the start.

Measured on two CPU cores at a vocabulary of 131,072 in bfloat16: 0.6 s saved per billion logits; compiling takes 4 to
15 s. So a run of some ten billion logits gains.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sftgo_cli.data.rows import TokenTable
from sftgo_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLED_ROWS = 1000
WORTH_IT = 4e10  # logits of one process over the whole run


def worth_compiling(num_tokens: float, vocab_size: int, device_type: str) -> bool:
    """Whether a process with so many supervised tokens saves more time than compiling takes, and can compile."""
    return num_tokens * vocab_size >= WORTH_IT and _can_compile(device_type)


def tokens_per_epoch(table: TokenTable, datasets: Sequence[Dataset], recipe: Recipe) -> float:
    """About how many supervised tokens an epoch has: all tokens by their sources' weights, times the supervised share of
    the first rows."""
    some = table.slice(0, min(SAMPLED_ROWS, len(table)))
    share = float(some.supervised.sum()) / max(1, int(some.row_offsets[-1]))
    total, start = 0.0, 0
    for dataset, source in zip(datasets, recipe.data.train, strict=True):
        total += source.weight * float(table.lengths[start : start + len(dataset)].sum())
        start += len(dataset)
    return share * total


def _can_compile(device_type: str) -> bool:
    """torch.compile needs a C++ compiler on the CPU, and Triton on an accelerator."""
    if device_type == "cpu":
        return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))
    return importlib.util.find_spec("triton") is not None
