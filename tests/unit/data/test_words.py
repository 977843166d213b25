"""Which word a token belongs to: pieces, contractions, scripts without spaces, blanks, and hashes that mean the word."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sftgo_cli.data import words
from sftgo_cli.data.rows import TokenChunk
from sftgo_cli.data.words import NUMBER, PUNCTUATION, WORD, TokenWords, token_words, word_hash


def words_of(rows: list[tuple[str, list[tuple[int, int]]]], wanted: list[bool] | None = None) -> TokenWords:
    """The words of the tokens at these spans of each text."""
    lengths = [len(spans) for _, spans in rows]
    columns = {
        "text": [text for text, _ in rows],
        "offsets": np.array([span for _, spans in rows for span in spans], dtype=np.int32).reshape(-1, 2),
        "input_ids": np.arange(sum(lengths), dtype=np.int32),
    }
    chunk = TokenChunk(0, np.cumsum([0, *lengths]), columns)
    with ThreadPoolExecutor(2) as threads:
        return token_words(chunk, np.ones(sum(lengths), np.bool_) if wanted is None else np.array(wanted), threads)


def cut(pattern: str, text: str) -> tuple[str, list[tuple[int, int]]]:
    return text, [match.span() for match in re.finditer(pattern, text)]


def meaning(found: TokenWords, vocabulary: list[str]) -> list[str]:
    """The word that each token's hash stands for."""
    named = {word_hash(word): word for word in vocabulary}
    assert len(named) == len(vocabulary)
    return [named.get(hash_, "?") for hash_ in found.hashes_M.tolist()]


def test_pieces_blanks_and_symbols() -> None:
    found = words_of([cut(r" ?\w{1,3}|'s| ?[^\w\s]+|\s", "The Café's  x_1 = 3,000.\n\n(naïve) 7th")])
    expected = [
        ("the", 0, WORD),
        ("café", 4, WORD),
        ("café", 4, WORD),  # é, a piece
        ("s", 9, WORD),  # 's
        ("?", 10, PUNCTUATION),  # a blank before another blank
        ("x_1", 12, WORD),
        ("=", 16, PUNCTUATION),
        ("3", 18, NUMBER),
        (",", 19, PUNCTUATION),
        ("000", 20, NUMBER),
        (".", 23, PUNCTUATION),
        ("?", 24, PUNCTUATION),
        ("?", 25, PUNCTUATION),
        ("(", 26, PUNCTUATION),
        ("naïve", 27, WORD),
        ("naïve", 27, WORD),
        (")", 32, PUNCTUATION),
        ("7th", 34, WORD),
    ]
    names = meaning(found, ["the", "café", "s", "x_1", "=", "3", "000", ",", ".", "(", ")", "naïve", "7th"])
    assert list(zip(names, found.places_M.tolist(), found.kinds_M.tolist(), strict=True)) == expected


def test_a_blank_alone_belongs_to_the_word_behind_it() -> None:
    found = words_of([cut(r"\S+|\s", "a b\nc")])
    assert meaning(found, ["a", "b", "c"]) == ["a", "b", "b", "?", "c"]
    assert found.places_M.tolist() == [0, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ça dépend, l'été.", ["ça", "dépend", "?", "l", "?", "été", "?"]),  # French
        ("Не ЗНАЮ!", ["не", "знаю", "?"]),  # Russian
        ("हिन्दी में", ["हिन्दी", "में"]),  # Hindi: vowel signs are no separators
        ("می‌خواهم", ["می‌خواهم"]),  # Persian: a joiner inside the word
        ("한국어 문장", ["한국어", "문장"]),  # Korean has spaces
        ("Straße GRÖSSE", ["straße", "grösse"]),  # German
    ],
)
def test_words_of_languages_with_spaces(text: str, expected: list[str]) -> None:
    """Cut into single characters, every character still belongs to its whole word."""
    found = words_of([cut(r"(?s).", text)])
    names = meaning(found, [word for word in expected if word != "?"])
    assert [name for place, name in enumerate(names) if place == 0 or name != names[place - 1]] == expected


@pytest.mark.parametrize("text", ["我喜欢猫。", "猫が好き", "ฉันรักแมว", "ខ្ញុំ"])
def test_in_scripts_without_spaces_the_token_is_the_word(text: str) -> None:
    letters = text.rstrip("。")
    found = words_of([(text, [(0, 1), (1, len(letters)), (1, len(letters)), (0, len(letters))])])
    assert meaning(found, [letters[0], letters[1:], letters]) == [letters[0], letters[1:], letters[1:], letters]
    assert found.places_M.tolist() == [0, 1, 1, 0]
    assert set(found.kinds_M.tolist()) == {WORD}


def test_rows_do_not_reach_into_one_another_and_equal_words_are_equal_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [cut(r" ?\S", text) for text in ("ab cd", "", "cd", "CD x", "d" * 50, "ab")]
    whole = words_of(rows)
    names = meaning(whole, ["ab", "cd", "x", "d" * 50])
    assert names == [*["ab"] * 2, *["cd"] * 6, "x", *["d" * 50] * 50, *["ab"] * 2]
    monkeypatch.setattr(words, "BLOCK_CHARACTERS", 3)
    blocks = words_of(rows)
    for name in ("places_M", "hashes_M", "kinds_M"):
        assert np.array_equal(getattr(whole, name), getattr(blocks, name)), name
    chosen = [number % 3 == 0 for number in range(len(whole.places_M))]
    assert np.array_equal(words_of(rows, chosen).hashes_M, whole.hashes_M[chosen])


def test_a_token_without_characters_belongs_to_no_word() -> None:
    found = words_of([("ab", [(0, 2), (2, 2), (0, 0)]), ("", [(0, 0)])])
    assert found.places_M.tolist() == [0, -1, -1, -1]
    assert found.kinds_M.tolist() == [WORD, PUNCTUATION, PUNCTUATION, PUNCTUATION]
    assert len(set(found.hashes_M.tolist())) == 4  # by their ids, which differ here


def test_many_words_have_as_many_hashes() -> None:
    text = " ".join(f"{number:x}" for number in range(300_000))
    found = words_of([cut(r"\w+", text)])
    assert len(np.unique(found.hashes_M)) == 300_000
