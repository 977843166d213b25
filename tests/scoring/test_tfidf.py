"""TF-IDF against scikit-learn, words, chunking, and the statistics of the training set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfTransformer

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


@pytest.mark.parametrize("sublinear", [False, True])
def test_equals_scikit_learn(sublinear: bool) -> None:
    vocabulary = 97
    train = random_rows(0, 300, vocabulary)
    counts = np.zeros((len(train), vocabulary))
    for number, row in enumerate(train):
        np.add.at(counts[number], row, 1)
    expected = TfidfTransformer(norm=None, smooth_idf=True, sublinear_tf=sublinear).fit_transform(counts).toarray()
    got = scores(table(train), table(train), sublinear=sublinear)
    for number, row in enumerate(train):
        assert got[number] == pytest.approx(expected[number, row], rel=1e-6)


def test_evaluation_rows_use_the_training_statistics() -> None:
    train, other = random_rows(1, 200, 50), random_rows(2, 30, 70)
    got = scores(table(other), table(train))
    frequency = np.zeros(70)
    for row in train:
        frequency[sorted(set(row))] += 1
    idf = np.log((1 + len(train)) / (1 + frequency)) + 1
    for row, values in zip(other, got, strict=True):
        expected = [row.count(token) * idf[token] for token in row]
        assert values == pytest.approx(expected, rel=1e-6)


def test_the_prompt_is_no_part_of_the_document() -> None:
    rows = [[1, 2, 3, 3, 4], [1, 2, 5, 3, 5]]
    first, second = scores(table(rows, prompt=2), table(rows, prompt=2))
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


def word_table(texts: list[str]) -> TokenTable:
    """Every character is a token, so that words have several."""
    data = {
        "input_ids": [[ord(character) for character in text] for text in texts],
        "labels": [[ord(character) for character in text] for text in texts],
        "offsets": [[[place, place + 1] for place in range(len(text))] for text in texts],
        "text": texts,
    }
    dataset = Dataset.from_dict(data, features=features(list(data)))
    return TokenTable([dataset], ("input_ids", "labels", "offsets"), ("text",))


def test_words_pool_their_tokens() -> None:
    texts = ["ab cd", "AB ef!", "cd"]
    rows = word_table(texts)
    first, second, third = scores(rows, rows, unit="word")
    assert len(set(first[:2].tolist())) == 1  # both tokens of a word share its score
    # tf counts the word's tokens in the sample; "ab" stands in two of three rows whatever its case, "ef" in one.
    assert first[0] == pytest.approx(tf(word="ab", text="ab cd") * (np.log(4 / 3) + 1), rel=1e-6)
    assert second[3] == pytest.approx(tf(word="ef", text="AB ef!") * (np.log(4 / 2) + 1), rel=1e-6)
    assert third[0] == pytest.approx(tf(word="cd", text="cd") * (np.log(4 / 3) + 1), rel=1e-6)


def tf(word: str, text: str) -> int:
    """Tokens (characters) of the word, with the blank in front of it when there is one, in the text."""
    padded = text.lower()
    return padded.count(word) * len(word) + padded.count(f" {word}")
