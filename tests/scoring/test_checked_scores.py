"""What any scorer returns is checked before it is written: every scorer of the table, spoilt in every way, exits 2."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sftgo_cli import scoring
from sftgo_cli.columns import features
from sftgo_cli.data.rows import TokenChunk
from sftgo_cli.data.stages import Rows
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.recipe.options import MethodChoice, MethodPart
from sftgo_cli.scoring import random, tfidf
from sftgo_cli.scoring.context import ScoringContext
from sftgo_cli.scoring.stages import scored
from tests.scoring.engine import same_path

LABELS = [[-100, 5, 6], [-100, -100, 7, 8], [9, 10]]
ROW, TOKEN = 1, 3  # the spoilt number: the last token of the second row
FLAT = 6
NEEDED: dict[str, dict[str, Any]] = {
    "rho1": {"reference": "none"},
    "token_cleaning": {"reference": "none"},
    "combine": {
        "scorers": [
            MethodPart(name="tfidf", weight=1.0, options=tfidf.Options()),
            MethodPart(name="random", weight=1.0, options=random.Options()),
        ]
    },
}


def good(chunk: TokenChunk) -> np.ndarray:
    return np.where(chunk.supervised, 1.0, np.nan).astype(np.float32)


def with_value(value: float) -> Callable[[TokenChunk], Any]:
    def spoil(chunk: TokenChunk) -> np.ndarray:
        values = good(chunk)
        values[FLAT] = value
        return values

    return spoil


NOT_FINITE = r"{name} computed {value} as {column} of token 3 - row r1 - "
WRONG_SHAPE = r"{name} gave {value} as {column}, not float32\[9\] - rows r0 to r2 - "
SPOILT: dict[str, tuple[Callable[[TokenChunk], Any], str, str]] = {
    "nan": (with_value(np.nan), NOT_FINITE, "nan"),
    "infinity": (with_value(np.inf), NOT_FINITE, "inf"),
    "minus infinity": (with_value(-np.inf), NOT_FINITE, "-inf"),
    "too short": (lambda chunk: good(chunk)[1:], WRONG_SHAPE, r"float32\[8\]"),
    "too long": (lambda chunk: np.append(good(chunk), np.float32(1)), WRONG_SHAPE, r"float32\[10\]"),
    "two dimensions": (lambda chunk: good(chunk)[:, None], WRONG_SHAPE, r"float32\[9, 1\]"),
    "float64": (lambda chunk: good(chunk).astype(np.float64), WRONG_SHAPE, r"float64\[9\]"),
    "integers": (lambda chunk: np.ones(9, dtype=np.int32), WRONG_SHAPE, r"int32\[9\]"),
    "a list": (lambda chunk: good(chunk).tolist(), WRONG_SHAPE, "list"),
    "a number": (lambda chunk: 1.0, WRONG_SHAPE, "float"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))


def make_rows() -> Rows:
    names = ["row_id", "source", "input_ids", "labels", "pinned"]
    data = {
        "row_id": ["r0", "r1", "r2"],
        "source": ["a"] * 3,
        "input_ids": [[abs(label) for label in row] for row in LABELS],
        "labels": LABELS,
        "pinned": [[False] * len(row) for row in LABELS],
    }
    return Rows([Dataset.from_dict(data, features=features(names))], ["key"])


def run(name: str, module: ModuleType) -> Rows:
    rows, options = make_rows(), module.Options(**NEEDED.get(name, {}))
    context = ScoringContext(ModelSection(name_or_path="none"), Path(), None, same_path, 1, lambda line: None, None)
    return scored(rows, rows, MethodChoice(name=name, options=options), module, context, lambda line: None)


def replace_output(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, output: Callable[[TokenChunk], Any], column: str
) -> None:
    """Let a scorer of any kind return `output` as this column, and what is right as its others."""
    if hasattr(module, "combine"):
        monkeypatch.setattr(module, "combine", lambda chunk, part_scores, options: output(chunk))
    elif hasattr(module, "open_scorer"):

        def score(chunk: TokenChunk) -> dict[str, Any]:
            written = module.written(module.Options(**NEEDED.get(module.__name__.rpartition(".")[2], {})))
            return {name: output(chunk) if name == column else good(chunk) for name in written}

        monkeypatch.setattr(module, "fingerprint", lambda options, context: {})
        monkeypatch.setattr(module, "open_scorer", lambda options, context: score)
    else:
        monkeypatch.setattr(module, "score", lambda rows, fit_on, options: map(output, rows.chunks()))


def scorers_and_columns() -> Iterator[tuple[str, str]]:
    for name in scoring.METHODS:
        module = importlib.import_module(f"sftgo_cli.scoring.{name}")
        options = module.Options(**NEEDED.get(name, {}))
        for column in module.written(options) if hasattr(module, "written") else ("token_scores",):
            yield name, column


def refused(monkeypatch: pytest.MonkeyPatch, name: str, column: str, spoilt: str) -> ModuleType:
    """Spoil a scorer of the table: its run must be refused, and leave nothing published."""
    module = importlib.import_module(f"sftgo_cli.scoring.{name}")
    output, message, value = SPOILT[spoilt]
    replace_output(monkeypatch, module, output, column)
    with pytest.raises(UserError, match=message.format(name=name, value=value, column=column)) as raised:
        run(name, module)
    assert raised.value.exit_code == 2
    return module


@pytest.mark.parametrize(("name", "column"), list(scorers_and_columns()))
def test_no_scorer_gets_a_wrong_number_through(name: str, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = refused(monkeypatch, name, column, "nan")
    # Nothing was published: with a right output the same stage is computed, and is what it returns. What a scorer says
    # of tokens that are not supervised may be anything.
    replace_output(
        monkeypatch, module, lambda chunk: np.where(chunk.supervised, good(chunk), np.float32(np.inf)), column
    )
    (dataset,) = run(name, module).datasets
    assert dataset[ROW][column][TOKEN] == 1.0
    assert dataset[ROW][column][0] == np.inf


@pytest.mark.parametrize("spoilt", [name for name in SPOILT if name != "nan"])
@pytest.mark.parametrize("name", ["column", "base_nll"])  # one that is a function of the rows, one with a model
def test_every_kind_of_wrong_output_is_refused(name: str, spoilt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(monkeypatch, name, "token_scores", spoilt)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda chunks: chunks[:0], "toy gave 0 arrays and has no scores for the rest - rows r0 to r2 - "),
        (lambda chunks: chunks * 2, "toy gave more than the 1 arrays that there are chunks of rows"),
        (lambda chunks: None, "toy returned NoneType, not one array per chunk"),
    ],
)
def test_there_is_one_array_per_chunk(outputs: Callable[[list[Any]], Any], message: str) -> None:
    toy = ModuleType("toy")
    toy.VERSION, toy.Options = 1, random.Options  # type: ignore[attr-defined]
    toy.columns = lambda options: (("input_ids",), ())  # type: ignore[attr-defined]  # without the labels
    toy.score = lambda rows, fit_on, options: outputs([good(c) for c in rows.chunks()])  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=message) as raised:
        run("toy", toy)
    assert raised.value.exit_code == 2
