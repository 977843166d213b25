"""Overlap and rank correlation against brute force in plain Python, and what the verbs show of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from rich.console import Console

from sftgo_cli.cli.main import main
from sftgo_cli.columns import features
from sftgo_cli.report.agreement import agreement
from sftgo_cli.report.agreement_table import agreement_html, agreement_table
from sftgo_cli.report.inspect_terminal import render_compared
from sftgo_cli.report.segments import between, row_segments, row_tokens, shortened, split_prompt

Rows = list[dict[str, list[Any]]]
NAMES = ["labels", "pinned", "token_scores", "group_ids"]


def made_rows(generator: np.random.Generator, num_rows: int) -> Rows:
    """Labels and pinned flags; scores and groups are added per scorer."""
    rows = []
    for _ in range(num_rows):
        length = int(generator.integers(1, 30))
        labels = np.where(generator.random(length) < 0.8, 7, -100).tolist()
        rows.append({"labels": labels, "pinned": (generator.random(length) < 0.1).tolist()})
    return rows


def scored(rows: Rows, score: Callable[[int], list[float]], num_top: Callable[[int], int]) -> Rows:
    """The rows with scores, the `num_top` best ranked tokens (ties by place) and every pinned one in group 1."""
    done = []
    for number, row in enumerate(rows):
        supervised = [label != -100 for label in row["labels"]]
        values = [v if s else math.nan for v, s in zip(score(number), supervised, strict=True)]
        ranked = [t for t in range(len(values)) if supervised[t] and not row["pinned"][t]]
        best = sorted(ranked, key=lambda t: -values[t])[: num_top(len(ranked))]
        groups = [-1 if not s else int(t in best or row["pinned"][t]) for t, s in enumerate(supervised)]
        done.append({**row, "token_scores": values, "group_ids": groups})
    return done


def dataset(rows: Rows, batch: int) -> list[Dataset]:
    """Two data sets; `batch` rows at a time in their files, so that scorers differ in their chunks."""
    cut = len(rows) // 3
    parts = []
    for part in (rows[:cut], rows[cut:]):
        pieces = [Dataset.from_list(part[k : k + batch], features=features(NAMES)) for k in range(0, len(part), batch)]
        from datasets import concatenate_datasets

        parts.append(concatenate_datasets(pieces))
    return parts


def plain_mid_ranks(values: list[float]) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) - 1) / 2 for value in values]


def plain_correlation(x: list[float], y: list[float]) -> float | None:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    square_x, square_y = sum((a - mean_x) ** 2 for a in x), sum((b - mean_y) ** 2 for b in y)
    if square_x == 0 or square_y == 0:
        return None
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / math.sqrt(square_x * square_y)


def brute_force(first: Rows, second: Rows) -> tuple[float, float, float, int, list[float]]:
    """Overlap, chance, mean rank correlation, its samples, and the overlap of each row."""
    both = either = chance = size = 0.0
    correlations, overlaps = [], []
    for a, b in zip(first, second, strict=True):
        ranked = [t for t in range(len(a["labels"])) if a["labels"][t] != -100 and not a["pinned"][t]]
        top_a, top_b = ({t for t in ranked if row["group_ids"][t] == 1} for row in (a, b))
        both, either = both + len(top_a & top_b), either + len(top_a | top_b)
        size += len(top_a) + len(top_b)
        chance += len(top_a) * len(top_b) / len(ranked) if ranked else 0.0
        overlaps.append(len(top_a & top_b) / len(top_a | top_b) if top_a | top_b else 1.0)
        if len(ranked) >= 3:
            ranks = [plain_mid_ranks([row["token_scores"][t] for t in ranked]) for row in (a, b)]
            found = plain_correlation(*ranks)
            if found is not None:
                correlations.append(found)
    return both / either, chance / (size - chance), sum(correlations) / len(correlations), len(correlations), overlaps


def test_agreement_is_that_of_brute_force() -> None:
    generator = np.random.default_rng(11)
    rows = made_rows(generator, 60)
    rows[7] = {"labels": [-100, -100], "pinned": [False, False]}
    rows[8] = {"labels": [7, 7], "pinned": [False, False]}
    lengths = [len(row["labels"]) for row in rows]
    tied = [generator.integers(0, 4, length).astype(float).tolist() for length in lengths]
    smooth = [generator.normal(size=length).astype(np.float32).tolist() for length in lengths]
    views = {
        "tied": scored(rows, lambda r: tied[r], lambda n: -(-n * 3 // 10)),
        "smooth": scored(rows, lambda r: smooth[r], lambda n: n // 2),
        "mixed": scored(rows, lambda r: [a + b for a, b in zip(tied[r], smooth[r], strict=True)], lambda n: n // 3),
    }
    files = {name: dataset(view, batch) for (name, view), batch in zip(views.items(), (60, 7, 11), strict=True)}
    found = agreement(files, 2, "important", num_least=60)
    assert [(pair.first, pair.second) for pair in found.pairs] == list(combinations(views, 2))
    per_row = []
    for pair in found.pairs:
        overlap, chance, correlation, count, overlaps = brute_force(views[pair.first], views[pair.second])
        assert pair.overlap == pytest.approx(overlap, abs=1e-12)
        assert pair.chance == pytest.approx(chance, abs=1e-12)
        assert pair.rank_correlation == pytest.approx(correlation, abs=1e-12)
        assert pair.num_correlated == count
        assert 0 < count < 60
        per_row.append(overlaps)
    assert sorted(row.row for row in found.least) == list(range(60))
    for row in found.least:
        assert row.overlaps == pytest.approx([overlaps[row.row] for overlaps in per_row], abs=1e-12)
    assert [row.overlap for row in found.least] == sorted(row.overlap for row in found.least)
    few = agreement(files, 2, "important", num_least=5)
    assert few.least == found.least[:5]


def test_identical_inverted_and_random_scorers() -> None:
    generator = np.random.default_rng(2)
    rows = [{"labels": [7] * 50, "pinned": [False] * 50} for _ in range(400)]
    values = [generator.permutation(50).astype(float).tolist() for _ in rows]
    other = [generator.permutation(50).astype(float).tolist() for _ in rows]
    views = {
        "one": scored(rows, lambda r: values[r], lambda n: 15),
        "same": scored(rows, lambda r: [3 * v + 1 for v in values[r]], lambda n: 15),
        "inverted": scored(rows, lambda r: [-v for v in values[r]], lambda n: 15),
        "random": scored(rows, lambda r: other[r], lambda n: 15),
    }
    found = agreement({name: dataset(view, 100) for name, view in views.items()}, 2, "important")
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}
    assert pairs["one", "same"].overlap == 1.0
    assert pairs["one", "same"].rank_correlation == pytest.approx(1.0, abs=1e-12)
    assert pairs["one", "inverted"].overlap == 0.0
    assert pairs["one", "inverted"].rank_correlation == pytest.approx(-1.0, abs=1e-12)
    # Two random groups of 15 of 50: expected overlap of 4.5 tokens. 400 samples: standard errors 0.005 and 0.007.
    by_chance = pairs["one", "random"]
    assert by_chance.chance == pytest.approx(4.5 / 25.5, abs=1e-12)
    assert by_chance.overlap == pytest.approx(4.5 / 25.5, abs=0.02)
    assert by_chance.rank_correlation == pytest.approx(0.0, abs=0.03)
    assert (found.num_rows, found.num_ranked) == (400, 20_000)


def test_special_tokens_count_where_they_are_scored() -> None:
    rows = [{"labels": [7, 7, 7, 7], "pinned": [False, False, False, True]}]
    first = [{**rows[0], "token_scores": [3.0, 2.0, 1.0, 0.0], "group_ids": [1, 0, 0, 0]}]
    second = [{**rows[0], "token_scores": [3.0, 2.0, 1.0, 9.0], "group_ids": [1, 0, 0, 1]}]
    views = {name: [Dataset.from_list(view, features=features(NAMES))] for name, view in (("a", first), ("b", second))}
    (pair,) = agreement(views, 2, "important").pairs
    assert (pair.overlap, pair.rank_correlation) == (1.0, pytest.approx(1.0))
    (pair,) = agreement(views, 2, "scored").pairs
    assert pair.overlap == 0.5
    assert pair.rank_correlation == pytest.approx(plain_correlation([3, 2, 1, 0], [2, 1, 0, 3]))


def test_nothing_ranked_is_undefined() -> None:
    row = {"labels": [-100], "pinned": [False], "token_scores": [math.nan], "group_ids": [-1]}
    view = [Dataset.from_list([row], features=features(NAMES))]
    found = agreement({"a": view, "b": view}, 2, "important")
    (pair,) = found.pairs
    assert (pair.overlap, pair.chance, pair.rank_correlation, pair.num_correlated) == (None, None, None, 0)
    assert "–" in agreement_html(found)
    out = Console(file=StringIO(), width=100)
    out.print(agreement_table(found))
    assert "a and b         –           –                  –         0" in out.file.getvalue()  # type: ignore[attr-defined]


def test_parts_of_a_row_keep_its_text(make_row: Any) -> None:
    row = row_tokens(make_row("Who? ", "the cat 😀 sat"))
    prompt, response = split_prompt(row)
    assert prompt.text + response.text == row.text
    assert prompt.text == "Who?"
    assert not prompt.supervised.any()
    assert response.supervised.all()
    for part in (prompt, response):
        assert "".join(segment.text for segment in row_segments(part)) == part.text
    assert shortened(response, 3).text == " the"
    assert shortened(response, 1000).text == response.text
    assert between(row, 0, row.num_tokens).text == row.text


def test_compared_rows_show_the_prompt_once(make_row: Any) -> None:
    versions = {"first": [make_row("Who? ", "the cat")], "second": [make_row("Who? ", "the cat")]}
    groups = versions["second"][0]["group_ids"]
    versions["second"][0]["group_ids"] = [1 - group if group >= 0 else -1 for group in groups]
    out = Console(file=StringIO(), width=200)
    for part in render_compared(versions, num_groups=2, notes=["overlap: 0"]):
        out.print(part)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("Who?") == 1
    assert text.index("overlap: 0") < text.index("Who?") < text.index("first") < text.index("second")
    first, second = text[text.index("first") :].split("second")
    assert re.findall("«(.+?)»", first) == ["cat"]
    assert re.findall("«(.+?)»", second) == ["the", "</s>"]


RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data:
  train: [{path: rows.jsonl}]
  eval: {heldout: {fraction: 0.25}}
  max_length: 64
scoring: {name: random, seed: 3}
training: {output_dir: unused}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import json

    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    ids = np.random.default_rng(0).integers(20, 200, (16, 12)).tolist()
    rows = [{"input_ids": row, "mine": list(range(12)), "id": f"n{k}"} for k, row in enumerate(ids)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_score_and_inspect_compare(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scorers = "tfidf, random, {name: column, column: mine}"
    assert main(["score", str(recipe), "--compare", scorers]) == 0
    out = capsys.readouterr().out
    for pair in ("tfidf and random", "tfidf and column", "random and column"):
        assert re.search(rf"{pair} +0\.\d+ +0\.\d+ +-?\d\.\d+ +12 ", out)
    assert out.count("mean overlap") == 5
    page = recipe.parent / "page.html"
    assert main(["inspect", str(recipe), "--compare", scorers, "--html", str(page)]) == 0
    html = page.read_text()
    assert html.count("<article>") == 12
    for label in ("tfidf", "random", "column"):
        assert html.count(f"<h3>{label} <span") == 12
    assert "Agreement between groupings" in html
    assert "http" not in html
    assert main(["inspect", str(recipe), "--compare", scorers, "--rows", "1", "--set", "heldout"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {label}  \d+ most important$", out, re.M) for label in ("tfidf", "random", "column"))


@pytest.mark.parametrize(
    ("scorers", "extra", "says"),
    [
        ("tfidf", [], "a comparison needs at least two scorers"),
        ("tfidf,rho1", [], "rho1 needs reference .*write '{name: rho1, reference: ...}'"),
        ("tfidf,rndom", [], "no such method, found the text 'rndom' .*--compare.*did you mean random"),
        ("tfidf,{name: random, sed: 1}", [], "unknown key 'sed' .*did you mean seed"),
        ("tfidf,{", [], "not valid YAML"),
        ("random,{name: random, seed: 3}", [], "random is named twice"),
        ("tfidf,random", ["grouping.column={name: mine, num_groups: 2}"], "the rows themselves give the groups"),
    ],
)
def test_wrong_comparisons(
    recipe: Path, scorers: str, extra: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(recipe), *extra, "--compare", scorers]) == 2
    assert re.search(says, capsys.readouterr().err)


def test_a_bare_name_takes_the_recipes_options(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(recipe), "--compare", "random,{name: random, seed: 4}"]) == 0
    assert "random seed=3 and random seed=4" in capsys.readouterr().out
    combined = "scoring={name: combine, scorers: [{name: random, seed: 9}, {name: tfidf, unit: word}]}"
    assert main(["score", str(recipe), combined, "--compare", "random,{name: random, seed: 4},combine"]) == 0
    out = capsys.readouterr().out
    assert "random seed=9 and random seed=4" in out
    assert "random seed=4 and combine" in out
