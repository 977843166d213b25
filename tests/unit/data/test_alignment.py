"""Alignment of characters and tokens: every non-space character counts exactly once, whatever tokenizer made the tokens."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from sftgo_cli.data import alignment

NUM_TEXTS = 2000
CORPUS = ["the quick brown fox, jumps over the lazy dogs.", "שלום עולם مرحبا", "你好，世界。", "naïve café 12,5 🙂"] * 4
POOLS = [
    [chr(code) for code in range(33, 127)],
    list(" \n\t \r\u3000\u00a0"),
    ["the ", "fox", "jumps", " over", "dogs."],
    ["🙂", "👩\u200d👩\u200d👧", "👍🏽", "🇫🇷", "❤\ufe0f"],
    [chr(code) for code in range(0x300, 0x370)],
    [chr(code) for code in (*range(0x5D0, 0x5EB), *range(0x627, 0x64B))] + ["\u200f", "\u202e"],
    [chr(code) for code in range(0x4E00, 0x4E80)] + list("、。ｱ한글"),
    ["\0", "\x01", "\x1c", "\x7f", "\u200b", "\ufeff", "\ufffd", "\u00ad"],
    list("ﬁ½…㎏ﷺ①ſß¨İΐ\u2581\u0958"),
    [chr(code) for code in (0x10FFFF, 0xE000, 0x10000, 0x1D11E)],
]


def random_texts(seed: int, count: int) -> list[str]:
    generator = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        pools = generator.choice(len(POOLS), size=generator.integers(1, 4))
        picks = [POOLS[generator.choice(pools)] for _ in range(generator.integers(1, 30))]
        texts.append("".join(pool[generator.integers(len(pool))] for pool in picks))
    return texts


def byte_level() -> Tokenizer:
    """GPT-2's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(CORPUS, _byte_trainer())
    return tokenizer


def byte_level_trimmed() -> Tokenizer:
    """RoBERTa's kind: a space in front, spaces taken out of the offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.train_from_iterator(CORPUS, _byte_trainer())
    return tokenizer


def tiktoken_style() -> Tokenizer:
    """Llama 3's kind: an explicit expression, whole pieces looked up before they are merged."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.train_from_iterator(CORPUS, _byte_trainer())
    return tokenizer


def _byte_trainer() -> Any:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)


def byte_fallback() -> Tokenizer:
    """Llama 2's kind: SentencePiece BPE; characters that it does not know become their bytes."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"thequickfox", "th", "▁th", "the"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    merges = [("t", "h"), ("▁", "th"), ("th", "e")]
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True)])
    return tokenizer


def unigram() -> Tokenizer:
    """XLM-R's kind: NFKC, then pieces marked with U+2581."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """BERT's kind: control characters are dropped, accents too."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


FAMILIES = {make.__name__: make for make in (byte_level, byte_level_trimmed, tiktoken_style, byte_fallback, unigram)}
FAMILIES["word_piece"] = word_piece


def spans_of(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) for encoding in encodings]


def laid_out(texts: list[str], spans: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All texts end to end: spans, non-space characters, text of each character, text of each token."""
    starts = np.cumsum([0, *(len(text) for text in texts)])
    moved = np.concatenate([part + start for part, start in zip(spans, starts, strict=False)])
    texts_C = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    texts_M = np.repeat(np.arange(len(texts)), [len(part) for part in spans])
    return moved, alignment.non_space("".join(texts)), texts_C, texts_M


def test_white_space_is_what_python_calls_white_space() -> None:
    every = "".join(chr(code) for code in range(sys.maxunicode + 1))
    assert alignment.non_space(every).tolist() == [not character.isspace() for character in every]
    assert len(alignment.non_space("")) == 0


def check_counted_once(tokenizer: Tokenizer, texts: list[str]) -> None:
    spans_M2, non_space_C, texts_C, texts_M = laid_out(texts, spans_of(tokenizer, texts))
    shares = alignment.character_shares(spans_M2, non_space_C, texts_C)
    counts_C = np.bincount(shares.characters_K, shares.weights_K, minlength=len(texts_C))
    with_tokens = np.isin(texts_C, texts_M)  # a tokenizer may make nothing at all of a text of control characters
    assert with_tokens.mean() > 0.9
    assert counts_C == pytest.approx((non_space_C & with_tokens).astype(float), abs=1e-12)
    assert (texts_M[shares.tokens_K] == texts_C[shares.characters_K]).all()
    pairs = shares.tokens_K * len(texts_C) + shares.characters_K
    assert len(np.unique(pairs)) == len(pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_non_space_character_is_counted_exactly_once(family: str) -> None:
    check_counted_once(FAMILIES[family](), random_texts(7, NUM_TEXTS))


@pytest.mark.parametrize("name", ["gpt2", "phi-2", "phi-3-mini", "bert-base-cased"])
def test_published_tokenizers_too(name: str) -> None:
    shared = os.environ.get("SFTGO_TEST_DATA")
    folder = Path(shared or Path(__file__).parents[4] / "shared" / "data") / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("the published tokenizers are not here")
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        tokenizer = Tokenizer(models.WordPiece.from_file(str(folder / "vocab.txt"), unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    check_counted_once(tokenizer, random_texts(8, NUM_TEXTS))


def values_by_hand(text: str, spans: np.ndarray, values: list[float]) -> list[float]:
    """The module's rules, character by character."""
    filled = list(values)
    for place in range(1, len(text)):
        if np.isnan(filled[place]):
            filled[place] = filled[place - 1]
    for place in reversed(range(len(text) - 1)):
        if np.isnan(filled[place]):
            filled[place] = filled[place + 1]
    filled = [0.0 if np.isnan(value) else value for value in filled]
    holders: list[list[int]] = [[] for _ in text]
    for token, (start, stop) in enumerate(spans.tolist()):
        for place in range(start, stop):
            holders[place].append(token)
    covered = [place for place in range(len(text)) if holders[place]]
    totals, weights = [0.0] * len(spans), [0.0] * len(spans)
    for place, character in enumerate(text):
        if character.isspace():
            continue
        before = [other for other in covered if other < place]
        after = [other for other in covered if other > place]
        owners = holders[place]
        if not owners:
            owners = holders[before[-1]][-1:] if before else holders[after[0]][:1] if after else []
        for token in owners:
            totals[token] += filled[place] / len(owners)
            weights[token] += 1 / len(owners)
    at = [filled[min(start, len(text) - 1)] for start, _ in spans.tolist()]
    return [totals[token] / weights[token] if weights[token] else at[token] for token in range(len(spans))]


@pytest.mark.parametrize("family", FAMILIES)
def test_token_values_follow_the_rules(family: str) -> None:
    generator = np.random.default_rng(3)
    texts = random_texts(9, 200)
    spans = spans_of(FAMILIES[family](), texts)
    values = [np.where(generator.random(len(text)) < 0.4, np.nan, generator.random(len(text))) for text in texts]
    spans_M2, non_space_C, texts_C, texts_M = laid_out(texts, spans)
    got = alignment.token_values(np.concatenate(values), spans_M2, non_space_C, texts_C, texts_C, texts_M)
    parts = zip(texts, spans, values, strict=True)
    expected = [value for text, part, own in parts for value in values_by_hand(text, part, own.tolist())]
    assert got == pytest.approx(expected, abs=1e-12)


def test_overlapping_spans_paint_their_mean() -> None:
    painted = alignment.paint(np.array([[1, 3], [2, 4], [5, 5]]), np.array([0.2, 0.6, 9.0], dtype=np.float32), 6)
    assert painted == pytest.approx([np.nan, 0.2, 0.4, 0.6, np.nan, np.nan], nan_ok=True, abs=1e-7)


def test_values_never_pass_from_one_row_to_another() -> None:
    rows = np.array([0, 0, 1, 1, 2])
    assert alignment.fill(np.array([np.nan, 1.0, np.nan, np.nan, 5.0]), rows).tolist() == [1, 1, 0, 0, 5]
    assert alignment.fill(np.full(3, np.nan), np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]


def test_no_text_at_all() -> None:
    none = np.zeros(0, dtype=np.int64)
    spans = np.zeros((2, 2), dtype=np.int64)
    got = alignment.token_values(np.zeros(0), spans, np.zeros(0, dtype=bool), none, none, np.zeros(2, dtype=np.int64))
    assert got.tolist() == [0.0, 0.0]
