"""Kinds of tokens: a piece is of its word's kind, in any language; shares per group, chance, and what is printed."""

from __future__ import annotations

import re
from collections import Counter
from io import StringIO
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from rich.console import Console

from sftgo_cli.columns import features
from sftgo_cli.report import token_kinds
from sftgo_cli.report.token_kinds import (
    KindCounts,
    count_kinds,
    fewer_content_words,
    kind_rows,
    kinds_table,
    kinds_warning,
)

NAMES = ["text", "input_ids", "labels", "offsets", "pinned", "group_ids"]
ENGLISH = (
    "Because the cat didn't see it, 12 mice (3 of them grey) ran from 1,000 traps.\nThey're in café No. 5; what a día!"
)


def rows_of(texts: list[str], pattern: str = r" ?\w{1,3}|[^\w\s]|\s", groups: int = 2) -> Dataset:
    """Texts cut into tokens by a pattern; token k of a row is in group k % groups."""
    rows = []
    for text in texts:
        spans = [list(match.span()) for match in re.finditer(pattern, text)]
        ids = list(range(1, len(spans) + 1))
        rows.append(
            {
                "text": text,
                "input_ids": ids,
                "labels": ids,
                "offsets": spans,
                "pinned": [False] * len(ids),
                "group_ids": [number % groups for number in range(len(ids))],
            }
        )
    return Dataset.from_list(rows, features=features(NAMES))


def slow_kind(text: str, start: int, end: int) -> str:
    """The kind of a token of an English text, word by word."""
    for word in re.finditer(r"\w+", text):
        if word.end() > start and word.start() < end:
            if not re.search(r"[^\W\d]", word.group()):
                return "numbers"
            listed = word.group().lower() in token_kinds.STOP_WORDS | token_kinds.CONTRACTIONS
            return "stop-like" if listed else "words"
    # A space alone is part of the word or the symbol behind it.
    if text[start:end] == " " and (word := re.compile(r"\w+").match(text, end)):
        return slow_kind(text, *word.span())
    return "punctuation"


@pytest.mark.parametrize("pattern", [r" ?\w+|[^\w\s]+|\s", r" ?\w{1,3}|[^\w\s]|\s", r"(?s)."])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_token_is_of_its_words_kind(pattern: str, groups: int) -> None:
    texts = [ENGLISH, "It is 7.", "You and I and the three of us were there: a b c."]
    kinds = count_kinds([rows_of(texts[:1], pattern, groups), rows_of(texts[1:], pattern, groups)], groups)
    expected = Counter(
        (number % groups, slow_kind(text, *match.span()))
        for text in texts
        for number, match in enumerate(re.finditer(pattern, text))
    )
    for group in range(groups):
        wanted = [expected[group, name] for name in token_kinds.KINDS]
        assert kinds.counts_GK[group].tolist() == wanted
        assert kinds.shares(group) == pytest.approx([count / sum(wanted) for count in wanted])
    assert kinds.counts_GK.sum() == expected.total()


def test_pieces_of_known_words() -> None:
    rows = rows_of(["Because walking is 12 !"], r" ?\w{1,3}|!| ", 1)
    # Bec au se | wal kin g | is | 12 | blank, symbol
    assert count_kinds([rows], 1).counts_GK.tolist() == [[3, 1, 3 + 1, 2]]


def test_what_is_pinned_empty_or_not_supervised_has_no_kind() -> None:
    row = rows_of(["one two three four"], r" ?\w+").to_list()[0]
    row["labels"][0], row["group_ids"][0] = -100, -1
    row["pinned"][1] = True
    row["offsets"][2] = [3, 3]
    kinds = count_kinds([Dataset.from_list([row], features=features(NAMES))], 2)
    assert kinds.counts_GK.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert kinds.num_special_G.tolist() == [1, 1]
    assert kinds.shares(0) == [0.0] * 4


GERMAN = ("der", "und", "die")
NOUNS = [f"{first}{last}" for first in ("haus", "baum", "stuhl", "fisch", "berg") for last in "abcdefghijklmnopqrst"]


def german_rows(num_rows: int = 200) -> list[str]:
    """Sentences of three function words and six of a hundred nouns each; enough words for two stop-like ones."""
    generator = np.random.default_rng(0)
    texts = []
    for _ in range(num_rows):
        nouns = generator.choice(NOUNS, 6, replace=False).tolist()
        texts.append(f"Der {nouns[0]} und die {nouns[1]} und der {nouns[2]}, {' '.join(nouns[3:])} 4.")
    return texts


def test_in_other_languages_the_most_widespread_words_are_stop_like() -> None:
    texts = german_rows()
    distinct = len(NOUNS) + len(GERMAN)
    stop_like = distinct // token_kinds.DISTINCT_PER_STOP_WORD  # 2: `der` and `und` stand twice in every row
    assert stop_like == 2
    (row,) = count_kinds([rows_of(texts, r" ?\w+|[^\w\s]", 1)], 1).counts_GK.tolist()
    assert row == [len(texts) * 7, len(texts), len(texts) * 4, len(texts) * 2]
    # The same rows between English ones, whatever the source or the chunk.
    english = [f"the {noun} and its {noun}s are in there with me" for noun in NOUNS]
    (mixed,) = count_kinds([rows_of([*english, *texts], r" ?\w+|[^\w\s]", 1)], 1).counts_GK.tolist()
    (apart,) = count_kinds([rows_of(english, r" ?\w+", 1), rows_of(texts, r" ?\w+|[^\w\s]", 1)], 1).counts_GK.tolist()
    assert mixed == apart == [row[0] + 2 * len(english), row[1], row[2] + 8 * len(english), row[3]]


def test_scripts_without_spaces_count_their_tokens() -> None:
    generator = np.random.default_rng(1)
    characters = [chr(0x4E00 + number) for number in range(120)]
    texts = ["".join(f"{one}的" for one in generator.choice(characters, 10, replace=False)) + "。" for _ in range(80)]
    (row,) = count_kinds([rows_of(texts, r"(?s).", 1)], 1).counts_GK.tolist()
    widest = Counter(one for text in texts for one in set(text) - set("的。")).most_common(1)[0][1]
    # 121 distinct characters: two are stop-like, 的 and one more.
    assert row == [800 - widest, 0, 800 + widest, 80]


def test_short_rows_are_taken_as_english() -> None:
    (row,) = count_kinds([rows_of(["positive"] * 200 + ["the negative"] * 100, r" ?\w+", 1)], 1).counts_GK.tolist()
    assert row == [300, 0, 100, 0]


def counts(*groups: tuple[int, int, int, int]) -> KindCounts:
    return KindCounts(np.array(groups), np.zeros(len(groups), dtype=np.int64))


def test_chance_is_a_draw_from_all_tokens() -> None:
    # 1,000 tokens, half of them content; 300 important ones: sqrt(0.25 / 300 * 700 / 999) = 0.02417 per standard error.
    def important(content: int) -> KindCounts:
        return counts((400 - content, 100, 200 + content, 0), (content, 0, 0, 300 - content))

    assert important(0).counts_GK.sum() == 1000
    assert not fewer_content_words(important(150))
    assert not fewer_content_words(important(136))  # 0.4533, 1.93 standard errors below
    assert fewer_content_words(important(135))  # 0.45, 2.07 below
    assert not fewer_content_words(counts((0, 0, 0, 0), (1, 2, 3, 4)))
    assert not fewer_content_words(counts((1, 2, 3, 4), (0, 0, 0, 0)))
    assert fewer_content_words(counts((40, 0, 10, 0), (40, 0, 10, 0), (5, 0, 45, 0)))  # of three groups the last


def printed(renderable: Any, width: int) -> list[str]:
    out = Console(file=StringIO(), width=width)
    out.print(renderable)
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_table_and_the_warning() -> None:
    kinds = counts((500, 20, 300, 180), (30, 10, 40, 20), (20, 10, 50, 20))
    labels = ["least important", "group 1", "most important"]
    lines = printed(kinds_table(kind_rows(kinds, labels), "Kinds of tokens", "group"), 80)
    assert max(map(len, lines)) <= 80
    cells = [re.split(r"  +", line.strip()) for line in lines]
    assert ["group", "content", "words", "numbers", "stop-like", "punctuation"] in cells
    found = [row for row in cells if row[0] in (*labels, "all tokens")]
    assert found == [
        ["most important", "30.0%", "20.0%", "10.0%", "50.0%", "20.0%"],
        ["group 1", "40.0%", "30.0%", "10.0%", "40.0%", "20.0%"],
        ["least important", "52.0%", "50.0%", "2.0%", "30.0%", "18.0%"],
        ["all tokens", "49.2%", "45.8%", "3.3%", "32.5%", "18.3%"],
    ]
    warning = kinds_warning(kinds, labels)
    assert warning is not None
    assert "the most important group holds fewer content words" in warning
    assert "30.0% words and numbers, all tokens have 49.2%" in warning
    assert kinds_warning(counts((1, 0, 9, 0), (9, 0, 1, 0)), labels[::2]) is None
