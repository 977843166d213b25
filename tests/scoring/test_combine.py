"""`combine`: ranks against the definition written out, parts shared with other recipes, faults of parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftgo_cli import pipeline
from sftgo_cli.cache import cache_root
from sftgo_cli.cli.main import main
from sftgo_cli.data.rows import TokenChunk
from sftgo_cli.errors import UserError, UserErrors
from sftgo_cli.recipe.options import MethodPart
from sftgo_cli.scoring import combine, random, tfidf
from sftgo_cli.scoring.ranks import mid_ranks

RECIPE = """
model: {{name_or_path: "builtin:tiny", dtype: float32}}
data: {{train: {{path: "builtin:instructions", max_samples: 12}}, max_length: 128}}
scoring: {scoring}
training: {{output_dir: unused}}
"""


def options(*weights: float) -> combine.Options:
    parts = [MethodPart(name="random", options=random.Options(seed=k), weight=w) for k, w in enumerate(weights)]
    return combine.Options(scorers=parts)


def chunk_of(rows: list[tuple[list[int], list[bool]]]) -> TokenChunk:
    """Rows as (labels, pinned)."""
    lengths = [len(labels) for labels, _ in rows]
    columns = {
        "labels": np.array([label for labels, _ in rows for label in labels], dtype=np.int32),
        "pinned": np.array([flag for _, flags in rows for flag in flags], dtype=np.bool_),
    }
    return TokenChunk(0, np.cumsum([0, *lengths], dtype=np.int64), columns)


def scaled(value: float, among: list[float]) -> float:
    """The definition: the mean place of the value's equals among the sorted values, over their number less one."""
    if len(among) == 1:
        return 0.5
    places = [place for place, other in enumerate(sorted(among)) if other == value]
    return sum(places) / len(places) / (len(among) - 1)


def by_definition(rows: list[Any], scores: list[list[float]], weights: list[float]) -> list[float]:
    flat, start = [], 0
    for labels, pinned in rows:
        supervised = [t for t, label in enumerate(labels) if label != -100]
        ranked = [t for t in supervised if not pinned[t]]
        for t in range(len(labels)):
            if t not in supervised:
                flat.append(float("nan"))
                continue
            among = ranked if t in ranked else supervised
            total = sum(w * scaled(s[start + t], [s[start + u] for u in among]) for w, s in zip(weights, scores))  # noqa: B905
            flat.append(total / sum(weights))
        start += len(labels)
    return flat


def test_combined_scores_follow_the_definition() -> None:
    generator = np.random.default_rng(3)
    rows = []
    for length in (1, 2, 3, 9, 40, 7, 5):
        labels = np.where(generator.random(length) < 0.7, 5, -100).tolist()
        rows.append((labels, (generator.random(length) < 0.2).tolist()))
    rows += [([-100, -100], [False, True]), ([4], [False]), ([4], [True]), ([4, 4], [False, True])]
    total = sum(len(labels) for labels, _ in rows)
    scores = [
        generator.integers(-3, 4, total).astype(np.float32),
        generator.normal(size=total).astype(np.float32) * 1e6,
    ]
    scores[0][::5] = -0.0  # equal to 0.0
    weights = [0.5, 3.0]
    supervised = [label != -100 for labels, _ in rows for label in labels]
    given = [np.where(supervised, part, np.float32(np.nan)) for part in scores]
    got = combine.combine(chunk_of(rows), given, options(*weights))
    assert got.dtype == np.float32
    want = by_definition(rows, [part.tolist() for part in scores], weights)
    np.testing.assert_allclose(got, want, rtol=1e-6, equal_nan=True)


def test_only_order_counts_and_weights_are_relative() -> None:
    rows = [([1] * 6, [False] * 6)]
    first = np.array([0, 1, 2, 3, 4, 5], dtype=np.float32)
    heavy = np.array([9e9, 8, 7, 6, 5, -3], dtype=np.float32)  # the opposite order
    got = combine.combine(chunk_of(rows), [first, heavy], options(1.0, 1.0))
    assert got.tolist() == [0.5] * 6
    twice = combine.combine(chunk_of(rows), [first, np.exp(first)], options(2.0, 6.0))
    np.testing.assert_allclose(twice, first / 5, rtol=1e-7)
    leaning = combine.combine(chunk_of(rows), [first, heavy], options(3.0, 1.0))
    assert (np.diff(leaning) > 0).all()


def test_mid_ranks_of_nothing() -> None:
    assert mid_ranks(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)).tolist() == []
    assert mid_ranks(np.zeros(2, dtype=np.float32), np.array([0, 2, 0])).tolist() == [0.5, 0.5]


def written(tmp_path: Path, scoring: str, name: str = "recipe.yaml") -> Path:
    path = tmp_path / name
    path.write_text(RECIPE.format(scoring=scoring))
    return path


def scored_keys() -> set[str]:
    return {path.parent.name for path in cache_root().glob("score/*/manifest.json")}


def test_parts_are_the_ordinary_cached_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    seed = "{name: random, seed: 5}"
    assert main(["score", str(written(tmp_path, seed))]) == 0
    alone = scored_keys()
    both = written(tmp_path, f"{{name: combine, scorers: [{seed}, {{name: tfidf, weight: 2.0, unit: word}}]}}")
    data = pipeline.prepare(pipeline.load(both, []), lambda line: None)
    assert alone < scored_keys()
    assert len(scored_keys()) == 3  # random as it was, tfidf, and the combination
    assert main(["score", str(both), "scoring.scorers.1.weight=3.0"]) == 0
    assert len(scored_keys()) == 4  # another weight rescores no part
    loaded = pipeline.load(both, [])
    assert loaded.resolved["scoring"] == {
        "name": "combine",
        "scorers": [
            {"name": "random", "weight": 1.0, "seed": 5},
            {"name": "tfidf", "weight": 2.0, "unit": "word", "tf": "log", "idf": "plain", "bm25": None},
        ],
    }
    again = written(tmp_path, json.dumps(loaded.resolved["scoring"]), "again.yaml")
    assert pipeline.load(again, []).recipe.scoring == loaded.recipe.scoring
    # The column is that of the definition, from the parts' own columns.
    words = pipeline.prepare(pipeline.load(written(tmp_path, "{name: tfidf, unit: word}"), []), lambda line: None)
    drawn = pipeline.prepare(pipeline.load(written(tmp_path, seed), []), lambda line: None)
    for row, word_row, drawn_row in zip(
        data.train.datasets[0], words.train.datasets[0], drawn.train.datasets[0], strict=True
    ):
        rows = [(row["labels"], row["pinned"])]
        want = by_definition(rows, [drawn_row["token_scores"], word_row["token_scores"]], [1.0, 2.0])
        np.testing.assert_allclose(row["token_scores"], want, rtol=1e-6, equal_nan=True)


def test_combinations_nest_and_name_their_columns(tmp_path: Path) -> None:
    inner = "{name: combine, weight: 2.0, scorers: [{name: column, column: mine}, tfidf]}"
    loaded = pipeline.load(written(tmp_path, f"{{name: combine, scorers: [random, {inner}]}}"), [])
    assert pipeline.methods.source_columns(loaded.recipe)[0] == ("mine",)
    assert loaded.recipe.scoring.options.scorers[1].options.scorers[1].options == tfidf.Options()


@pytest.mark.parametrize(
    ("scoring", "says"),
    [
        ("{name: combine}", r"scoring.scorers is missing .*:4:1 - add `scorers: ...`"),
        ("{name: combine, scorers: [tfidf]}", r"scoring.scorers: needs at least 2 entries"),
        ("{name: combine, scorers: tfidf}", r"scoring.scorers: expected a list, found the text 'tfidf'"),
        ("{name: combine, scorers: [tfidf, 3]}", r"scoring.scorers.1: expected a method's name or keys with values"),
        ("{name: combine, scorers: [tfidf, randm]}", r"scoring.scorers.1.name: no such method.*did you mean random\?"),
        ("{name: combine, scorers: [tfidf, {name: random, weight: 0}]}", r"scorers.1.weight: must be greater than 0"),
        ("{name: combine, scorers: [tfidf, {name: random, wieght: 2}]}", r"'wieght' in scoring.scorers.1.*mean weight"),
        ("{name: combine, scorers: [tfidf, {name: random, sed: 2}]}", r"'sed' in scoring.scorers.1 .*:4:58.*mean seed"),
        ("{name: combine, scorers: [tfidf, {name: rho1}]}", r"scoring.scorers.1.reference is missing"),
        ("{name: tfidf, weight: 2.0}", r"unknown key 'weight' in scoring "),
    ],
)
def test_faults_of_parts_name_their_place(tmp_path: Path, scoring: str, says: str) -> None:
    with pytest.raises((UserError, UserErrors), match=says):
        pipeline.load(written(tmp_path, scoring), [])


def test_a_part_that_cannot_score_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "{name: combine, scorers: [tfidf, {name: llmlingua2, model: ./nowhere}]}")
    with pytest.raises(UserError, match=r"\(part 1, llmlingua2\)"):
        pipeline.prepare(pipeline.load(path, []), lambda line: None)


def test_paths_of_parts_inherited_from_another_folder_still_reach(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "classifier").mkdir()
    written(tmp_path, "{name: combine, scorers: [tfidf, {name: llmlingua2, model: ./classifier}]}", "base.yaml")
    child = tmp_path / "sub" / "child.yaml"
    child.write_text("extends: ../base.yaml\n")
    loaded = pipeline.load(child, [])
    assert loaded.recipe.scoring.options.scorers[1].options.model == "../classifier"
