"""What is in each token group: counts, shares, mean score and the tokens most typical of it.

Typical means characteristic, not frequent. With y_k the count of a token in group k of n_k tokens, y_r and n_r the same
of all other groups, and a prior that spreads a tokens over the vocabulary as the whole data does, a_v = a y_v / n:

    ratio = log((y_k + a_v) / (n_k + a)) - log((y_r + a_v) / (n_r + a))
    z     = ratio / sqrt(1 / (y_k + a_v) + 1 / (y_r + a_v))

the smoothed log ratio of the rates in its standard errors (after Monroe, Colaresi and Quinn 2008, "Fightin' Words"): a
token must both lean to the group and be seen often enough to show it. a is the number of distinct tokens. A group
that holds every token has nothing to stand out against; there the most frequent tokens are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftgo_cli.columns import GROUP_IDS, INPUT_IDS, LABELS, TOKEN_SCORES
from sftgo_cli.data.rows import TokenChunk, TokenTable
from sftgo_cli.errors import UserError
from sftgo_cli.report.group_names import group_name
from sftgo_cli.report.number_text import count_text, share_text, value_text
from sftgo_cli.report.visible_text import readable_token

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.table import Table

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GroupSummary:
    """One group over all supervised tokens; `share` in [0, 1], `mean_score` None without a finite score."""

    group: int
    num_tokens: int
    share: float
    mean_score: float | None
    typical_tokens: tuple[str, ...]


def score_statistics(datasets: Sequence[Dataset], tokenizer: Any, num_groups: int, top: int = 12) -> list[GroupSummary]:
    """The summary of every group, least important first.

    Raises:
        UserError: scores or groups are missing, or a group id is not below `num_groups`.
    """
    _require_columns(datasets)
    counts_GV = np.zeros((num_groups, len(tokenizer)), dtype=np.int64)
    scored_G, sums_G = np.zeros(num_groups, dtype=np.int64), np.zeros(num_groups)
    for chunk in TokenTable(datasets, (INPUT_IDS, LABELS, TOKEN_SCORES, GROUP_IDS)).chunks():
        _check_groups(chunk, num_groups)
        counts_GV = _add(counts_GV, _count(chunk, counts_GV.shape))
        finite_N = chunk.supervised & np.isfinite(chunk.columns[TOKEN_SCORES])
        groups_M = chunk.columns[GROUP_IDS][finite_N].astype(np.int64)
        scored_G += np.bincount(groups_M, minlength=num_groups)
        scores_M = chunk.columns[TOKEN_SCORES][finite_N].astype(np.float64)
        sums_G += np.bincount(groups_M, weights=scores_M, minlength=num_groups)
    total = int(counts_GV.sum())
    return [
        GroupSummary(
            group=group,
            num_tokens=int(counts_GV[group].sum()),
            share=int(counts_GV[group].sum()) / total if total else 0.0,
            mean_score=float(sums_G[group] / scored_G[group]) if scored_G[group] else None,
            typical_tokens=_names(tokenizer, typical_tokens(counts_GV, group), top),
        )
        for group in range(num_groups)
    ]


def _require_columns(datasets: Sequence[Dataset]) -> None:
    for number, dataset in enumerate(datasets):
        missing = [name for name in (TOKEN_SCORES, GROUP_IDS) if name not in dataset.column_names]
        if missing:
            raise UserError(
                f"the rows have no column {' and no column '.join(missing)}",
                f"data set {number}",
                "run `sftgo score` on the recipe first",
            )


def _check_groups(chunk: TokenChunk, num_groups: int) -> None:
    groups_N = chunk.columns[GROUP_IDS]
    wrong = np.flatnonzero(chunk.supervised & ((groups_N < 0) | (groups_N >= num_groups)))
    if len(wrong):
        row = chunk.first_row + int(np.searchsorted(chunk.row_offsets, wrong[0], side="right")) - 1
        raise UserError(
            f"group id {int(groups_N[wrong[0]])} is not in 0..{num_groups - 1}",
            f"row {row} (counted from 0), column {GROUP_IDS}",
            "score the data again with this recipe's grouping",
        )


def _count(chunk: TokenChunk, shape: tuple[int, ...]) -> Counts:
    """int64[G, V]: how often each token stands in each group of this chunk; V grows where an id is beyond it."""
    supervised_N = chunk.supervised
    ids_M = chunk.columns[INPUT_IDS][supervised_N].astype(np.int64)
    groups_M = chunk.columns[GROUP_IDS][supervised_N].astype(np.int64)
    num_ids = max(shape[1], int(ids_M.max(initial=-1)) + 1)
    return np.bincount(groups_M * num_ids + ids_M, minlength=shape[0] * num_ids).reshape(shape[0], num_ids)


def _add(left_GV: Counts, right_GV: Counts) -> Counts:
    """Their sum; `right_GV` is at least as wide."""
    right_GV[:, : left_GV.shape[1]] += left_GV
    return right_GV


def typical_tokens(counts_GV: Counts, group: int) -> Counts:
    """Token ids characteristic of a group, most characteristic first; only tokens that lean to it (z > 0)."""
    own_V, all_V = counts_GV[group], counts_GV.sum(axis=0)
    present = np.flatnonzero(own_V)
    num_own, num_all = int(own_V.sum()), int(all_V.sum())
    if num_own == num_all:
        return present[np.argsort(-own_V[present], kind="stable")]
    prior = float(np.count_nonzero(all_V))
    prior_P = prior * all_V[present] / num_all
    own_P = own_V[present] + prior_P
    rest_P = all_V[present] - own_V[present] + prior_P
    ratio_P = np.log(own_P / (num_own + prior)) - np.log(rest_P / (num_all - num_own + prior))
    z_P = ratio_P / np.sqrt(1.0 / own_P + 1.0 / rest_P)
    order = np.argsort(-z_P, kind="stable")
    return np.asarray(present[order[z_P[order] > 0]])


def _names(tokenizer: Any, token_ids: Counts, top: int) -> tuple[str, ...]:
    """The first `top` different readable strings (a word with and without its space reads the same)."""
    names: dict[str, None] = {}
    for token_id in token_ids[: 4 * top].tolist():
        names.setdefault(readable_token(tokenizer, token_id))
        if len(names) == top:
            break
    return tuple(names)


def asked_shares(asked_fraction: float | Sequence[float] | None, num_groups: int) -> list[float | None]:
    """The share that each group was asked to have, least important first, from cumulative fractions from the top; None
    where the fractions do not say (a single fraction speaks of the most important of several groups only)."""
    if asked_fraction is None:
        return [None] * num_groups
    if isinstance(asked_fraction, (int, float)) and num_groups > 2:
        return [*[None] * (num_groups - 1), float(asked_fraction)]
    cuts = [asked_fraction] if isinstance(asked_fraction, (int, float)) else list(asked_fraction)
    ends = [0.0, *cuts, 1.0]
    shares: list[float | None] = [upper - lower for lower, upper in pairwise(ends)]
    return shares[::-1]


def score_table(
    summaries: Sequence[GroupSummary],
    asked_fraction: float | Sequence[float] | None,
    labels: Sequence[str] | None = None,
) -> Table:
    """The groups, most important first, the realised share next to the asked one.

    Args:
        asked_fraction: the recipe's important_fraction, or its boundaries or quantiles (cumulative fractions from the
            top); None where no fraction decides.
        labels: the groups' names, least important first, where they have names of their own.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="Token groups",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="dim",
    )
    table.add_column("group", no_wrap=True)
    for name in ("tokens", "share", "asked", "mean score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("most typical tokens", ratio=1, overflow="fold")
    asked = asked_shares(asked_fraction, len(summaries))
    names = labels or [group_name(summary.group, len(summaries)) for summary in summaries]
    for summary, wanted in reversed(list(zip(summaries, asked, strict=True))):
        table.add_row(
            Text(names[summary.group], style="bold" if summary.group else ""),
            count_text(summary.num_tokens),
            f"{summary.share:.1%}",
            value_text(None) if wanted is None else share_text(wanted, 1.0),
            value_text(summary.mean_score, 3),
            Text("  ".join(summary.typical_tokens)),
        )
    differs = any(
        wanted is not None and abs(summary.share - wanted) >= 0.005
        for summary, wanted in zip(summaries, asked, strict=True)
    )
    if differs:
        table.caption = (
            "The share differs from the asked one where equal scores share a group, where a part of few tokens is "
            "rounded up, and where special tokens have a fixed group."
        )
    return table
