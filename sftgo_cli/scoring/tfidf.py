"""TF-IDF: tokens that are frequent in this sample and rare in the training set are important.

    score(t, d) = tf(t, d) * idf(t)

    tf    log             1 + ln c              c: how often the term stands in the sample
          count           c
          binary          1
    idf   plain           ln((1 + N) / (1 + n)) n: documents that hold the term, of N
          smooth          plain + 1             scikit-learn's TfidfTransformer(smooth_idf=True, norm=None)
          probabilistic   max(0, ln((N - n + 0.5) / (n + 0.5)))     BM25's
    bm25  in tf's place:  c (k1 + 1) / (c + k1 (1 - b + b L / mean L))        L: terms in the sample

A document is the supervised tokens of a training row, every distinct row (tokens, and which of them are supervised)
once; evaluation sets are scored with these statistics. The grouping is SFT-GO's (arXiv 2506.15021), which leaves the
details open: documents, terms and formulas are our reconstruction [R]. Logarithmic counts and the plain idf are the
default because `count` and `smooth` turn the ranking upside down on real answers: a comma that stands there twelve times
outweighs a word that stands there once (docs/scoring.md has the figures).

A term is a token id; with `unit: word` it is the lower-cased word that the token is a piece of (see data/words.py), so
that the pieces of a word have one score; c then counts words, not pieces.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from sftgo_cli.columns import INPUT_IDS, LABELS, OFFSETS, TEXT
from sftgo_cli.recipe.options import MethodOptions, StrictModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk, TokenTable

    Integers = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

VERSION = 2
TOKENS_PER_BLOCK = 1 << 17  # a block's keys (1 MiB) stay in the processor's cache while they are sorted
SOURCE = (
    "arXiv 2506.15021; tf and idf [R]; tf: count with idf: smooth is scikit-learn's; bm25: Robertson and Zaragoza 2009"
)


class Saturation(StrictModel):
    """BM25's bounded count of a term, relative to the document's length."""

    k1: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(1.2, description="Where the count levels off")
    b: float = Field(0.75, ge=0.0, le=1.0, description="How much a long sample's counts are lowered: 0 not, 1 fully")


class Options(MethodOptions):
    """Recipe options of `scoring: {name: tfidf}`."""

    unit: Literal["token", "word"] = Field("token", description="Term: a token, or the whole word it is a piece of")
    tf: Literal["log", "count", "binary"] = Field("log", description="1 + ln(count), the count, or 1")
    idf: Literal["plain", "smooth", "probabilistic"] = Field(
        "plain", description="ln((1 + N) / (1 + n)); that plus 1 (scikit-learn's); BM25's"
    )
    bm25: Saturation | None = Field(None, description="{k1: 1.2, b: 0.75}: BM25's count in the place of tf")

    @model_validator(mode="after")
    def _one_count(self) -> Options:
        if self.bm25 is not None and self.tf == "binary":
            raise ValueError("bm25 takes the place of tf, which is binary: remove one of them")
        return self


@dataclass(frozen=True)
class Terms:
    """The term of each of N tokens, and where each occurrence of a term begins (the first piece of a word)."""

    numbers_N: Integers
    places_N: Integers | None  # equal for the pieces of one word; None: every token is an occurrence


@dataclass(frozen=True)
class Runs:
    """The distinct (row, term) pairs of a block: R runs over M counted tokens sorted by row and term."""

    positions_M: Integers  # the token's place in its chunk
    lengths_R: Integers  # tokens of the run
    counts_R: Integers  # c: occurrences of the term in the row
    terms_R: Integers
    rows_R: Integers  # the row's place in its chunk


@dataclass(frozen=True)
class Statistics:
    """Of the distinct training rows."""

    num_documents: int
    mean_length: float  # occurrences of terms per document
    frequency_T: Integers  # documents that hold each term


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that `score` reads."""
    return ((INPUT_IDS, LABELS, OFFSETS), (TEXT,)) if options.unit == "word" else ((INPUT_IDS, LABELS), ())


def score(rows: TokenTable, fit_on: TokenTable, options: Options) -> Iterator[npt.NDArray[np.float32]]:
    """Scores of each chunk of `rows`: float32[N], NaN where not supervised. The statistics are those of `fit_on`."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        terms_of = WordTerms(threads) if options.unit == "word" else token_terms
        statistics = fit(fit_on, terms_of, threads)
        for chunk in rows.chunks():
            yield score_chunk(chunk, terms_of(chunk), statistics, options, threads)


def explain(rows: TokenTable, fit_on: TokenTable, options: Options, row: int, token: int) -> list[tuple[str, str]]:
    """What the score of a supervised token is made of: the term, tf and idf with the counts behind them."""
    import numpy as np

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        terms_of = WordTerms(threads) if options.unit == "word" else token_terms
        statistics = fit(fit_on, terms_of, threads)
        chunk = rows.slice(row, row + 1)
        terms = terms_of(chunk)
    runs = _runs(chunk.row_offsets, 0, terms, chunk.supervised)
    number = int(terms.numbers_N[token])
    run = int(np.flatnonzero(runs.terms_R == number)[0])
    known = int(statistics.frequency_T[number]) if number < len(statistics.frequency_T) else 0
    tf = float(term_frequency(runs, statistics, options)[run])
    idf = float(inverse_frequency(statistics, number + 1, options)[number])
    place = -1 if terms.places_N is None else int(terms.places_N[token])
    term = f"token {number}" if terms.places_N is None else "a token without characters"
    return [
        ("term", term if place < 0 else f"the word at character {place}"),
        ("tf", f"{tf:.4f}: {runs.counts_R[run]} times among {runs.counts_R.sum()} supervised terms of the row"),
        ("idf", f"{idf:.4f}: in {known:,} of {statistics.num_documents:,} distinct training rows"),
    ]


def fit(rows: TokenTable, terms_of: Callable[[TokenChunk], Terms], threads: ThreadPoolExecutor) -> Statistics:
    """Count documents, their lengths, and in how many of them each term stands."""
    import numpy as np

    distinct_R = distinct_rows(rows)
    frequency_T, total = np.zeros(0, dtype=np.int64), 0
    for chunk in rows.chunks():
        in_distinct = distinct_R[chunk.first_row : chunk.first_row + chunk.num_rows]
        counted_N = chunk.supervised & np.repeat(in_distinct, np.diff(chunk.row_offsets))
        for runs in _runs_of_blocks(chunk, terms_of(chunk), counted_N, threads):
            counts = np.bincount(runs.terms_R, minlength=len(frequency_T))
            counts[: len(frequency_T)] += frequency_T
            frequency_T = counts
            total += int(runs.counts_R.sum())
    num_documents = int(distinct_R.sum())
    return Statistics(num_documents, total / max(1, num_documents), frequency_T)


def distinct_rows(rows: TokenTable) -> npt.NDArray[np.bool_]:
    """bool[R]: False where an earlier row has the same tokens, the same ones of them supervised."""
    import numpy as np

    from sftgo_cli.data.words import mixed

    hashes_R = np.zeros(len(rows), dtype=np.uint64)
    values_V = factors = np.zeros(0, dtype=np.uint64)
    for chunk in rows.chunks():
        lengths_R = np.diff(chunk.row_offsets)
        ids_N = chunk.columns[INPUT_IDS]
        if (size := int(ids_N.max(initial=-1)) + 1) > len(values_V):
            values_V = mixed(np.arange(1, size + 1, dtype=np.uint64))
        if (longest := int(lengths_R.max(initial=0))) > len(factors):
            factors = mixed(np.arange(1, longest + 1, dtype=np.uint64) << np.uint64(32)) | np.uint64(1)
        places_N = np.arange(len(ids_N)) - np.repeat(chunk.row_offsets[:-1], lengths_R)
        # An odd factor per place: rows differ that hold the same tokens in another order, or supervise others.
        shares_N = (values_V[ids_N] + chunk.supervised) * factors[places_N]
        filled = np.flatnonzero(lengths_R)
        sums = np.add.reduceat(shares_N, chunk.row_offsets[:-1][filled]) if len(filled) else shares_N
        hashes_R[chunk.first_row + filled] = sums
    distinct_R = np.zeros(len(rows), dtype=np.bool_)
    distinct_R[np.unique(hashes_R, return_index=True)[1]] = True
    return distinct_R


def score_chunk(
    chunk: TokenChunk, terms: Terms, statistics: Statistics, options: Options, threads: ThreadPoolExecutor
) -> npt.NDArray[np.float32]:
    """The scores of one chunk, float32[N]; a term that no training row holds is in 0 documents."""
    import numpy as np

    idf_T = inverse_frequency(statistics, int(terms.numbers_N.max(initial=0)) + 1, options)
    scores_N = np.full(len(terms.numbers_N), np.nan, dtype=np.float32)
    for runs in _runs_of_blocks(chunk, terms, chunk.supervised, threads):
        scores_R = term_frequency(runs, statistics, options) * idf_T[runs.terms_R]
        scores_N[runs.positions_M] = np.repeat(scores_R.astype(np.float32), runs.lengths_R)
    return scores_N


def inverse_frequency(statistics: Statistics, num_terms: int, options: Options) -> Floats:
    """idf: float64[T] of at least `num_terms` terms."""
    import numpy as np

    known_T = np.zeros(max(num_terms, len(statistics.frequency_T)))
    known_T[: len(statistics.frequency_T)] = statistics.frequency_T
    if options.idf == "probabilistic":
        return np.maximum(0.0, np.log((statistics.num_documents - known_T + 0.5) / (known_T + 0.5)))
    plain_T = np.log((1.0 + statistics.num_documents) / (1.0 + known_T))
    return plain_T + 1.0 if options.idf == "smooth" else plain_T


def term_frequency(runs: Runs, statistics: Statistics, options: Options) -> Floats:
    """tf: float64[R] of every run of whole rows."""
    import numpy as np

    counts_R = runs.counts_R.astype(np.float64)
    if options.bm25 is not None:
        k1, b = options.bm25.k1, options.bm25.b
        first = int(runs.rows_R[0]) if len(runs.rows_R) else 0
        lengths = np.bincount(runs.rows_R - first, weights=counts_R)[runs.rows_R - first]
        relative_R = lengths / statistics.mean_length if statistics.mean_length else np.ones(len(lengths))
        return np.asarray(counts_R * (k1 + 1.0) / (counts_R + k1 * (1.0 - b + b * relative_R)))
    if options.tf == "count":
        return counts_R
    return 1.0 + np.log(counts_R) if options.tf == "log" else np.ones(len(counts_R))


def _runs_of_blocks(
    chunk: TokenChunk, terms: Terms, counted_N: npt.NDArray[np.bool_], threads: ThreadPoolExecutor
) -> Iterator[Runs]:
    """The runs of every block of whole rows, in order; numpy releases the GIL while it sorts, so threads help."""
    import numpy as np

    total = int(chunk.row_offsets[-1])
    targets = np.arange(TOKENS_PER_BLOCK, total + TOKENS_PER_BLOCK, TOKENS_PER_BLOCK)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(chunk.row_offsets, targets, side="right") - 1]))
    cuts = np.unique(np.concatenate([cuts, [chunk.num_rows]]))

    def runs_between(rows: tuple[int, int]) -> Runs:
        return _runs(chunk.row_offsets[rows[0] : rows[1] + 1], rows[0], terms, counted_N)

    yield from threads.map(runs_between, zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def _runs(offsets: Integers, first_row: int, terms: Terms, counted_N: npt.NDArray[np.bool_]) -> Runs:
    """One sort of packed keys (row, term, position) replaces a grouping: equal terms of a row become neighbors."""
    import numpy as np

    start, stop = int(offsets[0]), int(offsets[-1])
    numbers = terms.numbers_N[start:stop]
    position_bits = max(1, int(stop - start).bit_length())
    term_bits = max(1, int(numbers.max(initial=0)).bit_length())
    row = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys = (((row << term_bits) | numbers) << position_bits) | np.arange(stop - start, dtype=np.int64)
    keys = np.sort(keys[counted_N[start:stop]])
    pairs = keys >> position_bits
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))[: len(keys)]
    positions_M = (keys & ((1 << position_bits) - 1)) + start
    lengths_R = np.diff(np.append(first, len(keys)))
    return Runs(
        positions_M=positions_M,
        lengths_R=lengths_R,
        counts_R=_occurrences(terms.places_N, positions_M, first, lengths_R),
        terms_R=pairs[first] & ((1 << term_bits) - 1),
        rows_R=(pairs[first] >> term_bits) + first_row,
    )


def _occurrences(places_N: Integers | None, positions_M: Integers, first_R: Integers, lengths_R: Integers) -> Integers:
    """How many occurrences each run has: its tokens, less those that continue the word of the token before them."""
    import numpy as np

    if places_N is None or not len(positions_M):
        return lengths_R
    places_M = places_N[positions_M]
    begins_M = np.concatenate([[True], (places_M[1:] != places_M[:-1]) | (places_M[1:] < 0)])
    begins_M[first_R] = True
    return np.add.reduceat(begins_M.astype(np.int64), first_R)


def token_terms(chunk: TokenChunk) -> Terms:
    """Term = token id."""
    import numpy as np

    return Terms(np.asarray(chunk.columns[INPUT_IDS], dtype=np.int64), None)


class WordTerms:
    """Term = the lower-cased word that a token is a piece of; a token without characters is a term of its own.

    Words are numbered as they are met, so one instance must serve fitting and scoring.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        import numpy as np

        self.threads = threads
        self.known_T = np.zeros(0, dtype=np.uint64)  # sorted hashes of the words met so far, and their numbers
        self.numbers_T = np.zeros(0, dtype=np.int64)

    def __call__(self, chunk: TokenChunk) -> Terms:
        """The terms of the supervised tokens of a chunk with columns input_ids, labels, offsets and text."""
        import numpy as np
        import pyarrow as pa

        from sftgo_cli.data.words import token_words

        supervised_N = chunk.supervised
        words = token_words(chunk, supervised_N, self.threads)
        encoded = pa.array(words.hashes_M).dictionary_encode()  # by hashing, much faster than np.unique's sorting
        numbers_N, places_N = np.zeros((2, len(supervised_N)), dtype=np.int64)
        numbers_N[supervised_N] = self._numbers(encoded.dictionary.to_numpy())[encoded.indices.to_numpy()]
        places_N[supervised_N] = words.places_M
        return Terms(numbers_N, places_N)

    def _numbers(self, distinct_D: npt.NDArray[np.uint64]) -> Integers:
        """The numbers of different words, new ones behind those that are known."""
        import numpy as np

        new = np.sort(distinct_D[~self._is_known(distinct_D)])
        places = np.searchsorted(self.known_T, new)
        self.numbers_T = np.insert(self.numbers_T, places, np.arange(len(new)) + len(self.known_T))
        self.known_T = np.insert(self.known_T, places, new)
        return np.asarray(self.numbers_T[np.searchsorted(self.known_T, distinct_D)])

    def _is_known(self, distinct_D: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        import numpy as np

        if not len(self.known_T):
            return np.zeros(len(distinct_D), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self.known_T, distinct_D), len(self.known_T) - 1)
        return np.asarray(self.known_T[places] == distinct_D)
