"""`sftgo score` says what the groups hold, `sftgo inspect --why` how a token came into its group: every kind of scorer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.cli.main import main


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == code, capsys.readouterr().err
    result = capsys.readouterr()
    return result.out if code == 0 else result.err


@pytest.fixture
def row(recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The first row of more than ten supervised tokens, as the default scorer left it."""
    monkeypatch.setenv("COLUMNS", "80")
    rows: list[dict[str, Any]] = json.loads(printed(capsys, "inspect", str(recipe), "--rows", "9", "--json"))["rows"]
    return next(row for row in rows if sum(label != -100 for label in row["labels"]) > 10)


def first_number(text: str) -> float:
    found = re.match(r"-?[\d.,]+", text)
    assert found is not None
    return float(found.group().rstrip(".,").replace(",", ""))


def lines_about(capsys: pytest.CaptureFixture[str], recipe: Path, token: str, *more: str) -> dict[str, str]:
    lines = json.loads(printed(capsys, "inspect", str(recipe), "--why", token, "--json", *more))["lines"]
    return {line["name"]: line["text"] for line in lines}


def test_the_parts_of_a_tfidf_score(recipe: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    supervised = [token for token, label in enumerate(row["labels"]) if label != -100]
    token = next(token for token in supervised if row["group_ids"][token] == 0 and not row["pinned"][token])
    found = lines_about(capsys, recipe, f"{row['row_id']}:{token}")
    assert first_number(found["tf"]) * first_number(found["idf"]) == pytest.approx(row["token_scores"][token], abs=1e-3)
    assert first_number(found["score"]) == pytest.approx(row["token_scores"][token], abs=1e-4)
    count = [row["input_ids"][place] for place in supervised].count(row["input_ids"][token])
    assert f"{count} times among {len(supervised)} supervised terms" in found["tf"]
    assert "distinct training rows" in found["idf"]
    assert found["group"].startswith("0 of 0 to 1")
    text = printed(capsys, "inspect", str(recipe), "--why", f"{row['row_id']}:{token}")
    assert max(map(len, text.splitlines())) <= 80
    words = lines_about(capsys, recipe, f"{row['row_id']}:{token}", "scoring.unit=word")
    assert words["term"].startswith("the word at character ")
    assert first_number(words["tf"]) * first_number(words["idf"]) == pytest.approx(
        first_number(words["score"]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        ("random", []),
        ("base_nll", ["base_nll"]),
        ("{name: combine, scorers: [{name: tfidf}, {name: random, weight: 2.0}]}", ["part 0, tfidf", "part 1, random"]),
    ],
)
def test_the_parts_of_other_scores(
    recipe: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str], scoring: str, expected: list[str]
) -> None:
    token = next(token for token, label in enumerate(row["labels"]) if label != -100)
    found = lines_about(capsys, recipe, f"{row['row_id']}:{token}", f"scoring={scoring}")
    assert [name for name in found if name.startswith(("part", "base"))] == expected
    assert {"score", "rank", "threshold", "group"} <= set(found)


def test_a_token_of_an_evaluation_set_and_wrong_questions(
    recipe: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    held = json.loads(printed(capsys, "inspect", str(recipe), "--set", "heldout", "--rows", "1", "--json"))["rows"][0]
    last = len(held["labels"]) - 1
    assert "not ranked" in lines_about(capsys, recipe, f"{held['row_id']}:{last}", "--set", "heldout")["decided by"]
    assert lines_about(capsys, recipe, f"{row['row_id']}:0")["supervised"].startswith("no")
    for asked, message in (
        (f"{row['row_id']}:9999", "has no token 9999"),
        ("nowhere:0", "there is no row 'nowhere' - --why nowhere:0"),
        ("nowhere", "is no row and token"),
    ):
        assert message in printed(capsys, "inspect", str(recipe), "--why", asked, code=2)
    assert "leave out" in printed(capsys, "inspect", str(recipe), "--why", "a:0", "--row", "a", code=2)


def test_score_prints_the_kinds_and_warns(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = printed(capsys, "score", str(recipe))
    assert re.search(r"group +content +words +numbers +stop-like +punctuation", out)
    assert len(re.findall(r"^ +all tokens +[\d.]+%", out, re.M)) == 1
    assert max(map(len, out.splitlines())) <= 80
    assert "Warning" not in out
    inverted = printed(capsys, "score", str(recipe), "grouping.invert=true", "grouping.boundaries=[0.2, 0.4]")
    assert "Warning: the most important group holds fewer content words" in inverted
    assert re.search(r"^ +group 1 +[\d.]+%", inverted, re.M)
    compared = printed(capsys, "score", str(recipe), "--compare", "tfidf,random")
    assert re.search(r"^ +random +[\d.]+%", compared, re.M)
