"""Values of characters -> values of tokens, whatever tokenizer made the tokens; nothing is ever searched for in a text.

Every character of a response that is not white space is counted exactly once. A character that n tokens share (a
byte-level tokenizer cuts an emoji into several) counts 1/n in each; a character that no token covers (a normalizer took
it out) belongs to the last token of the covered character before it, or, at the very start, to the first token of the
covered character after it:

    weight[t, c] = 1 / n(c)        summing to 1 over the tokens t of every non-space character c
    value[t]     = sum_c weight[t, c] value[c] / sum_c weight[t, c]

Characters without a value (white space, what a classifier's tokenizer dropped) take that of the nearest character before
them that has one, else after them, else 0; so does a token without non-space characters, at the place where it starts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LAST_SPACE = 0x3000  # the last code point for which str.isspace() holds


@dataclass(frozen=True)
class CharacterShares:
    """The K pairs of a token and one of its non-space characters: a sparse matrix of M tokens by C characters."""

    tokens_K: npt.NDArray[np.int64]
    characters_K: npt.NDArray[np.int64]
    weights_K: npt.NDArray[np.float64]


def non_space(text: str) -> npt.NDArray[np.bool_]:
    """bool[C]: the characters (code points) of the text that are not white space as `str.isspace` sees it."""
    import numpy as np

    codes_C = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.asarray(~_is_space()[np.minimum(codes_C, LAST_SPACE + 1)])


def character_shares(
    spans_M2: npt.NDArray[np.int64], non_space_C: npt.NDArray[np.bool_], texts_C: npt.NDArray[np.int64]
) -> CharacterShares:
    """How much of each non-space character each token holds.

    Args:
        spans_M2: first and past-the-last character of each token, tokens in their order.
        non_space_C: the characters that count.
        texts_C: the text that a character lies in, -1 outside of any. Characters of -1 are left out, and one that no
            token covers goes to a token of its own text only; a text without tokens is not counted.
    """
    import numpy as np

    tokens_K, characters_K = spread(spans_M2)
    wanted = non_space_C & (texts_C >= 0)
    counts_C = np.bincount(characters_K, minlength=len(non_space_C))
    bare_B = np.flatnonzero(wanted & (counts_C == 0))
    owners_B = _owners(bare_B, tokens_K, characters_K, texts_C)
    inside = wanted[characters_K]
    tokens_K, characters_K = tokens_K[inside], characters_K[inside]
    weights_K = 1.0 / counts_C[characters_K]
    owned = owners_B >= 0
    return CharacterShares(
        np.concatenate([tokens_K, owners_B[owned]]),
        np.concatenate([characters_K, bare_B[owned]]),
        np.concatenate([weights_K, np.ones(int(owned.sum()))]),
    )


def token_values(
    values_C: npt.NDArray[np.float64],
    spans_M2: npt.NDArray[np.int64],
    non_space_C: npt.NDArray[np.bool_],
    texts_C: npt.NDArray[np.int64],
    rows_C: npt.NDArray[np.int64],
    rows_M: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """float64[M]: each token's mean over its non-space characters; see the module for the rules.

    Args:
        values_C: a value per character of all rows laid out one after the other, NaN where there is none.
        spans_M2, non_space_C, texts_C: as in `character_shares`.
        rows_C, rows_M: the row that a character, a token lies in; values never pass from one row to another.
    """
    import numpy as np

    filled_C = fill(values_C, rows_C)
    shares = character_shares(spans_M2, non_space_C, texts_C)
    num_tokens = len(spans_M2)
    totals_M = np.bincount(shares.tokens_K, shares.weights_K * filled_C[shares.characters_K], minlength=num_tokens)
    weights_M = np.bincount(shares.tokens_K, shares.weights_K, minlength=num_tokens)
    counted = weights_M > 0
    values_M = np.zeros(num_tokens)
    values_M[counted] = totals_M[counted] / weights_M[counted]
    values_M[~counted] = _at_start(filled_C, spans_M2[~counted], rows_C, rows_M[~counted])
    return values_M


def paint(
    spans_W2: npt.NDArray[np.int64], values_W: npt.NDArray[np.float32], num_characters: int
) -> npt.NDArray[np.float64]:
    """float64[C]: each span's value on its characters, the mean where spans overlap, NaN where none is."""
    import numpy as np

    spans_K, characters_K = spread(spans_W2)
    counts_C = np.bincount(characters_K, minlength=num_characters)
    totals_C = np.bincount(characters_K, values_W[spans_K].astype(np.float64), minlength=num_characters)
    return np.where(counts_C > 0, totals_C / np.maximum(counts_C, 1), np.nan)


def fill(values_C: npt.NDArray[np.float64], rows_C: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """float64[C] without NaN: the nearest value before in the same row, else after, else 0. `rows_C` never falls."""
    import numpy as np

    known = np.flatnonzero(~np.isnan(values_C))
    if not len(known):
        return np.zeros(len(values_C))
    places = np.arange(len(values_C))
    after = np.searchsorted(known, places)  # the first known place at or after each one
    before = np.searchsorted(known, places, side="right") - 1
    filled_C = np.zeros(len(values_C))
    for which in (after, before):  # before wins
        source = known[np.clip(which, 0, len(known) - 1)]
        valid = (which >= 0) & (which < len(known)) & (rows_C[source] == rows_C)
        filled_C[valid] = values_C[source[valid]]
    return filled_C


def spread(spans_M2: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64[K] twice: every (span, place inside it), span by span."""
    import numpy as np

    lengths_M = np.maximum(spans_M2[:, 1] - spans_M2[:, 0], 0)
    spans_K = np.repeat(np.arange(len(spans_M2)), lengths_M)
    starts_K = np.repeat(spans_M2[:, 0] - (np.cumsum(lengths_M) - lengths_M), lengths_M)
    return spans_K, starts_K + np.arange(len(spans_K))


def _owners(
    bare_B: npt.NDArray[np.int64],
    tokens_K: npt.NDArray[np.int64],
    characters_K: npt.NDArray[np.int64],
    texts_C: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """int64[B]: the token that takes each character that no token covers, -1 where its text has none."""
    import numpy as np

    owners_B = np.full(len(bare_B), -1, dtype=np.int64)
    if not len(bare_B) or not len(tokens_K):
        return owners_B
    order = np.lexsort((tokens_K, characters_K))
    covered_K = characters_K[order]
    after = np.searchsorted(covered_K, bare_B)
    for which in (after, after - 1):  # the one before wins
        place = np.clip(which, 0, len(covered_K) - 1)
        valid = (which >= 0) & (which < len(covered_K)) & (texts_C[covered_K[place]] == texts_C[bare_B])
        owners_B[valid] = tokens_K[order][place[valid]]
    return owners_B


def _at_start(
    filled_C: npt.NDArray[np.float64],
    spans_S2: npt.NDArray[np.int64],
    rows_C: npt.NDArray[np.int64],
    rows_S: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """float64[S]: the filled value where each span starts (a span at the end of its row: the row's last character)."""
    import numpy as np

    if not len(filled_C):
        return np.zeros(len(spans_S2))
    first_S = np.searchsorted(rows_C, rows_S)
    end_S = np.searchsorted(rows_C, rows_S, side="right")
    places_S = np.clip(spans_S2[:, 0], first_S, np.maximum(end_S - 1, first_S))
    return np.where(end_S > first_S, filled_C[np.minimum(places_S, len(filled_C) - 1)], 0.0)


@functools.cache
def _is_space() -> npt.NDArray[np.bool_]:
    """bool: whether a code point up to one past the last white space is white space."""
    import numpy as np

    return np.array([chr(code).isspace() for code in range(LAST_SPACE + 2)])
