"""Segments: the pieces joined are the text; shared characters stand once, in the highest group."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sftgo_cli.errors import UserError
from sftgo_cli.report.segments import NUM_LEVELS, leading_blank, row_segments, row_tokens, score_levels

TEXTS = [
    "",
    "the cat",
    "Naïve 😀 👨‍👩‍👧 e\u0301a",
    "שלום the مرحبا",
    "a\r\n\tb\x00c\u202ed",
    "  the   mat  ",
]


def row_of(text: str, spans: list[tuple[int, int]], groups: list[int], scores: list[float]) -> dict[str, Any]:
    labels = [-100 if group < 0 else 1 for group in groups]
    ids = [1] * len(spans)
    return {
        "text": text,
        "input_ids": ids,
        "labels": labels,
        "offsets": spans,
        "token_scores": scores,
        "group_ids": groups,
    }


@pytest.mark.parametrize("answer", TEXTS)
def test_pieces_joined_are_the_text(make_row: Any, answer: str) -> None:
    row = make_row("Q: 😀 ", answer)
    tokens = row_tokens(row)
    segments = row_segments(tokens)
    assert "".join(segment.text for segment in segments) == row["text"]
    assert {token for segment in segments for token in segment.tokens} == set(range(tokens.num_tokens))


def test_random_spans_cover_their_own_text() -> None:
    rng = random.Random(3)
    for _ in range(300):
        text = "".join(rng.choice("ab 😀é\n") for _ in range(rng.randrange(12)))
        spans = [tuple(sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))) for _ in range(rng.randrange(9))]
        groups = [rng.randint(-1, 2) for _ in spans]
        segments = row_segments(row_tokens(row_of(text, spans, groups, [float(g) for g in groups])))
        assert "".join(segment.text for segment in segments) == text
        for token, (start, end) in enumerate(spans):
            assert "".join(segment.text for segment in segments if token in segment.tokens) == text[start:end]
        for segment in segments:
            assert segment.group == max((groups[token] for token in segment.tokens), default=-1)


def test_tokens_of_one_character_are_one_piece_in_the_highest_group() -> None:
    row = row_of("a😀b", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], [0, 0, 1, 0, 0], [1.0, 2.0, 9.0, 3.0, 4.0])
    segments = row_segments(row_tokens(row))
    assert [(s.text, s.tokens, s.group, s.score) for s in segments] == [
        ("a", (0,), 0, 1.0),
        ("😀", (1, 2, 3), 1, 9.0),
        ("b", (4,), 0, 4.0),
    ]


def test_text_between_spans_and_tokens_without_text_are_kept() -> None:
    row = row_of("ab cd", [(0, 0), (0, 2), (3, 5)], [-1, -1, 1], [float("nan"), float("nan"), 5.0])
    segments = row_segments(row_tokens(row))
    assert [(s.text, s.tokens, s.supervised) for s in segments] == [
        ("", (0,), False),
        ("ab", (1,), False),
        (" ", (), False),
        ("cd", (2,), True),
    ]


def test_spans_beyond_the_text_are_cut() -> None:
    segments = row_segments(row_tokens(row_of("abc", [(0, 2), (2, 9)], [0, 1], [1.0, 2.0])))
    assert [s.text for s in segments] == ["ab", "c"]


def test_levels_are_fifths_of_the_rows_own_scores() -> None:
    scores = np.array([np.nan, 10.0, 20.0, 30.0, 40.0, 5000.0, 7.0])
    supervised = np.array([False, True, True, True, True, True, False])
    assert score_levels(scores, supervised).tolist() == [-1, 0, 1, 2, 3, 4, -1]
    assert score_levels(np.full(4, 2.0), np.ones(4, dtype=bool)).tolist() == [NUM_LEVELS // 2] * 4
    assert score_levels(np.full(3, np.nan), np.ones(3, dtype=bool)).tolist() == [-1, -1, -1]


def test_unscored_rows_are_refused(make_row: Any) -> None:
    row = make_row("Q", "A", row_id="x:7")
    del row["group_ids"]
    with pytest.raises(UserError, match=r"no group_ids - row x:7 - run `sftgo score`"):
        row_tokens(row)


def test_leading_blank() -> None:
    assert leading_blank("  cat ") == ("  ", "cat ")
    assert leading_blank("   ") == ("", "   ")
