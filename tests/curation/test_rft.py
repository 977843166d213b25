"""RFT keeps right answers that calculate differently; of those that calculate alike the one farther from the rest."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest

from sftgo_cli import pipeline
from sftgo_cli.cli.main import main
from sftgo_cli.curation.rft import distinct, levenshtein
from tests.curation.conftest import write_rows


def plain_levenshtein(first: str, second: str) -> int:
    """The recursion as it is defined."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(first), len(second))


def test_levenshtein_distances_agree_with_the_recursion() -> None:
    rng = random.Random(0)
    for _ in range(300):
        first, second = ("".join(rng.choices("abé🙂 ", k=rng.randint(0, 12))) for _ in range(2))
        assert levenshtein(first, second) == plain_levenshtein(first, second)
        assert levenshtein(first, second) == levenshtein(second, first)


def test_levenshtein_of_known_words() -> None:
    assert levenshtein("kitten", "sitting") == 3
    assert levenshtein("", "abc") == 3
    assert levenshtein("same", "same") == 0


A = "He has <<2+3=5>>5 apples."
A_LONGER = "So all in all, he now has the nice number of <<2+3 = 5>>5 apples in his basket."
B = "He has <<3+2=5>>5 apples."


def test_one_is_kept_of_each_list_of_equations() -> None:
    assert distinct([0, 1], {0: A, 1: B}) == [0, 1]
    assert distinct([0, 1], {0: A, 1: A}) == [0]
    assert distinct([4, 7, 9], {4: A, 7: B, 9: A}) == [4, 7]
    assert distinct([], {}) == []


def test_of_two_that_collide_the_one_farther_from_the_others_stays() -> None:
    assert distinct([0, 1, 2], {0: A, 1: B, 2: A_LONGER}) == [1, 2]
    assert distinct([0, 1, 2], {0: A_LONGER, 1: B, 2: A}) == [0, 1]
    assert distinct([0, 1], {0: A, 1: A_LONGER}) == [0], "without others to be far from the first stays"


def test_spaces_in_equations_do_not_tell_them_apart_and_order_does() -> None:
    assert distinct([0, 1], {0: "<<1+1=2>> <<2+2=4>>", 1: "<< 1 + 1 = 2 >><<2+2=4>>"}) == [0]
    assert distinct([0, 1], {0: "<<1+1=2>> <<2+2=4>>", 1: "<<2+2=4>> <<1+1=2>>"}) == [0, 1]


def test_answers_without_equations_are_told_apart_by_their_text() -> None:
    plain = [
        "She has 5 apples.",
        "2 and 3 make 5.",
        "she has 5 apples",
        "Five: 2 plus 3.",
        "2 and 3 make 5.",
        "5",
        "It is 5",
        "**5**",
    ]
    assert distinct(range(8), dict(enumerate(plain))) == [0, 1, 3, 6, 7], "the longer **5** is farther from the rest"
    assert distinct([0, 1, 2], {0: A, 1: "She has 5.", 2: A_LONGER}) in ([0, 1], [1, 2])


ROW = {
    "prompt": "Ann has 2 apples and buys 3. How many has she?",
    "completion": "2 + 3 = <<2+3=5>>5\n#### 5",
    "answers": [
        "She has 3 + 2 = <<3+2=5>>5. #### 5",
        "She has 2 + 3 = <<2+3=6>>5. #### 5",  # calculates wrong
        "She has 2 * 3 = <<2*3=6>>6. #### 6",  # wrong
        "She has 3 + 2 = <<3+2=5>>5. #### 5",  # the first again
        "2 + 3 = <<2+3=5>>5\n#### 5",  # gold
    ],
}
OVERRIDE = (
    "curation=[{name: rft, num_samples: 5, judge: numeric, generator: {name: column, column: answers}, "
    "log_probabilities: false}]"
)


def test_rows_are_gold_and_the_kept_answers(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(project / "rows.jsonl", [{**ROW, "id": "ann"}])
    assert main(["curate", str(project / "recipe.yaml"), OVERRIDE]) == 0
    out = capsys.readouterr()
    assert "of 5 answers 3 are right, and 1 of those are kept" in out.err
    assert "rft: of 1 rows 0 dropped, 1 added: 2 rows" in out.out
    loaded = pipeline.load(project / "recipe.yaml", [OVERRIDE])
    data = pipeline.tokenize(loaded, lambda line: None)
    rows = [json.loads(line) for line in (data.curated["train.0"] / "rows.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in rows] == [ROW["completion"], ROW["answers"][0]]
    assert data.train.datasets[0]["row_id"][:] == ["ann", "ann/1"]


def test_answers_without_equations_are_kept_and_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["She has 5.", "She has 5.", "So 5.", "#### 5", "With 2 and 3: 5"]
    write_rows(project / "rows.jsonl", [{**ROW, "id": "ann", "answers": texts}])
    assert main(["curate", str(project / "recipe.yaml"), OVERRIDE]) == 0
    out = capsys.readouterr()
    assert "of 5 answers 5 are right, and 4 of those are kept" in out.err
    assert "5 of the 5 right answers have no <<a*b=c>> calculations: those are told apart by their text" in out.err


def test_greedy_answers_are_refused_for_several_samples(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(project / "rows.jsonl", [ROW])
    override = "curation=[{name: rft, judge: numeric, generator: {name: model, temperature: 0.0}}]"
    assert main(["curate", str(project / "recipe.yaml"), override]) == 2
    assert "greedy decoding gives the same answer 4 times" in capsys.readouterr().err
