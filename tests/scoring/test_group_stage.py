"""Grouping as a stage: every kind of groups beside scored rows, evaluation sets under the training rows' thresholds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sftgo_cli import pipeline
from sftgo_cli.columns import features
from sftgo_cli.data.stages import Rows
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.scoring.group_stage import check_given, grouped

NAMES = ["row_id", "labels", "pinned", "token_scores"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "sftgo-cache"))


def scored_rows(seed: int, num_rows: int, shift: float = 0.0, key: str = "k") -> Rows:
    """Two data sets of random rows with many equal scores, some tokens unsupervised, some pinned."""
    generator = np.random.default_rng(seed)
    parts = []
    for part in range(2):
        rows: dict[str, list[Any]] = {name: [] for name in NAMES}
        for number in range(num_rows):
            length = int(generator.integers(1, 20))
            labels = np.where(generator.random(length) < 0.7, 7, -100)
            scores = np.round(generator.normal(size=length), 1).astype(np.float32) + np.float32(shift)
            rows["row_id"].append(f"{part}-{number}")
            rows["labels"].append(labels.tolist())
            rows["pinned"].append((generator.random(length) < 0.2).tolist())
            rows["token_scores"].append(np.where(labels == -100, np.nan, scores).astype(np.float32).tolist())
        parts.append(Dataset.from_dict(rows, features=features(NAMES)))
    return Rows(parts, [f"{key}{seed}-{part}" for part in range(2)])


def flat(rows: Rows, name: str) -> np.ndarray:
    return np.concatenate([np.concatenate([np.asarray(row) for row in part[name]]) for part in rows.datasets])


def group(rows: Rows, train: Rows, **grouping: Any) -> np.ndarray:
    return flat(grouped(rows, train, GroupingSection(**grouping), lambda _: None), "group_ids")


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("special", ["important", "unimportant", "scored"])
def test_quantiles_are_those_of_all_training_tokens(special: Any, invert: bool) -> None:
    train, other = scored_rows(1, 60), scored_rows(2, 30, shift=0.4)
    cuts = [0.1, 0.35, 0.6]
    sign = -1 if invert else 1

    def parts(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        supervised = flat(rows, "labels") != -100
        ranked = supervised & ~(flat(rows, "pinned") & (special != "scored"))
        return supervised, ranked, sign * flat(rows, "token_scores")

    _, ranked, scores = parts(train)
    pool = np.sort(scores[ranked])[::-1]
    thresholds = [pool[max(1, math.ceil(cut * len(pool) - 1e-9)) - 1] for cut in cuts]
    for rows in (train, other):
        supervised, ranked, scores = parts(rows)
        expected = np.full(len(scores), -1)
        expected[supervised] = 3 if special == "important" else 0
        expected[ranked] = sum((scores[ranked] >= threshold).astype(int) for threshold in thresholds)
        got = group(rows, train, quantiles=cuts, special_tokens=special, invert=invert)
        assert got.tolist() == expected.tolist()


def test_thresholds_are_the_same_for_every_row() -> None:
    rows = scored_rows(3, 40)
    scores, pinned = flat(rows, "token_scores"), flat(rows, "pinned")
    supervised = flat(rows, "labels") != -100
    # Scores are rounded to tenths in float32, which is how a threshold of tenths is meant.
    expected = (scores >= np.float32(-0.3)).astype(int) + (scores >= np.float32(0.7)).astype(int)
    expected = np.where(pinned, 2, expected)
    got = group(rows, rows, thresholds=[-0.3, 0.7])
    assert got.tolist() == np.where(supervised, expected, -1).tolist()


def with_column(values: list[list[float]]) -> Rows:
    from datasets import Features, List, Value

    lengths = [len(row) for row in values]
    data = {
        "row_id": [f"r{number}" for number in range(len(values))],
        "labels": [[-100] + [5] * (length - 1) for length in lengths],
        "pinned": [[True] * length for length in lengths],
        "token_scores": [[float("nan")] + [0.0] * (length - 1) for length in lengths],
        "mine": values,
    }
    kinds = {**features(NAMES), "mine": List(Value("float32"))}
    return Rows([Dataset.from_dict(data, features=Features(kinds))], ["key"])


def test_groups_of_a_column_are_taken_as_they_are() -> None:
    rows = with_column([[float("nan"), 2, 0], [9, 1, 1, 0]])
    grouping = GroupingSection.model_validate({"column": {"name": "mine", "num_groups": 3}})
    check_given([rows], grouping)
    assert group(rows, rows, column=grouping.column).tolist() == [-1, 2, 0, -1, 1, 1, 0]


@pytest.mark.parametrize(("bad", "shown"), [(3, "3"), (-1, "-1"), (0.5, "0.5"), (float("nan"), "nan")])
def test_a_column_without_a_group_names_row_and_token(bad: float, shown: str) -> None:
    grouping = GroupingSection.model_validate({"column": {"name": "mine", "num_groups": 3}})
    with pytest.raises(
        UserError, match=rf"group of token 2 is {shown} - row r1, column mine - .*from 0 to 2"
    ) as raised:
        check_given([with_column([[0, 1], [0, 2, bad]])], grouping)
    assert raised.value.exit_code == 2


RECIPE = """\
model: builtin:tiny
data:
  train: [rows.jsonl]
  eval: {other: {path: other.jsonl}}
  max_length: 128
scoring: random
tuning: full
training: {output_dir: runs/x, use_cpu: true}
"""


def segment(text: str, group_id: int, train: bool = True) -> dict[str, Any]:
    return {"text": text, "group": group_id, "train": train}


def prepare(tmp_path: Path, said: list[str], rows: list[dict[str, Any]], *overrides: str) -> Any:
    for name in ("rows.jsonl", "other.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return pipeline.prepare(pipeline.load(tmp_path / "recipe.yaml", overrides), said.append)


def test_segments_from_rows_to_groups(tmp_path: Path) -> None:
    answer = [segment("It is 3.", 0, False), segment(" No, it is 4.", 1)]
    rows = [{"instruction": "What is 2 and 2?", "output": answer}, {"instruction": "And 1?", "output": "One."}]
    said: list[str] = []
    data = prepare(tmp_path, said, rows, "grouping={segments: {num_groups: 2}}")
    assert data.num_groups == 2
    for table in (data.train, data.evaluation["other"]):
        first, second = table.datasets[0]
        assert "given_groups" not in first
        marked = [first["text"][a:b] for (a, b), g in zip(first["offsets"], first["group_ids"], strict=True) if g == 1]
        assert "".join("".join(marked).split()) == "No,itis4.<|end|>"
        assert 0 not in first["group_ids"]
        assert set(second["group_ids"]) == {-1, 0}
    with pytest.raises(UserError, match=r"the group of token \d+ is 1 - row row:0, its segments - .*from 0 to 0"):
        prepare(tmp_path, said, rows, "grouping={segments: {num_groups: 1}}")


def tokenizations(tmp_path: Path, rows: list[dict[str, Any]], *overrides: str) -> int:
    said: list[str] = []
    prepare(tmp_path, said, rows, *overrides)
    return sum(line.startswith("tokenizing") for line in said)


def test_only_what_the_rows_give_is_tokenized_again(tmp_path: Path) -> None:
    rows = [{"instruction": "Hi?", "output": "Yes it is."}]
    everything = "data.train_on=all"
    assert tokenizations(tmp_path, rows, everything) == 2
    for grouping in ("important_fraction: 0.5", "boundaries: [0.2]", "quantiles: [0.2]", "thresholds: [0.5]"):
        assert tokenizations(tmp_path, rows, everything, f"grouping={{{grouping}}}") == 0
    assert tokenizations(tmp_path, rows, everything, "grouping={roles: [[user], [assistant]]}") == 2
    assert tokenizations(tmp_path, rows, everything, "grouping={roles: [[assistant], [user]]}") == 2
    assert tokenizations(tmp_path, rows, everything, "grouping={segments: {num_groups: 2}}") == 2
    assert tokenizations(tmp_path, rows, everything, "grouping={segments: {num_groups: 3}}") == 0


def test_a_column_travels_from_the_data(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"instruction": "Hi?", "output": "Yes."}]
    length = len(prepare(tmp_path, [], rows).train.datasets[0][0]["input_ids"])
    rows[0]["mine"] = [number % 3 for number in range(length)]
    data = prepare(tmp_path, [], rows, "grouping={column: {name: mine, num_groups: 3}}")
    row = data.train.datasets[0][0]
    wanted = [-1 if label == -100 else number % 3 for number, label in enumerate(row["labels"])]
    assert row["group_ids"] == wanted
    with pytest.raises(UserError, match=r"column 'yours' is missing.*rows\.jsonl:1"):
        prepare(tmp_path, [], rows, "grouping={column: {name: yours, num_groups: 3}}")
