"""The judges against everyday answers with a person's verdict, and letters that a person does not read as options."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from sftgo_cli.curation.careful_words import careful
from sftgo_cli.curation.chosen_option import read_choice
from sftgo_cli.curation.contradictions import contradiction
from sftgo_cli.curation.named_options import LETTERS

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "everyday.py"
JUDGES = ("numeric", "choice", "exact", "token_f1")


@pytest.fixture(scope="module")
def everyday() -> ModuleType:
    spec = importlib.util.spec_from_file_location("everyday", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["everyday"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("judge", JUDGES)
def test_agreement_with_people(everyday: ModuleType, judge: str) -> None:
    figures = everyday.agreement(judge)
    assert figures["answers"] >= 300
    assert figures["agree"]["percent"] >= 98.0, figures["disagreements"]
    assert figures["wrong acceptances"]["percent"] <= 0.5, figures["disagreements"]


@pytest.mark.parametrize("judge", JUDGES)
def test_rows_can_be_accepted_and_rejected(everyday: ModuleType, judge: str) -> None:
    """A judge that always says yes, or always no, must not agree."""
    wanted = [one.wanted for answer in everyday.judged(judge) for one in answer]
    assert min(sum(wanted), len(wanted) - sum(wanted)) > len(wanted) // 6


@pytest.mark.parametrize("piece", ["A, ", "A:", "not A ", "x-", "[1,", "*", "B? No. "], ids=repr)
def test_long_answers_are_read_in_linear_time(piece: str) -> None:
    text = piece * (40_000 // len(piece))
    start = time.process_time()
    read_choice(text, ["Rome", "Paris", "New York"])
    careful(text)
    contradiction(text, "5 apples in Paris")
    assert time.process_time() - start < 6.0  # about 0.5 s; quadratic time would be minutes


MANY = [f"kind {number}" for number in range(len(LETTERS))]


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("I", 8),
        ("I guess", None),
        ("I think so", None),
        ("I am not sure", None),
        ("Well, I would not know", None),
        ("A", 0),
        ("A good question", None),
        ("It has A lot", None),
        ("(I)", 8),
        ("I.", 8),
        ("The answer is (I).", 8),
    ],
)
def test_a_bare_pronoun_or_article_is_no_option(text: str, option: int | None) -> None:
    got = read_choice(text, MANY)
    assert got == option if option is not None else isinstance(got, str)
