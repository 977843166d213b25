"""benchmarks/judges.py reads OpenAI's file of model solutions (rows made up here, in its format)."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
ROWS = [
    {
        "question": "A hen lays 3 eggs a day. How many in 6 days?",
        "ground_truth": "It lays 3*6=<<3*6=18>>18 eggs.\nA: 18",
        "6b_finetuning": {"is_correct": True, "solution": "3*6=<<3*6=18.0>>18\nA: 18"},
        "6b_verification": {"is_correct": False, "solution": "3+6=<<3+6=9>>9\nA: 9"},
        "175b_finetuning": {"is_correct": False, "solution": "The first day 3\nThe second day 3*2 = <<3*2=6"},
        "175b_verification": {"is_correct": True, "solution": "6 days x 3 = <<6*3=18>>18\nA: 18"},
    },
    {
        "question": "A house costs $80,000 and sells for $170,000. What is the profit?",
        "ground_truth": "170,000-80,000=$<<170000-80000=90000>>90,000\nA: 90000",
        "6b_finetuning": {"is_correct": True, "solution": "A: 90,000"},
        "6b_verification": {"is_correct": False, "solution": "A: -90000"},
        "175b_finetuning": {"is_correct": True, "solution": "made up: OpenAI would not flag this\nA: 17"},
        "175b_verification": {"is_correct": True, "solution": "$<<170000-80000=90000.0>>90,000\nA: 90000"},
    },
]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("judges_benchmark", FOLDER / "judges.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("measuring", None)
    return module


def test_openai_file(benchmark: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "solutions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    figures = benchmark.of_openai(path)
    assert figures["agreement"] == {"count": 7, "of": 8, "percent": 87.5}
    (different,) = figures["disagreements"]
    assert (different["model"], different["flag"]) == ("175b_finetuning", True)
    assert different["reason"] == "got 17, gold is 90000"
