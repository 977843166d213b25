"""TF-IDF: tokens that are frequent in this sample and rare in the training set are important.

    score(t, d) = tf(t, d) * (ln((1 + N) / (1 + df(t))) + 1)

with the raw count tf of the term in the sample's supervised tokens (1 + ln tf with `sublinear`), N training rows and df
the number of rows that hold the term: scikit-learn's smooth idf without normalization. The grouping is SFT-GO's (arXiv
2506.15021); document = a sample's supervised tokens and term = token id are our reconstruction [R]. `unit: word` pools
the tokens of a word: the term is the word's text, and each of its tokens gets the word's score.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk, TokenTable

VERSION = 1
TOKENS_PER_BLOCK = 1 << 17  # a block's keys (1 MiB) stay in the processor's cache while they are sorted
SOURCE = "arXiv 2506.15021; idf: scikit-learn TfidfTransformer(smooth_idf=True, norm=None)"


class Options(MethodOptions):
    """Recipe options of `scoring: {name: tfidf}`."""

    unit: Literal["token", "word"] = Field("token", description="Term: a token, or a whole word pooled over its tokens")
    sublinear: bool = Field(False, description="Use 1 + ln(count) instead of the count")


@dataclass(frozen=True)
class Runs:
    """The distinct (row, term) pairs of a block: R runs over M supervised tokens sorted by row and term."""

    positions_M: npt.NDArray[np.int64]  # the token's place in its chunk
    lengths_R: npt.NDArray[np.int64]  # tf: how often the term stands in the row
    terms_R: npt.NDArray[np.int64]


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that `score` reads."""
    return (("input_ids", "labels", "offsets"), ("text",)) if options.unit == "word" else (("input_ids", "labels"), ())


def score(rows: TokenTable, fit_on: TokenTable, options: Options) -> Iterator[npt.NDArray[np.float32]]:
    """Scores of each chunk of `rows`: float32[N], NaN where not supervised. N and df come from `fit_on`."""
    terms_of = WordTerms() if options.unit == "word" else token_terms
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        frequency_T = document_frequency(fit_on, terms_of, threads)
        for chunk in rows.chunks():
            yield score_chunk(chunk, terms_of(chunk), len(fit_on), frequency_T, options.sublinear, threads)


def document_frequency(
    rows: TokenTable, terms_of: Callable[[TokenChunk], npt.NDArray[np.int64]], threads: ThreadPoolExecutor
) -> npt.NDArray[np.int64]:
    """df: int64[T], the number of rows in whose supervised tokens each term stands."""
    import numpy as np

    frequency_T = np.zeros(0, dtype=np.int64)
    for chunk in rows.chunks():
        for runs in _runs_of_blocks(chunk, terms_of(chunk), threads):
            counts = np.bincount(runs.terms_R, minlength=len(frequency_T))
            counts[: len(frequency_T)] += frequency_T
            frequency_T = counts
    return frequency_T


def score_chunk(
    chunk: TokenChunk,
    terms_N: npt.NDArray[np.int64],
    num_documents: int,
    frequency_T: npt.NDArray[np.int64],
    sublinear: bool,
    threads: ThreadPoolExecutor,
) -> npt.NDArray[np.float32]:
    """The scores of one chunk, float32[N]; a term that no training row holds has df 0."""
    import numpy as np

    known = np.zeros(max(int(terms_N.max(initial=0)) + 1, len(frequency_T)))
    known[: len(frequency_T)] = frequency_T
    idf_T = np.log((1.0 + num_documents) / (1.0 + known)) + 1.0
    scores_N = np.full(len(terms_N), np.nan, dtype=np.float32)
    for runs in _runs_of_blocks(chunk, terms_N, threads):
        tf_R = 1.0 + np.log(runs.lengths_R) if sublinear else runs.lengths_R
        scores_N[runs.positions_M] = np.repeat((tf_R * idf_T[runs.terms_R]).astype(np.float32), runs.lengths_R)
    return scores_N


def _runs_of_blocks(chunk: TokenChunk, terms_N: npt.NDArray[np.int64], threads: ThreadPoolExecutor) -> Iterator[Runs]:
    """The runs of every block of whole rows, in order; numpy releases the GIL while it sorts, so threads help."""
    import numpy as np

    supervised_N = chunk.supervised
    total = int(chunk.row_offsets[-1])
    targets = np.arange(TOKENS_PER_BLOCK, total + TOKENS_PER_BLOCK, TOKENS_PER_BLOCK)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(chunk.row_offsets, targets, side="right") - 1]))
    cuts = np.unique(np.concatenate([cuts, [chunk.num_rows]]))

    def runs_between(rows: tuple[int, int]) -> Runs:
        return _runs(chunk.row_offsets[rows[0] : rows[1] + 1], terms_N, supervised_N)

    yield from threads.map(runs_between, zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def _runs(offsets: npt.NDArray[np.int64], terms_N: npt.NDArray[np.int64], supervised_N: npt.NDArray[np.bool_]) -> Runs:
    """One sort of packed keys (row, term, position) replaces a grouping: equal terms of a row become neighbors."""
    import numpy as np

    start, stop = int(offsets[0]), int(offsets[-1])
    terms = terms_N[start:stop]
    position_bits = max(1, int(stop - start).bit_length())
    term_bits = max(1, int(terms.max(initial=0)).bit_length())
    row = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys = (((row << term_bits) | terms) << position_bits) | np.arange(stop - start, dtype=np.int64)
    keys = np.sort(keys[supervised_N[start:stop]])
    pairs = keys >> position_bits
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))[: len(keys)]
    return Runs(
        positions_M=(keys & ((1 << position_bits) - 1)) + start,
        lengths_R=np.diff(np.append(first, len(keys))),
        terms_R=pairs[first] & ((1 << term_bits) - 1),
    )


def token_terms(chunk: TokenChunk) -> npt.NDArray[np.int64]:
    """Term = token id."""
    import numpy as np

    return np.asarray(chunk.columns["input_ids"], dtype=np.int64)


class WordTerms:
    """Term = the lower-cased word (or run of punctuation) in which a token's first non-space character stands.

    Words are numbered as they are met, so one instance must serve fitting and scoring. A token without characters is
    a term of its own.
    """

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def __call__(self, chunk: TokenChunk) -> npt.NDArray[np.int64]:
        """int64[N] term numbers of a chunk with columns input_ids, offsets and text."""
        import numpy as np

        terms_N = np.empty(int(chunk.row_offsets[-1]), dtype=np.int64)
        spans = chunk.columns["offsets"]
        for row, text in enumerate(chunk.columns["text"]):
            start, stop = int(chunk.row_offsets[row]), int(chunk.row_offsets[row + 1])
            terms_N[start:stop] = self._row(text, spans[start:stop], chunk.columns["input_ids"][start:stop])
        return terms_N

    def _row(
        self, text: str, spans_L2: npt.NDArray[np.int32], input_ids_L: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int64]:
        import numpy as np

        words = list(re.finditer(r"\w+|[^\w\s]+", text))
        ends = np.array([word.end() for word in words], dtype=np.int64)
        names: list[Any] = [word.group().lower() for word in words]
        # The first word that ends behind the token's start: the token's own, or the one that follows its blanks.
        word_L = np.searchsorted(ends, spans_L2[:, 0], side="right")
        empty_L = (spans_L2[:, 0] == spans_L2[:, 1]) | (word_L >= len(words))
        keys = [
            ("token", int(token)) if empty else names[word]
            for word, empty, token in zip(word_L, empty_L, input_ids_L, strict=True)
        ]
        return np.array([self.numbers.setdefault(key, len(self.numbers)) for key in keys], dtype=np.int64)
