"""A model-based scorer without a model, for the engine's tests: a cheap function of each row, as slow as it is asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftgo_cli.data.rows import TokenChunk
from sftgo_cli.errors import UserError, UserErrors
from sftgo_cli.recipe.options import MethodOptions
from sftgo_cli.scoring.context import ScoringContext

VERSION = 1
SOURCE = "test"
PATH_OPTIONS = ("log", "seconds", "bad_row", "die_at", "error")


class Options(MethodOptions):
    """`log`: a file that gets a line per shard, and one per opening."""

    factor: float = 1.0
    log: str = "/dev/null"
    seconds: float = 0.0
    bad_row: str = ""
    die_at: str = ""
    error: str = "one"


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return ("input_ids", "labels", "pinned"), ("row_id",)


def written(options: Options) -> tuple[str, ...]:
    return ("token_scores", "base_nll", "reference_nll")


def fingerprint(options: Options, context: ScoringContext) -> dict[str, Any]:
    return {"model": "toy"}


def open_scorer(
    options: Options, context: ScoringContext
) -> Callable[[TokenChunk], dict[str, npt.NDArray[np.float32]]]:
    note(options, "open")

    def score(chunk: TokenChunk) -> dict[str, npt.NDArray[np.float32]]:
        row_ids = chunk.columns["row_id"]
        if options.bad_row in row_ids:
            raise_error(options.error, options.bad_row)
        if options.die_at in row_ids:
            os.kill(os.getpid(), 9)
        time.sleep(options.seconds)
        lengths = np.diff(chunk.row_offsets)
        row_means = np.add.reduceat(chunk.columns["input_ids"].astype(np.float64), chunk.row_offsets[:-1]) / lengths
        base = np.sqrt(np.repeat(row_means, lengths)) + chunk.columns["pinned"]
        reference = np.log1p(chunk.columns["input_ids"]) * options.factor
        values = {"token_scores": base - reference, "base_nll": base, "reference_nll": reference}
        note(options, f"shard {row_ids[0]} {row_ids[-1]}")
        return {name: np.where(chunk.supervised, given, np.nan).astype(np.float32) for name, given in values.items()}

    return score


def raise_error(kind: str, row_id: str) -> None:
    """One error of the user, several, or a bug."""
    error = UserError("the row is bad", f"row {row_id}", "give another")
    if kind == "one":
        raise error
    if kind == "several":
        raise UserErrors([error, error])
    raise ZeroDivisionError("by zero")


def note(options: Options, line: str) -> None:
    """Appended whole: several processes write."""
    with Path(options.log).open("a") as file:
        file.write(f"{os.getpid()} {line}\n")
