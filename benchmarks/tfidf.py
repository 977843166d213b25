"""TF-IDF scoring speed after tokenization, beside scikit-learn on the same tokens in the same run; and of `unit: word`.

    python benchmarks/tfidf.py [--tokens 10000000] [--runs 5]

Rows of log-normal length (mean about 200) with Zipf-distributed token ids of a 32,000-token vocabulary, half of each row
supervised; all sides score the supervised tokens. Interleaved runs, medians. sftgo reads Arrow and returns float32 scores
per token. scikit-learn twice: `vectorizer` is its own way from documents (lists of tokens) to scores, TfidfVectorizer with
an identity analyzer, the lists being made beforehand; `transformer` is the fastest use that we could make of it: a sparse
count matrix built from the same arrays by numpy and scipy, TfidfTransformer, and the scores looked up per token. Both
compute `tf: count, idf: smooth`, which is timed beside the default (`tf: log, idf: plain`). `unit: word` reads the rows'
texts too: every token here is a space and a word of letters, the more frequent the shorter.
"""

from __future__ import annotations

import argparse
import statistics
import string
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from measuring import machine, ratio, wait_for_quiet, write_result
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

from sftgo_cli.columns import features
from sftgo_cli.data.rows import TokenTable, list_array
from sftgo_cli.data.stages import write_column
from sftgo_cli.scoring import tfidf

VOCABULARY = 32_000


def make_rows(num_tokens: int, folder: Path) -> Dataset:
    """Rows in an Arrow file of 1,000-row batches, as tokenization writes them."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(5.0, 0.8, size=num_tokens // 150), 8, 2048).astype(np.int64)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), num_tokens))]
    words = np.array([f" {word_of(number)}" for number in range(VOCABULARY)], dtype=object)
    sizes = np.array([len(word) for word in words])
    path = folder / "rows.arrow"
    schema = features(["input_ids", "labels", "offsets", "text"]).arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, len(lengths), 1000):
            part = lengths[start : start + 1000]
            offsets = np.cumsum([0, *part])
            ids = (generator.zipf(1.3, size=int(offsets[-1])) % VOCABULARY).astype(np.int32)
            place = np.arange(len(ids)) - np.repeat(offsets[:-1], part)
            labels = np.where(place < np.repeat(part // 2, part), -100, ids).astype(np.int32)
            ends = np.cumsum(sizes[ids])
            before = np.repeat((ends - sizes[ids])[offsets[:-1]], part)
            pairs = np.stack([ends - sizes[ids] - before, ends - before], axis=1).astype(np.int32)
            spans = pa.FixedSizeListArray.from_arrays(pa.array(pairs.ravel()), 2)
            texts = ["".join(words[ids[first:last]]) for first, last in pairwise(offsets.tolist())]
            lists = [
                list_array(ids, offsets),
                list_array(labels, offsets),
                pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), spans),
                pa.array(texts),
            ]
            writer.write_batch(
                pa.record_batch(
                    [array.cast(field.type) for array, field in zip(lists, schema, strict=True)], schema=schema
                )
            )
    return Dataset.from_file(str(path))


def word_of(number: int) -> str:
    """A different word of letters for every number; small numbers have short ones."""
    letters = ""
    while number or not letters:
        number, digit = divmod(number, 26)
        letters += string.ascii_lowercase[digit]
    return letters


def ours(rows: TokenTable, **options: Any) -> np.ndarray:
    """Scores of every token, NaN where not supervised."""
    return np.concatenate(list(tfidf.score(rows, rows, tfidf.Options(**options))))


def scikit_learn(rows: TokenTable) -> np.ndarray:
    """The same scores through TfidfTransformer, looked up per token."""
    ids = np.concatenate([chunk.columns["input_ids"] for chunk in rows.chunks()])
    supervised = np.concatenate([chunk.supervised for chunk in rows.chunks()])
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    counts = csr_matrix((np.ones(supervised.sum()), (row[supervised], ids[supervised])), shape=(len(rows), VOCABULARY))
    weighted = TfidfTransformer(norm=None, smooth_idf=True).fit_transform(counts)
    scores = np.full(len(ids), np.nan, dtype=np.float32)
    scores[supervised] = np.asarray(weighted[row[supervised], ids[supervised]]).ravel()
    return scores


def documents(rows: TokenTable) -> list[list[int]]:
    """The supervised tokens of every row, as lists."""
    return [
        chunk.columns["input_ids"][start:stop][chunk.supervised[start:stop]].tolist()
        for chunk in rows.chunks()
        for start, stop in zip(chunk.row_offsets, chunk.row_offsets[1:], strict=False)
    ]


def vectorizer(lists: list[list[int]]) -> Any:
    """The same scores as a sparse matrix, from documents."""
    return TfidfVectorizer(analyzer=list, norm=None, smooth_idf=True, dtype=np.float32).fit_transform(lists)


def timed(function: Any, rows: Any) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = function(rows)
    return time.perf_counter() - start, result


def main() -> None:
    """Measure, print, write results/tfidf.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    wait_for_quiet()
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_rows(arguments.tokens, Path(folder))
        rows = TokenTable([dataset], ("input_ids", "labels"))
        worded = TokenTable([dataset], ("input_ids", "labels", "offsets"), ("text",))
        num_tokens = int(rows.lengths.sum())
        lists = documents(rows)
        names = ("default", "sftgo", "word", "transformer", "vectorizer", "write column")
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.runs):
            times["default"].append(timed(ours, rows)[0])
            seconds, scores = timed(partial(ours, tf="count", idf="smooth"), rows)
            times["sftgo"].append(seconds)
            times["word"].append(timed(partial(ours, unit="word"), worded)[0])
            seconds, expected = timed(scikit_learn, rows)
            times["transformer"].append(seconds)
            seconds, matrix = timed(vectorizer, lists)
            times["vectorizer"].append(seconds)
            start = time.perf_counter()
            split = np.split(scores, np.cumsum([chunk.row_offsets[-1] for chunk in rows.chunks()])[:-1])
            pairs = zip((chunk.row_offsets for chunk in rows.chunks()), split, strict=True)
            write_column(Path(folder) / "scores.arrow", "token_scores", np.float32, pairs)
            times["write column"].append(time.perf_counter() - start)
        heaviest = float(abs(matrix.max() - np.nanmax(expected)) / np.nanmax(expected))
        difference = float(np.nanmax(np.abs(scores - expected) / expected))
    median = {name: statistics.median(values) for name, values in times.items()}
    rate = {name: num_tokens / seconds for name, seconds in median.items()}
    figures = {
        "tokens": num_tokens,
        "rows": len(rows),
        "tokens_per_second": rate,
        "largest_relative_difference": difference,
        "relative_difference_of_the_largest_score_from_vectorizer": heaviest,
        "runs": arguments.runs,
    }
    ratios = [
        ratio("TF-IDF after tokenization, million tokens/s", rate["default"] / 1e6, 10.0, at_most=False),
        ratio("TF-IDF with unit: word, million tokens/s", rate["word"] / 1e6, 2.0, at_most=False),
        ratio("TF-IDF against scikit-learn from token lists", rate["sftgo"] / rate["vectorizer"], 8.0, at_most=False),
        ratio(
            "TF-IDF against its transformer on numpy's counts", rate["sftgo"] / rate["transformer"], 1.0, at_most=False
        ),
        ratio("writing a score column, million tokens/s", rate["write column"] / 1e6, 40.0, at_most=False),
    ]
    write_result("tfidf", "TF-IDF after tokenization, all tokens of the rows counted", figures, ratios, before)


if __name__ == "__main__":
    main()
