"""What kinds of tokens the groups hold: content words, numbers, stop-like words, punctuation.

A token is of the kind of the word that it is a piece of (data/words.py), so `ing` of `walking` is a word and a piece of
`because` is stop-like:

    numbers       digits without a letter: 7, 000, 2nd is a word
    stop-like     function words: articles, pronouns, prepositions, conjunctions, auxiliaries
    words         every other word with a letter: content words
    punctuation   all else: symbols, line breaks, blanks

Which words are stop-like: the English ones of STOP_WORDS; and in rows of other languages or of code (eight words or
more, fewer than one in ten of them listed) also the words that stand in the most such rows, the first hundred, and at
most one in fifty of their distinct words. Function words are the most widespread words of every language: a rule instead
of a list treats all others alike. Special tokens, the end of turn and tokens without characters are of no kind.

A group that were chosen by chance would hold each kind as the ranked tokens do. `fewer_content_words` says when the
important group holds fewer words and numbers than that, by more than two standard errors of such a choice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sftgo_cli.columns import GROUP_IDS, INPUT_IDS, LABELS, OFFSETS, PINNED, TEXT
from sftgo_cli.data.rows import TokenChunk, TokenTable
from sftgo_cli.data.words import NUMBER, WORD, token_words, word_hash

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.table import Table

    Counts = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

KINDS = ("words", "numbers", "stop-like", "punctuation")
WORDS, NUMBERS, STOP_LIKE, SYMBOLS = range(len(KINDS))
STOP_WORDS = frozenset(
    "a about all also am an and any are as at be because been being but by can could did do does for from had has have he "
    "her hers him his how i if in into is it its itself me my no nor not of off on or our ours out over shall she should so "
    "some such than that the their theirs them then there these they this those through to too up upon us very was we were "
    "what when where which while who whom whose why will with would you your yours".split()
)
CONTRACTIONS = frozenset(
    "s t d ll m re ve don didn doesn isn aren wasn weren hasn haven hadn couldn wouldn shouldn".split()
)
ALL_TOKENS = "all tokens"
LEAST_WORDS = 8  # a row of fewer words is too short to tell its language
LISTED_SHARE = 0.1  # a row of English has at least this share of listed words; running text has 0.3 to 0.6
MOST_STOP_WORDS = 100
DISTINCT_PER_STOP_WORD = 50
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class KindCounts:
    """How many tokens of each kind every group holds, least important group first; special tokens are not counted."""

    counts_GK: Counts
    num_special_G: Counts  # special tokens, the end of turn, tokens without characters

    def shares(self, group: int | None = None) -> list[float]:
        """The share of each kind among the tokens of a group, or of all groups; 0 where there are none."""
        counts_K = self.counts_GK.sum(axis=0) if group is None else self.counts_GK[group]
        return [float(count) / max(1, int(counts_K.sum())) for count in counts_K]

    def content(self, group: int | None = None) -> float:
        """The share of words and numbers."""
        shares = self.shares(group)
        return shares[WORDS] + shares[NUMBERS]


@dataclass
class _Unlisted:
    """Words of rows in other languages that are in no list, chunk by chunk: in how many rows, how often in each group."""

    hashes: list[Hashes] = field(default_factory=list)
    num_rows: list[Counts] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)  # int64[D, G]

    def add(self, hashes_M: Hashes, rows_M: Counts, groups_M: Counts, num_groups: int) -> None:
        """The words of a chunk, token by token."""
        distinct_D, inverse_M = np.unique(hashes_M, return_inverse=True)
        size = len(distinct_D)
        pairs = np.unique(inverse_M + rows_M * size) % max(1, size)
        self.hashes.append(distinct_D)
        self.num_rows.append(np.bincount(pairs, minlength=size))
        counts = np.bincount(inverse_M * num_groups + groups_M, minlength=size * num_groups)
        self.counts.append(counts.reshape(size, num_groups))

    def split(self, num_groups: int) -> tuple[Counts, Counts]:
        """int64[G] twice: tokens of content words, tokens of the stop-like words."""
        if not self.hashes:
            return np.zeros(num_groups, dtype=np.int64), np.zeros(num_groups, dtype=np.int64)
        distinct_D, inverse = np.unique(np.concatenate(self.hashes), return_inverse=True)
        num_rows_D = np.bincount(inverse, weights=np.concatenate(self.num_rows), minlength=len(distinct_D))
        counts_DG = np.zeros((len(distinct_D), num_groups), dtype=np.int64)
        np.add.at(counts_DG, inverse, np.concatenate(self.counts))
        limit = min(MOST_STOP_WORDS, len(distinct_D) // DISTINCT_PER_STOP_WORD)
        widest = np.lexsort((distinct_D, -counts_DG.sum(axis=1), -num_rows_D))[:limit]
        stop_G = counts_DG[widest].sum(axis=0)
        return counts_DG.sum(axis=0) - stop_G, stop_G


def count_kinds(datasets: Sequence[Dataset], num_groups: int) -> KindCounts:
    """Count the kinds of the supervised tokens of every group."""
    columns = (INPUT_IDS, LABELS, OFFSETS, PINNED, GROUP_IDS)
    counts_GK = np.zeros((num_groups, len(KINDS)), dtype=np.int64)
    special_G, unlisted = np.zeros(num_groups, dtype=np.int64), _Unlisted()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for chunk in TokenTable(datasets, columns, (TEXT,)).chunks():
            spans_N2 = chunk.columns[OFFSETS]
            special_N = chunk.columns[PINNED] | (spans_N2[:, 0] == spans_N2[:, 1])
            groups_N = chunk.columns[GROUP_IDS].astype(np.int64)
            special_G += np.bincount(groups_N[chunk.supervised & special_N], minlength=num_groups)
            counts_GK += _count(chunk, chunk.supervised & ~special_N, groups_N, num_groups, unlisted, threads)
    words_G, stop_G = unlisted.split(num_groups)
    counts_GK[:, WORDS] += words_G
    counts_GK[:, STOP_LIKE] += stop_G
    return KindCounts(counts_GK, special_G)


def _count(
    chunk: TokenChunk,
    counted_N: npt.NDArray[np.bool_],
    groups_N: Counts,
    num_groups: int,
    unlisted: _Unlisted,
    threads: ThreadPoolExecutor,
) -> Counts:
    """int64[G, K] of a chunk, without the unlisted words of rows in other languages: those go to `unlisted`."""
    found = token_words(chunk, counted_N, threads)
    rows_M = np.repeat(np.arange(chunk.num_rows), np.diff(chunk.row_offsets))[counted_N]
    groups_M = groups_N[counted_N]
    is_word_M = found.kinds_M == WORD
    listed_M = is_word_M & np.isin(found.hashes_M, _stop_hashes())
    num_words_R = np.bincount(rows_M[is_word_M], minlength=chunk.num_rows)
    num_listed_R = np.bincount(rows_M[listed_M], minlength=chunk.num_rows)
    foreign_R = (num_words_R >= LEAST_WORDS) & (num_listed_R < LISTED_SHARE * num_words_R)
    open_M = is_word_M & ~listed_M & foreign_R[rows_M]
    if open_M.any():
        unlisted.add(found.hashes_M[open_M], rows_M[open_M], groups_M[open_M], num_groups)
    kinds_M = np.select([listed_M, is_word_M, found.kinds_M == NUMBER], [STOP_LIKE, WORDS, NUMBERS], default=SYMBOLS)
    codes = groups_M[~open_M] * len(KINDS) + kinds_M[~open_M]
    return np.bincount(codes, minlength=num_groups * len(KINDS)).reshape(num_groups, len(KINDS))


@cache
def _stop_hashes() -> Hashes:
    return np.array([word_hash(word) for word in STOP_WORDS | CONTRACTIONS], dtype=np.uint64)


def fewer_content_words(kinds: KindCounts) -> bool:
    """Whether the most important group holds fewer words and numbers than a group of its size chosen by chance would:
    drawn without replacement from all counted tokens, by more than STANDARD_ERRORS."""
    num_own, num_all = int(kinds.counts_GK[-1].sum()), int(kinds.counts_GK.sum())
    if num_own == 0 or num_own == num_all:
        return False
    expected = kinds.content()
    error = math.sqrt(expected * (1.0 - expected) / num_own * (num_all - num_own) / (num_all - 1))
    return kinds.content(-1) < expected - STANDARD_ERRORS * error


def kind_rows(kinds: KindCounts, labels: Sequence[str]) -> list[tuple[str, list[float]]]:
    """A name and the shares of each line of the table: the groups, most important first, then all tokens."""
    groups = [(labels[group], kinds.shares(group)) for group in reversed(range(len(labels)))]
    return [*groups, (ALL_TOKENS, kinds.shares())]


def kinds_table(rows: Sequence[tuple[str, list[float]]], title: str, first: str) -> Table:
    """The shares of each kind, in percent, for a terminal; the last row is all tokens, `first` what the others are."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption="Content is words and numbers. Special tokens are left out.",
        caption_justify="left",
        caption_style="dim",
    )
    table.add_column(first)
    for name in ("content", *KINDS):
        table.add_column(name, justify="right", no_wrap=True)
    for number, (name, shares) in enumerate(rows):
        cells = (shares[WORDS] + shares[NUMBERS], *shares)
        table.add_row(Text(name), *(f"{share:.1%}" for share in cells), end_section=number == len(rows) - 2)
    return table


def kinds_warning(kinds: KindCounts, labels: Sequence[str]) -> str | None:
    """One sentence where the most important group holds fewer content words than chance would give it."""
    if not fewer_content_words(kinds):
        return None
    name = labels[-1].splitlines()[0]
    return (
        f"Warning: the {name} group holds fewer content words than chance would give it: {kinds.content(-1):.1%} words "
        f"and numbers, all tokens have {kinds.content():.1%}. Look at the rows with `sftgo inspect`; docs/scoring.md "
        "compares scorers and their options."
    )
