"""Which word of its row's text a token belongs to, whatever the tokenizer and the language; millions of tokens a second.

A text is cut into runs of characters of one class:

    word        letters, digits, combining marks, joiners and `_`:   `don`, `7`, `naïve`, `snake_case`
    unspaced    letters of scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
    symbol      all other characters that are not white space

A token belongs to the first word or unspaced run of which it holds a character, else to the first run of symbols. So the
pieces of a word belong to one word, and `'s`, ` (the` and ` the` to `s`, `the` and `the`. Inside an unspaced run a word
is what the token itself holds of it, for only the tokenizer knows of words there; the tokens that share a character
(bytes of it) share the word. A space alone belongs to the word behind it, other white space and tokens without
characters to none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sftgo_cli.data.rows import TokenChunk

    Integers = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

BLOCK_CHARACTERS = 1 << 18  # what is in work at a time stays in the processor's cache, and small for rows of any length
NUM_CODES = 0x110000
BLANK, SYMBOL, LETTER, DIGIT, JOINING, UNSPACED = range(6)  # classes of characters
RUN_OF_CLASS = np.array([BLANK, SYMBOL, LETTER, LETTER, LETTER, UNSPACED], dtype=np.uint8)
UNSPACED_SCRIPTS = (  # first and last code point
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x30FF),  # Japanese syllables
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
WORD, NUMBER, PUNCTUATION = range(3)  # kinds of words: with a letter, with digits only, neither
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
_BASE_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))


@dataclass(frozen=True)
class TokenWords:
    """The word of each of M tokens: its place, a hash of its lower-cased text, and its kind.

    Tokens of equal place in one row are pieces of one word there. Equal words have equal hashes in every row, chunk and
    process; that two of a million different ones share their 64 bits has a probability below 1e-7.
    """

    places_M: Integers  # the word's first character in its row's text; -1 for a token without characters
    hashes_M: Hashes
    kinds_M: npt.NDArray[np.int8]  # WORD, NUMBER or PUNCTUATION


class _Characters:
    """What is known of each code point, found out when it is first met."""

    def __init__(self) -> None:
        self.met = np.zeros(NUM_CODES, dtype=np.bool_)
        self.classes = np.zeros(NUM_CODES, dtype=np.uint8)
        self.values = np.zeros(NUM_CODES, dtype=np.uint64)  # equal for a letter and its lower case

    def meet(self, codes_C: npt.NDArray[np.uint32]) -> None:
        """Fill in the code points that are new; threads that meet the same ones write the same."""
        for code in set(codes_C[~self.met[codes_C]].tolist()):
            self.classes[code] = character_class(code)
            self.values[code] = mixed(np.array([ord(chr(code).lower()[:1]) + 1], dtype=np.uint64))[0]
            self.met[code] = True


_CHARACTERS = _Characters()


def character_class(code: int) -> int:
    """BLANK, SYMBOL, LETTER, DIGIT, JOINING or UNSPACED of a code point."""
    character, category = chr(code), unicodedata.category(chr(code))
    if character.isspace():
        return BLANK
    if category[0] in "LM" and any(first <= code <= last for first, last in UNSPACED_SCRIPTS):
        return UNSPACED
    if category[0] == "L":
        return LETTER
    if category[0] == "N":
        return DIGIT
    return JOINING if category[0] == "M" or character in "_\u200c\u200d" else SYMBOL


def mixed(values: Hashes) -> Hashes:
    """A well mixed 64-bit number for each number (the finalizer of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(values ^ (values >> np.uint64(33)))


def word_hash(word: str) -> int:
    """The hash that the tokens of this word (one run of characters) have."""
    spans = np.array([[0, len(word)]], dtype=np.int64)
    return int(_block([word], spans, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)).hashes_M[0])


def token_words(chunk: TokenChunk, wanted_N: npt.NDArray[np.bool_], threads: ThreadPoolExecutor) -> TokenWords:
    """The words of a chunk's wanted tokens; it needs the columns `input_ids`, `offsets` and `text`."""
    texts = chunk.columns["text"]
    spans_N2, ids_N = chunk.columns["offsets"], chunk.columns["input_ids"]

    def block(rows: tuple[int, int]) -> TokenWords:
        start, stop = (int(chunk.row_offsets[row]) for row in rows)
        wanted = np.flatnonzero(wanted_N[start:stop]) + start
        rows_M = np.searchsorted(chunk.row_offsets, wanted, side="right") - 1 - rows[0]
        return _block(texts[slice(*rows)], spans_N2[wanted].astype(np.int64), rows_M, ids_N[wanted])

    parts = list(threads.map(block, _blocks([len(text) for text in texts])))
    if not parts:
        return TokenWords(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int8))
    places, hashes, kinds = zip(*((part.places_M, part.hashes_M, part.kinds_M) for part in parts), strict=True)
    return TokenWords(np.concatenate(places), np.concatenate(hashes), np.concatenate(kinds))


def _blocks(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and past-the-last row of blocks of about BLOCK_CHARACTERS characters."""
    first, size = 0, 0
    for row, length in enumerate(lengths):
        size += length
        if size >= BLOCK_CHARACTERS or row == len(lengths) - 1:
            yield first, row + 1
            first, size = row + 1, 0


@dataclass(frozen=True)
class _Runs:
    """The R runs of C characters, in order; blanks are runs too."""

    run_of_C: Integers
    starts_R: Integers
    ends_R: Integers
    classes_R: npt.NDArray[np.uint8]

    def next_start(self, wanted_R: npt.NDArray[np.bool_]) -> Integers:
        """int64[R]: where the first wanted run at or behind each run starts; far behind the end if there is none."""
        starts = np.where(wanted_R, self.starts_R, np.iinfo(np.int64).max)
        return np.asarray(np.minimum.accumulate(starts[::-1])[::-1])


def _runs(classes_C: npt.NDArray[np.uint8]) -> _Runs:
    kinds_C = RUN_OF_CLASS[classes_C]
    begins_C = np.concatenate([[True], kinds_C[1:] != kinds_C[:-1]])
    starts_R = np.flatnonzero(begins_C)
    return _Runs(np.cumsum(begins_C) - 1, starts_R, np.append(starts_R[1:], len(kinds_C)), kinds_C[starts_R])


def _block(texts: Sequence[str], spans_M2: Integers, rows_M: Integers, ids_M: npt.NDArray[np.integer]) -> TokenWords:
    """The words of tokens of a few rows; `spans_M2` are in characters of each row's own text."""
    joined = "\n".join([*texts, "\n"])  # white space between two rows: no run reaches into the next one
    codes_C = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    _CHARACTERS.meet(codes_C)
    classes_C = _CHARACTERS.classes[codes_C]
    before_M = np.cumsum([0, *(len(text) + 1 for text in texts)])[rows_M]
    starts_M, ends_M = spans_M2[:, 0] + before_M, spans_M2[:, 1] + before_M
    from_M, to_M = _word_spans(codes_C, _runs(classes_C), starts_M, ends_M)
    empty_M = starts_M == ends_M
    hashes_M = np.where(empty_M, mixed(~ids_M.astype(np.uint64)), _hashes(codes_C, from_M, to_M))
    return TokenWords(
        np.where(empty_M, -1, from_M - before_M), hashes_M, _kinds(classes_C, from_M, to_M, ~empty_M).astype(np.int8)
    )


def _word_spans(
    codes_C: npt.NDArray[np.uint32], runs: _Runs, starts_M: Integers, ends_M: Integers
) -> tuple[Integers, Integers]:
    """First and past-the-last character of each token's word; of a blank token these are its own."""
    space_M = (ends_M - starts_M == 1) & (codes_C[starts_M] == ord(" "))
    behind_M = runs.classes_R[runs.run_of_C[starts_M + 1]]  # there is always a character behind a row's last one
    ends_M = np.where(space_M & (behind_M != BLANK) & (behind_M != UNSPACED), ends_M + 1, ends_M)
    run_M = runs.run_of_C[starts_M]
    wordy_R = runs.classes_R >= LETTER
    first_M = np.where(wordy_R[run_M], starts_M, runs.next_start(wordy_R)[run_M])
    symbol_M = np.maximum(runs.next_start(runs.classes_R != BLANK)[run_M], starts_M)
    first_M = np.where(first_M < ends_M, first_M, symbol_M)
    own_M = first_M >= ends_M  # blank, or empty
    run_M = runs.run_of_C[np.where(own_M, starts_M, first_M)]
    unspaced_M = runs.classes_R[run_M] == UNSPACED
    from_M = np.where(unspaced_M, first_M, runs.starts_R[run_M])
    to_M = np.where(unspaced_M, np.minimum(ends_M, runs.ends_R[run_M]), runs.ends_R[run_M])
    return np.where(own_M, starts_M, from_M), np.where(own_M, ends_M, to_M)


def _hashes(codes_C: npt.NDArray[np.uint32], from_M: Integers, to_M: Integers) -> Hashes:
    """A polynomial in the characters of each span, from sums over all characters before its ends."""
    powers = _powers(_BASE, len(codes_C))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_CHARACTERS.values[codes_C] * powers, dtype=np.uint64)])
    return mixed((sums[to_M] - sums[from_M]) * _powers(_BASE_INVERSE, len(codes_C) + 1)[from_M])


def _kinds(
    classes_C: npt.NDArray[np.uint8], from_M: Integers, to_M: Integers, has_characters_M: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """WORD, NUMBER or PUNCTUATION of each span."""
    letters = np.concatenate([[0], np.cumsum((classes_C == LETTER) | (classes_C == UNSPACED))])
    digits = np.concatenate([[0], np.cumsum(classes_C == DIGIT)])
    with_letter_M = (letters[to_M] > letters[from_M]) & has_characters_M
    with_digit_M = (digits[to_M] > digits[from_M]) & has_characters_M
    return np.where(with_letter_M, WORD, np.where(with_digit_M, NUMBER, PUNCTUATION))


def _powers(base: np.uint64, count: int) -> Hashes:
    """base^0, ..., base^(count - 1) modulo 2^64, kept from one call to the next."""
    kept = _KEPT_POWERS.get(int(base))
    if kept is None or len(kept) < count:
        factors = np.full(max(count, 2 * BLOCK_CHARACTERS), base, dtype=np.uint64)
        factors[0] = 1
        kept = _KEPT_POWERS[int(base)] = np.cumprod(factors, dtype=np.uint64)
    return kept[:count]


_KEPT_POWERS: dict[int, Hashes] = {}
