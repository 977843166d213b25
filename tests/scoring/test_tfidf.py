"""TF-IDF against scikit-learn, words, chunking, and the statistics of the training set."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfTransformer

from sftgo_cli import pipeline
from sftgo_cli.columns import features
from sftgo_cli.data.rows import TokenTable
from sftgo_cli.scoring import tfidf


def table(rows: list[list[int]], prompt: int = 0, columns: tuple[str, ...] = ("input_ids", "labels")) -> TokenTable:
    """Rows of token ids of which the first `prompt` are not supervised."""
    labels = [[-100] * prompt + row[prompt:] for row in rows]
    dataset = Dataset.from_dict({"input_ids": rows, "labels": labels}, features=features(["input_ids", "labels"]))
    return TokenTable([dataset], columns)


def scores(rows: TokenTable, fit_on: TokenTable, **options: Any) -> list[np.ndarray]:
    chunks = list(tfidf.score(rows, fit_on, tfidf.Options(**options)))
    flat = np.concatenate(chunks)
    ends = np.cumsum(rows.lengths)
    return np.split(flat, ends[:-1])


def random_rows(seed: int, num_rows: int, vocabulary: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [(generator.zipf(1.4, size=generator.integers(1, 60)) % vocabulary).tolist() for _ in range(num_rows)]


@pytest.mark.parametrize("tf", ["count", "log"])
def test_the_smooth_idf_equals_scikit_learns(tf: str) -> None:
    vocabulary = 97
    train = random_rows(0, 300, vocabulary)
    distinct = list(dict.fromkeys(tuple(row) for row in train))
    assert len(distinct) < len(train)
    counts = np.zeros((len(distinct), vocabulary))
    for number, row in enumerate(distinct):
        np.add.at(counts[number], list(row), 1)
    weighting = TfidfTransformer(norm=None, smooth_idf=True, sublinear_tf=tf == "log")
    expected = dict(zip(distinct, weighting.fit_transform(counts).toarray(), strict=True))
    got = scores(table(train), table(train), tf=tf, idf="smooth")
    for row, values in zip(train, got, strict=True):
        assert values == pytest.approx(expected[tuple(row)][row], rel=1e-6)


TF: dict[str, Callable[[int], float]] = {"log": lambda c: 1 + math.log(c), "count": float, "binary": lambda c: 1.0}
IDF: dict[str, Callable[[int, int], float]] = {
    "plain": lambda n, df: math.log((1 + n) / (1 + df)),
    "smooth": lambda n, df: math.log((1 + n) / (1 + df)) + 1,
    "probabilistic": lambda n, df: max(0.0, math.log((n - df + 0.5) / (df + 0.5))),
}


def expected_scores(
    documents: list[list[Any]], train: list[list[Any]], tf: str, idf: str, bm25: tuple[float, float] | None = None
) -> list[list[float]]:
    """The definition, in plain Python: documents as lists of terms, `train` the distinct ones."""
    frequency = Counter(term for document in train for term in set(document))
    mean = sum(map(len, train)) / len(train)

    def count_part(count: int, length: int) -> float:
        if bm25 is None:
            return TF[tf](count)
        k1, b = bm25
        return count * (k1 + 1) / (count + k1 * (1 - b + b * length / mean))

    return [
        [count_part(document.count(term), len(document)) * IDF[idf](len(train), frequency[term]) for term in document]
        for document in documents
    ]


@pytest.mark.parametrize("idf", IDF)
@pytest.mark.parametrize(
    ("tf", "bm25"),
    [*((tf, None) for tf in TF), ("log", (1.2, 0.75)), ("count", (2.0, 0.0)), ("log", (0.0, 1.0))],
)
def test_every_formula_is_the_documented_one(tf: str, idf: str, bm25: tuple[float, float] | None) -> None:
    train, other = random_rows(1, 80, 50), random_rows(2, 30, 70)
    distinct = [list(row) for row in dict.fromkeys(tuple(row) for row in train)]
    saturation = None if bm25 is None else tfidf.Saturation(k1=bm25[0], b=bm25[1])
    got = scores(table(other), table(train), tf=tf, idf=idf, bm25=saturation)
    for values, expected in zip(got, expected_scores(other, distinct, tf, idf, bm25), strict=True):
        assert values == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_defaults_are_logarithmic_counts_and_the_plain_idf() -> None:
    rows = random_rows(1, 80, 50)
    distinct = [list(row) for row in dict.fromkeys(tuple(row) for row in rows)]
    for values, expected in zip(
        scores(table(rows), table(rows)), expected_scores(rows, distinct, "log", "plain"), strict=True
    ):
        assert values == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_bm25_takes_the_place_of_tf() -> None:
    with pytest.raises(ValueError, match="bm25 takes the place of tf, which is binary"):
        tfidf.Options(tf="binary", bm25=tfidf.Saturation())


def test_a_row_that_stands_twice_is_one_document() -> None:
    rows = [[1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 2, 3], [3, 2, 1]]
    labels = [[-100, 2, 3], [-100, 2, 4], [-100, 2, 3], [-100, -100, 3], [-100, 2, 1]]
    data = Dataset.from_dict({"input_ids": rows, "labels": labels}, features=features(["input_ids", "labels"]))
    halves = [data.select(range(2)).flatten_indices(), data.select(range(2, 5)).flatten_indices()]
    train = TokenTable(halves, ("input_ids", "labels"))
    # The third repeats the first; the fourth supervises another part, the fifth has another order.
    assert tfidf.distinct_rows(train).tolist() == [True, True, False, True, True]
    first, second, *_ = scores(train, train)
    assert first[1:] == pytest.approx([math.log(5 / 4), math.log(5 / 3)], rel=1e-6)
    assert second[2] == pytest.approx(math.log(5 / 2), rel=1e-6)


def test_evaluation_rows_use_the_training_statistics() -> None:
    train, other = random_rows(1, 200, 50), random_rows(2, 30, 70)
    distinct = list(dict.fromkeys(tuple(row) for row in train))
    got = scores(table(other), table(train), tf="count", idf="smooth")
    frequency = np.zeros(70)
    for document in distinct:
        frequency[sorted(set(document))] += 1
    idf = np.log((1 + len(distinct)) / (1 + frequency)) + 1
    for row, values in zip(other, got, strict=True):
        expected = [row.count(token) * idf[token] for token in row]
        assert values == pytest.approx(expected, rel=1e-6)


def test_the_prompt_is_no_part_of_the_document() -> None:
    rows = [[1, 2, 3, 3, 4], [1, 2, 5, 3, 5]]
    first, second = scores(table(rows, prompt=2), table(rows, prompt=2), tf="count", idf="smooth")
    assert np.isnan(first[:2]).all()
    assert np.isnan(second[:2]).all()
    idf = {3: np.log(3 / 3) + 1, 4: np.log(3 / 2) + 1, 5: np.log(3 / 2) + 1}
    assert first[2:] == pytest.approx([2 * idf[3], 2 * idf[3], idf[4]], rel=1e-6)
    assert second[2:] == pytest.approx([2 * idf[5], idf[3], 2 * idf[5]], rel=1e-6)


def test_blocks_do_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(random_rows(3, 200, 300))
    whole = np.concatenate(scores(rows, rows))
    monkeypatch.setattr(tfidf, "TOKENS_PER_BLOCK", 37)  # shorter than many a row
    assert np.array_equal(np.concatenate(scores(rows, rows)), whole)


def test_an_empty_set_of_supervised_tokens_is_all_nan() -> None:
    rows = table([[1, 2], [3, 4]], prompt=2)
    assert all(np.isnan(values).all() for values in scores(rows, rows))


def word_table(
    texts: list[str],
    spans: list[list[tuple[int, int]]] | None = None,
    prompt: int = 0,
    ids: list[list[int]] | None = None,
) -> TokenTable:
    """Rows of texts cut at `spans`; by default every character is a token, so that words have several."""
    spans = spans or [[(place, place + 1) for place in range(len(text))] for text in texts]
    ids = ids or [[1000 * place + number for number in range(len(row))] for place, row in enumerate(spans, 1)]
    data = {
        "input_ids": ids,
        "labels": [[-100] * prompt + row[prompt:] for row in ids],
        "offsets": [[list(span) for span in row] for row in spans],
        "text": texts,
    }
    dataset = Dataset.from_dict(data, features=features(list(data)))
    return TokenTable([dataset], ("input_ids", "labels", "offsets"), ("text",))


@pytest.mark.parametrize("options", [{}, {"tf": "count", "idf": "smooth"}, {"bm25": tfidf.Saturation()}])
def test_words_pool_their_pieces_and_count_once_each(options: dict[str, Any]) -> None:
    texts = ["ab cd ab", "AB ef!", "cd", "gh"]
    documents = [re.findall(r"\w+|!", text.lower()) for text in texts]
    rows = word_table(texts)
    bm25 = options.get("bm25")
    formula = (options.get("tf", "log"), options.get("idf", "plain"), (bm25.k1, bm25.b) if bm25 else None)
    expected = expected_scores(documents, documents, *formula)
    for text, values, words in zip(texts, scores(rows, rows, unit="word", **options), expected, strict=True):
        # One score for all characters of a word and the blank in front of it.
        starts = [match.start() for match in re.finditer(r" ?\w+|!", text)]
        lengths = np.diff([*starts, len(text)])
        assert values == pytest.approx(np.repeat(words, lengths), rel=1e-6)


def test_a_word_that_the_response_shares_with_the_prompt_counts_its_own_part() -> None:
    rows = word_table(["ab ab", "cd"], prompt=1)
    first, _ = scores(rows, rows, unit="word", tf="count")
    assert np.isnan(first[0])
    assert first[1:] == pytest.approx(2 * math.log(3 / 2), rel=1e-6)


def test_a_language_without_spaces_has_words_of_its_tokens() -> None:
    # Two answers in Chinese: "cats like fish", "dogs like meat"; a token of two characters is one word.
    texts = ["猫喜欢鱼。", "狗喜欢肉。"]
    spans = [[(0, 1), (1, 3), (3, 4), (4, 5)]] * 2
    rows = word_table(texts, spans)
    for values in scores(rows, rows, unit="word"):
        assert values == pytest.approx([math.log(3 / 2), 0, math.log(3 / 2), 0], rel=1e-6, abs=1e-9)
    # The same characters in bytes: the pieces of a character share its score.
    spans = [[(0, 1)] * 3 + [(1, 3), (3, 4), (4, 5)]] * 2
    for values in scores(word_table(texts, spans), word_table(texts, spans), unit="word"):
        assert values[:3] == pytest.approx([math.log(3 / 2)] * 3, rel=1e-6)


def test_a_token_without_characters_is_a_term_of_its_own() -> None:
    spans = [[(0, 2), (2, 2), (2, 2)], [(0, 2), (2, 2)], [(0, 1)]]
    rows = word_table(["ab", "ab", "x"], spans, ids=[[5, 7, 8], [5, 7], [6]])
    first, second, third = scores(rows, rows, unit="word")
    assert first == pytest.approx([math.log(4 / 3), math.log(4 / 3), math.log(4 / 2)], rel=1e-6)
    assert second == pytest.approx([math.log(4 / 3)] * 2, rel=1e-6)
    assert third == pytest.approx([math.log(4 / 2)], rel=1e-6)


@pytest.mark.parametrize("scoring", ["tfidf", "{name: tfidf, tf: count, bm25: {k1: 2.0}}", "{name: tfidf, bm25: {}}"])
def test_what_a_run_saves_of_the_options_loads_again(tmp_path: Path, scoring: str) -> None:
    def load(text: str) -> Any:
        path = tmp_path / "recipe.yaml"
        path.write_text(
            f'model: "builtin:tiny"\ndata: {{train: "builtin:instructions"}}\nscoring: {text}\n'
            "training: {output_dir: unused}\n"
        )
        return pipeline.load(path, [])

    loaded = load(scoring)
    assert load(json.dumps(loaded.resolved["scoring"])).recipe.scoring == loaded.recipe.scoring
