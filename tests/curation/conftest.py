"""Rows with answers made elsewhere and judges in Python files, so that a whole curation runs without generating."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.curation.questions import CurationContext
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.recipe.model_section import ModelSection

ACCEPT = "def judge(prompt, answer, gold, row):\n    return True\n"
REJECT = "def judge(prompt, answer, gold, row):\n    return False\n"

RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data:
  train: {path: rows.jsonl}
  max_length: 128
training: {output_dir: runs/unused, max_steps: 2, use_cpu: true, per_device_train_batch_size: 2}
"""

ROWS: list[dict[str, Any]] = [
    {
        "prompt": f"What is {n} plus 2?",
        "completion": f"{n} and 2 make {n + 2}.",
        "candidate": f"It is {n + n % 3}.",
        "again": f"So {n + 2}.",
    }
    for n in range(12)
]


@pytest.fixture
def context(tmp_path: Path) -> CurationContext:
    """The built-in model's context; `say` keeps its lines in `context.say.lines`."""
    return make_context(tmp_path)


def make_context(folder: Path, say: Callable[[str], None] = lambda line: None) -> CurationContext:
    """A context whose paths begin in `folder`."""
    section = ModelSection(name_or_path="builtin:tiny", dtype="float32")
    tokenizer = load_tokenizer(section, folder)
    return CurationContext(section, folder, tokenizer, tokenizer.chat_template, lambda path: path, 1, True, say, None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows, judges and a recipe without a curation, and a cache of its own."""
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "accept.py").write_text(ACCEPT)
    (tmp_path / "reject.py").write_text(REJECT)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as jsonl."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
