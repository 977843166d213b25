"""Why a token is in its group: rank, thresholds and group agree with the grouping, whatever decides."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from sftgo_cli.errors import UserError
from sftgo_cli.grouping import group_by_thresholds, group_tokens, score_bits, score_of_bits
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.report.segments import RowTokens, row_tokens
from sftgo_cli.report.why import Asked, asked_token, why

SCORES = [np.nan, 4.0, 1.0, 4.0, 2.5, 0.5, -1.0, 9.0]  # the first token is the prompt's, the last one is pinned


def grouped_row(bpe: Any, grouping: GroupingSection) -> RowTokens:
    """A row of these scores, grouped by grouping.py itself."""
    scores = np.array(SCORES, dtype=np.float32)
    supervised = ~np.isnan(scores)
    pinned = np.array([False] * 7 + [True])
    if grouping.thresholds is not None:
        bits = [score_bits(threshold) for threshold in grouping.thresholds]
        groups = group_by_thresholds(scores, supervised, pinned, bits, grouping.special_tokens, grouping.invert)
    else:
        offsets = np.array([0, len(scores)])
        cuts = grouping.cuts() or [0.5]
        groups = group_tokens(scores, offsets, supervised, pinned, cuts, grouping.special_tokens, grouping.invert)
    ids = [bpe.convert_tokens_to_ids(one) for one in "abcdefg"] + [bpe.eos_token_id]
    return row_tokens(
        {
            "row_id": "a:1",
            "source": "train.0",
            "text": "abcdefg",
            "input_ids": ids,
            "labels": [-100, *ids[1:]],
            "offsets": [[number, number + 1] for number in range(7)] + [[7, 7]],
            "pinned": pinned,
            "token_scores": scores,
            "group_ids": groups,
        }
    )


def lines_of(bpe: Any, token: int, shared: list[float] | None = None, **grouping: Any) -> list[tuple[str, str]]:
    section = GroupingSection.model_validate(grouping)
    return why(grouped_row(bpe, section), token, section, "toy", [("tf", "2 times")], shared, bpe)


def test_a_ranked_token(bpe: Any) -> None:
    # Six ranked tokens, 0.3 of them is 1.8: the threshold is the second largest score, which two tokens share.
    assert lines_of(bpe, 3) == [
        ("token", f"3 of row a:1: d (id {bpe.convert_tokens_to_ids('d')})"),
        ("text", "characters 3 to 4: 'd'"),
        ("score", "4.0000 by toy"),
        ("  tf", "2 times"),
        ("rank", "1 of 6 ranked tokens of the row, 1 more with the same score"),
        ("threshold", "4.0000: score number 2 of the row (0.3 of 6, rounded up)"),
        ("group", "1 of 0 to 1: most important"),
    ]
    assert lines_of(bpe, 4)[-3:] == [
        ("rank", "3 of 6 ranked tokens of the row"),
        ("threshold", "4.0000: score number 2 of the row (0.3 of 6, rounded up)"),
        ("group", "0 of 0 to 1: least important"),
    ]


def test_what_is_not_ranked(bpe: Any) -> None:
    assert lines_of(bpe, 0)[-1] == ("supervised", "no: it has no score and no group")
    *_, decided, group = lines_of(bpe, 7)
    assert decided == (
        "decided by",
        "special token or end of turn: grouping.special_tokens is important, so it is not ranked",
    )
    assert group == ("group", "1 of 0 to 1: most important")
    assert lines_of(bpe, 7)[1] == ("text", "none")
    assert lines_of(bpe, 7, special_tokens="scored")[-3][1] == "1 of 7 ranked tokens of the row"
    *_, decided, group = lines_of(bpe, 1, roles=[["user"], ["assistant"]])
    assert decided == ("decided by", "the row itself (grouped by roles: user / assistant), not by its score")


@pytest.mark.parametrize(
    "grouping",
    [
        {"important_fraction": 0.5},
        {"boundaries": [0.2, 0.5, 0.7]},
        {"boundaries": [0.2, 0.5, 0.7], "invert": True},
        {"thresholds": [-0.5, 1.0, 2.5]},
        {"thresholds": [-4.0, -1.0, 1.0], "invert": True},
        {"boundaries": [0.4, 0.8], "special_tokens": "scored"},
    ],
)
def test_the_thresholds_say_the_group(bpe: Any, grouping: dict[str, Any]) -> None:
    """The group of a ranked token is the number of printed thresholds that its score reaches."""
    thresholds = sorted(grouping["thresholds"], reverse=True) if "thresholds" in grouping else None
    sign = -1.0 if grouping.get("invert") else 1.0
    for token in range(1, 7):
        lines = lines_of(bpe, token, thresholds, **grouping)
        reached = [float(re.split(r"[: ]", text)[0]) for name, text in lines if name == "threshold"]
        assert len(reached) == len(grouping.get("boundaries") or grouping.get("thresholds") or [0.5])
        group = sum(sign * SCORES[token] >= sign * threshold for threshold in reached)
        assert lines[-1][1].startswith(f"{group} of 0 to ")


@pytest.mark.parametrize("score", [0.0, 1.5, -1.5, 3e-40, float("inf"), -3.4e38])
def test_bits_and_scores_are_each_others_inverse(score: float) -> None:
    assert score_of_bits(score_bits(score)) == np.float32(score)
    assert np.isnan(score_of_bits(0xFFFFFFFF))  # the threshold of no score at all


def test_what_is_asked() -> None:
    assert asked_token("file:12:7") == Asked("file:12", 7)
    for text in ("r1", "r1:", ":3", "r1:x", "r1:-1", ""):
        with pytest.raises(UserError, match="is no row and token - --why"):
            asked_token(text)


def test_a_token_that_is_not_there(bpe: Any) -> None:
    with pytest.raises(UserError, match="row a:1 has no token 8 - --why - its tokens are 0 to 7"):
        lines_of(bpe, 8)
