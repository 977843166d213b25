"""Texts -> words with their probability of being kept, as LLMLingua-2 (arXiv 2403.12968) computes them.

    p[piece] = softmax(logits)[keep]          over chunks of the text, special tokens around each
    P[word]  = mean of p over the word's pieces

A chunk has at most `max_chunk_tokens` pieces; a longer text is cut after the last piece "." or newline that fits, else
where the chunk is full. Words are made of the whole text's pieces, so a cut inside a word does not make two of it.
Which piece starts a word depends on the classifier's tokenizer:

    WordPiece       a piece without the continuing prefix (`##`)
    SentencePiece   a piece that starts with U+2581 (XLM-R)
    byte-level BPE  a piece that starts with white space (U+0120, newline, tab), or after one that ends with it
    any other       a piece whose pre-tokenized word (`word_ids`) differs from the piece's before

and a text's first piece always does. `compatibility: llmlingua` gives what the llmlingua package 0.2.2 computes: a chunk
without "." or newline is one piece longer and loses its closing token; the chunk's pieces are decoded and tokenized
again; the strings [CLS] and [SEP] are put around (`<unk>` for XLM-R); words end with the chunk, special tokens belong to
none, and XLM-R's punctuation pieces are words of their own. (The package also adds tokens [NEW0] ... [NEW99] to the
vocabulary: texts that hold these strings differ.)
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sftgo_cli.scoring.token_classifier import keep_probabilities

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

CHUNK_ENDS = (".", "\n", "Ċ", "<0x0A>")  # "Ċ" and "<0x0A>" are how byte-level and byte-fallback vocabularies write \n
BYTE_LEVEL_SPACES = ("Ġ", "Ċ", "ĉ", "č")  # space, newline, tab, carriage return
SENTENCE_PIECE_SPACE = "▁"


@dataclass(frozen=True)
class Words:
    """W words of several texts, text by text."""

    texts_W: npt.NDArray[np.int64]  # the number of the text
    spans_W2: npt.NDArray[np.int64]  # first and past-the-last character in that text
    probabilities_W: npt.NDArray[np.float32]


@dataclass(frozen=True)
class PieceRules:
    """What the classifier's vocabulary of V pieces says about words and chunks."""

    kind: str  # word_piece | sentence_piece | byte_level | other
    starts_V: npt.NDArray[np.bool_]  # the piece starts a word
    opens_V: npt.NDArray[np.bool_]  # the next piece starts a word
    ends_V: npt.NDArray[np.bool_]  # a chunk may end after the piece
    prefix_ids: tuple[int, ...]  # special tokens in front of a chunk
    suffix_ids: tuple[int, ...]


@dataclass(frozen=True)
class Classifier:
    """A loaded classifier and how it is used."""

    model: torch.nn.Module
    tokenizer: Any
    rules: PieceRules
    max_chunk_tokens: int
    batch_tokens: int
    llmlingua: bool  # compatibility with the llmlingua package


@dataclass
class Pieces:
    """The pieces of all texts, and the sequences to classify, which hold the pieces one after the other."""

    sequences: list[list[int]] = field(default_factory=list)
    inner: list[tuple[int, int]] = field(default_factory=list)  # where a sequence's pieces lie inside it
    texts: list[npt.NDArray[np.int64]] = field(default_factory=list)
    spans: list[npt.NDArray[np.int64]] = field(default_factory=list)
    starts: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    counted: list[npt.NDArray[np.bool_]] = field(default_factory=list)  # False: the piece belongs to no word


def piece_rules(tokenizer: Any) -> PieceRules:
    """Read the rules of the module's table out of a fast tokenizer."""
    import numpy as np

    vocabulary: dict[str, int] = tokenizer.get_vocab()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    prefix = str(backend["model"].get("continuing_subword_prefix") or "##")
    if backend["model"]["type"] == "WordPiece":
        kind = "word_piece"
    elif '"ByteLevel"' in json.dumps(backend["pre_tokenizer"]):
        kind = "byte_level"
    else:
        marked = any(piece.startswith(SENTENCE_PIECE_SPACE) for piece in vocabulary)
        kind = "sentence_piece" if marked else "other"
    begins: dict[str, Callable[[str], bool]] = {
        "word_piece": lambda piece: not piece.startswith(prefix),
        "byte_level": lambda piece: piece.startswith(BYTE_LEVEL_SPACES),
        "sentence_piece": lambda piece: piece.startswith(SENTENCE_PIECE_SPACE),
        "other": lambda piece: False,
    }
    size = max(vocabulary.values(), default=-1) + 1
    starts_V, opens_V, ends_V = (np.zeros(size, dtype=np.bool_) for _ in range(3))
    for piece, number in vocabulary.items():
        starts_V[number] = begins[kind](piece)
        opens_V[number] = kind == "byte_level" and piece.endswith(BYTE_LEVEL_SPACES)
        ends_V[number] = piece in CHUNK_ENDS
    return PieceRules(kind, starts_V, opens_V, ends_V, *special_tokens_around(tokenizer))


def special_tokens_around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the tokenizer itself puts before and after a text."""
    with_them: list[int] = tokenizer("a")["input_ids"]
    mask = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    inside = [place for place, special in enumerate(mask) if not special]
    first, last = (inside[0], inside[-1]) if inside else (len(mask), len(mask))
    return tuple(with_them[:first]), tuple(with_them[last + 1 :])


def word_probabilities(classifier: Classifier, texts: Sequence[str]) -> Words:
    """The words of the texts and their probabilities, float32; a text without pieces has no words."""
    import numpy as np

    produce = llmlingua_pieces if classifier.llmlingua else own_pieces
    pieces = produce(classifier, texts)
    if not pieces.sequences:
        return Words(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    pad_id = classifier.tokenizer.pad_token_id or 0
    found = keep_probabilities(classifier.model, pieces.sequences, pad_id, classifier.batch_tokens)
    inner = [part[start:stop] for part, (start, stop) in zip(found, pieces.inner, strict=True)]
    return _words(pieces, np.concatenate(inner))


def _words(pieces: Pieces, probabilities_P: npt.NDArray[np.float32]) -> Words:
    """Means over the pieces of each word, in float64."""
    import numpy as np

    counted_P = np.concatenate(pieces.counted)
    texts_P = np.concatenate(pieces.texts)[counted_P]
    spans_P2 = np.concatenate(pieces.spans)[counted_P]
    starts_P = np.concatenate(pieces.starts)[counted_P]
    values_P = probabilities_P[counted_P].astype(np.float64)
    if not len(texts_P):
        return Words(texts_P, spans_P2, probabilities_P[:0])
    starts_P[0] = True
    starts_P[1:] |= texts_P[1:] != texts_P[:-1]
    firsts_W = np.flatnonzero(starts_P)
    counts_W = np.diff(np.append(firsts_W, len(starts_P)))
    means_W = np.add.reduceat(values_P, firsts_W) / counts_W
    spans_W2 = np.stack(
        [np.minimum.reduceat(spans_P2[:, 0], firsts_W), np.maximum.reduceat(spans_P2[:, 1], firsts_W)], axis=1
    )
    return Words(texts_P[firsts_W], spans_W2, means_W.astype(np.float32))


def own_pieces(classifier: Classifier, texts: Sequence[str]) -> Pieces:
    """Each text tokenized once, cut into chunks, the tokenizer's own special tokens around each."""
    import numpy as np

    rules = classifier.rules
    prefix, suffix = list(rules.prefix_ids), list(rules.suffix_ids)
    pieces = Pieces()
    for number, encoding in enumerate(_encodings(classifier.tokenizer, texts)):
        ids: list[int] = encoding.ids
        if not ids:
            continue
        ids_P = np.array(ids, dtype=np.int64)
        for start, stop in chunk_bounds(rules.ends_V[ids_P], classifier.max_chunk_tokens):
            pieces.sequences.append([*prefix, *ids[start:stop], *suffix])
            pieces.inner.append((len(prefix), len(prefix) + stop - start))
        starts_P = rules.starts_V[ids_P]
        starts_P[1:] |= rules.opens_V[ids_P[:-1]]
        if rules.kind == "other":
            words_P = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int64)
            starts_P[1:] = words_P[1:] != words_P[:-1]
        pieces.starts.append(starts_P)
        pieces.texts.append(np.full(len(ids), number))
        pieces.spans.append(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2))
        pieces.counted.append(np.ones(len(ids), dtype=np.bool_))
    return pieces


def _encodings(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """tokenizers.Encoding of each text without special tokens, offsets in characters."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoded.encodings)


def chunk_bounds(ends_P: npt.NDArray[np.bool_], max_tokens: int) -> Iterator[tuple[int, int]]:
    """Start and end of each chunk of at most `max_tokens` pieces, cut after the last True that fits, else when full."""
    import numpy as np

    start, total = 0, len(ends_P)
    while total - start > max_tokens:
        places = np.flatnonzero(ends_P[start : start + max_tokens])
        stop = start + (int(places[-1]) + 1 if len(places) else max_tokens)
        yield start, stop
        start = stop
    if start < total:
        yield start, total


def llmlingua_bounds(ends_P: npt.NDArray[np.bool_], max_tokens: int) -> Iterator[tuple[int, int]]:
    """The package's own bounds: it looks from one piece further on, and never at a chunk's first piece."""
    import numpy as np

    start, total = 0, len(ends_P)
    while total - start > max_tokens:
        places = np.flatnonzero(ends_P[start + 1 : start + max_tokens + 1])
        stop = start + 1 + (int(places[-1]) + 1 if len(places) else max_tokens)
        yield start, stop
        start = stop
    if start < total:
        yield start, total


def llmlingua_pieces(classifier: Classifier, texts: Sequence[str]) -> Pieces:
    """What the llmlingua package classifies; spans point into the original texts through counts of characters."""
    import numpy as np

    tokenizer, limit = classifier.tokenizer, classifier.max_chunk_tokens
    around = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    special = {text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    chunks: list[tuple[int, list[str], npt.NDArray[np.int64]]] = []
    for number, encoding in enumerate(_encodings(tokenizer, texts)):
        ends_P = np.isin(np.array(encoding.tokens), (".", "\n"))
        spans_P2 = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        for start, stop in llmlingua_bounds(ends_P, limit):
            chunks.append((number, encoding.tokens[start:stop], spans_P2[start:stop]))
    strings = [tokenizer.convert_tokens_to_string(tokens) for _, tokens, _ in chunks]
    pieces = Pieces()
    again = _encodings(tokenizer, strings)
    for (number, tokens, spans_P2), decoded, encoding in zip(chunks, strings, again, strict=True):
        names = tokenizer.convert_ids_to_tokens(encoding.ids[: limit + 1])  # unlike .tokens, <unk> where unknown
        if not names:
            continue
        pieces.sequences.append([around[0], *encoding.ids, around[1]][: limit + 2])
        pieces.inner.append((1, 1 + len(names)))
        pieces.texts.append(np.full(len(names), number))
        pieces.spans.append(_mapped(encoding.offsets[: len(names)], decoded, tokens, spans_P2, classifier.rules.kind))
        counted_P = np.array([name not in special for name in names])
        starts_P = np.array([_starts_llmlingua_word(name, classifier.rules.kind) for name in names])
        starts_P[np.flatnonzero(counted_P)[:1]] = True  # a word never reaches into the next chunk
        pieces.counted.append(counted_P)
        pieces.starts.append(starts_P)
    return pieces


def _starts_llmlingua_word(piece: str, kind: str) -> bool:
    if kind == "word_piece":
        return not piece.startswith("##")
    return piece in string.punctuation or piece.startswith(SENTENCE_PIECE_SPACE)


def _mapped(
    offsets: Sequence[tuple[int, int]],
    decoded: str,
    tokens: Sequence[str],
    spans_P2: npt.NDArray[np.int64],
    kind: str,
) -> npt.NDArray[np.int64]:
    """int64[Q, 2]: spans in the original text of pieces that were tokenized again from `decoded`.

    Decoding a chunk changes only its white space (and `do not`, which becomes as many letters of `don't`), so the k-th
    non-space character of `decoded` belongs to the piece in whose surface the k-th non-space character lies.
    """
    import numpy as np

    from sftgo_cli.data.alignment import non_space

    surfaces = [_surface(token, kind, first=place == 0) for place, token in enumerate(tokens)]
    ends_P = np.cumsum([int(non_space(surface).sum()) for surface in surfaces])
    before_C = np.cumsum(np.concatenate([[0], non_space(decoded)]))  # non-space characters before each character
    bounds_Q2 = before_C[np.array(offsets, dtype=np.int64).reshape(-1, 2)]
    last = len(tokens) - 1
    first_Q = np.minimum(np.searchsorted(ends_P, bounds_Q2[:, 0], side="right"), last)
    last_Q = np.minimum(np.searchsorted(ends_P, bounds_Q2[:, 1] - 1, side="right"), last)
    starts_Q = spans_P2[first_Q, 0]
    empty = bounds_Q2[:, 0] == bounds_Q2[:, 1]
    return np.stack([starts_Q, np.where(empty, starts_Q, spans_P2[last_Q, 1])], axis=1)


def _surface(token: str, kind: str, first: bool) -> str:
    """The characters that a piece adds to the decoded string, white space aside."""
    if kind == "word_piece":
        return token if first else token.removeprefix("##")
    return token.replace(SENTENCE_PIECE_SPACE, " ")
