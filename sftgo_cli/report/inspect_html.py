"""Rows as one self-contained HTML page: tokens colored by group or by score, readable in light and dark.

Nothing is loaded from elsewhere. Importance is never said by color alone: more important is also bolder and underlined
more strongly. The colors are pairs of ink and ground with a contrast of at least 4.5 : 1, blue against yellow, which
color-blind people tell apart. Everything from the data is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from sftgo_cli.report.group_names import group_name
from sftgo_cli.report.number_text import count_text, value_text
from sftgo_cli.report.score_table import GroupSummary
from sftgo_cli.report.segments import (
    NUM_LEVELS,
    RowTokens,
    Segment,
    leading_blank,
    num_groups_of,
    row_segments,
    row_tokens,
    split_prompt,
)
from sftgo_cli.report.visible_text import readable_token, visible

Colors = dict[str, str]
# What is drawn on which ground; a test computes the contrasts.
LIGHT: Colors = {
    "page": "#f4f5f7", "card": "#ffffff", "ink": "#15181d", "quiet": "#5b6470", "line": "#d9dde3", "accent": "#0b63c5",
    "top": "#ffdb6b", "between0": "#bfe0ff", "between1": "#e6d4fb", "between2": "#d3ecd8",
    "level0": "#ffffff", "level1": "#fff3d1", "level2": "#ffe09a", "level3": "#ffc25c", "level4": "#ff9f2e",
}  # fmt: skip
DARK: Colors = {
    "page": "#0f1216", "card": "#181c22", "ink": "#eef1f5", "quiet": "#a3adba", "line": "#323945", "accent": "#7ab8ff",
    "top": "#7a5a00", "between0": "#0f4c81", "between1": "#553580", "between2": "#215a35",
    "level0": "#181c22", "level1": "#2f2a1c", "level2": "#4d3d14", "level3": "#6b4e0a", "level4": "#8f5c00",
}  # fmt: skip
GROUNDS = ("top", "between0", "between1", "between2")
# Marks beside the color: of the top group and those below it, of the score levels from the lowest.
GROUP_MARKS = (
    "font-weight: 700; text-decoration-line: underline; text-decoration-style: solid;",
    "text-decoration-line: underline; text-decoration-style: dashed;",
    "text-decoration-line: underline; text-decoration-style: dotted;",
    "text-decoration-line: underline; text-decoration-style: wavy; text-decoration-thickness: 1px;",
)
LEVEL_MARKS = (
    "",
    "",
    "text-decoration-line: underline; text-decoration-style: dotted;",
    "text-decoration-line: underline; text-decoration-style: solid;",
    "font-weight: 700; text-decoration-line: underline; text-decoration-style: solid;",
)
LEVEL_NAMES = ("lowest fifth of the row's scores", "low", "middle", "high", "highest fifth")


@dataclass(frozen=True)
class Beside:
    """A text beside a row's response, each with a title and a note: the given answer beside the chosen target."""

    title: str
    note: str
    text: str
    own_title: str
    own_note: str


@dataclass(frozen=True)
class _Page:
    """What every row is drawn with."""

    num_groups: int
    tokenizer: Any


def render_html(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    summaries: Sequence[GroupSummary],
    recipe_line: str,
    *,
    tokenizer: Any = None,
    beside: Mapping[tuple[str, str], Beside] | None = None,
    color_by: str = "group",
) -> str:
    """The whole page.

    Args:
        rows: rows of a `TokenTable` or a data set, with the columns of `segments.NEEDED`.
        summaries: of all the data (`score_statistics`); may be empty.
        recipe_line: one line that says how the tokens were scored and grouped.
        tokenizer: names the tokens; without it a token without characters shows its id only.
        beside: what stands beside the response of a row, by the row's source and id.
        color_by: `group` or `score`: how the page colors when it is opened.

    Raises:
        UserError: a row has no scores, groups, text or offsets.
    """
    shown = [row_tokens(row) for row in rows]
    page = _Page(max(num_groups_of(shown), len(summaries)), tokenizer)
    found = beside or {}
    articles = [_article(row, page, found.get((row.source, row.row_id))) for row in shown]
    summary = _summary(summaries) if summaries else ""
    return _filled(title, recipe_line, summary, shown, articles, page, color_by=color_by)


def render_compared_html(
    versions: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str,
    summary: str,
    recipe_line: str,
    *,
    num_groups: int,
    tokenizer: Any = None,
    color_by: str = "group",
) -> str:
    """The page with every row under several scorers, one column each; what stands before the response is there once.

    Args:
        versions: scorer -> the rows, the same ones for every scorer.
        summary: HTML that stands above the rows.
        recipe_line, tokenizer, color_by: as in `render_html`.

    Raises:
        UserError: a row has no scores, groups, text or offsets.
    """
    page = _Page(num_groups, tokenizer)
    rows = [[row_tokens(row) for row in same_row] for same_row in zip(*versions.values(), strict=True)]
    articles = [_compared(dict(zip(versions, same_row, strict=True)), page) for same_row in rows]
    return _filled(title, recipe_line, summary, [same_row[0] for same_row in rows], articles, page, "wide", color_by)


def _filled(
    title: str,
    recipe_line: str,
    summary: str,
    rows: Sequence[RowTokens],
    articles: Sequence[str],
    page: _Page,
    layout: str = "",
    color_by: str = "group",
) -> str:
    """The template with everything in its place."""
    parts = {
        "title": escape(visible(title)),
        "palette": _palette(page.num_groups),
        "counts": _counts(rows),
        "recipe": escape(visible(recipe_line)),
        "summary": summary,
        "legend": _legend(page.num_groups),
        "rows": "\n".join(articles),
        "layout": layout,
        "by_group": "checked" if color_by == "group" else "",
        "by_score": "checked" if color_by == "score" else "",
    }
    template = resources.files("sftgo_cli.report").joinpath("inspect_page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found.group(1)], template)


def _counts(rows: Sequence[RowTokens]) -> str:
    num_tokens = sum(row.num_tokens for row in rows)
    num_supervised = sum(row.num_supervised for row in rows)
    noun = "row" if len(rows) == 1 else "rows"
    trained = f"{count_text(num_supervised)} of them trained on"
    return f"{count_text(len(rows))} {noun}, {count_text(num_tokens)} tokens, {trained}."


def _palette(num_groups: int) -> str:
    """The custom properties for light and dark, and the look of every group and level."""
    light = " ".join(f"--{name}: {color};" for name, color in LIGHT.items())
    dark = " ".join(f"--{name}: {color};" for name, color in DARK.items())
    lines = [f":root {{ color-scheme: light dark; {light} }}"]
    lines.append(f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}")
    for group in range(1, num_groups):
        place = _place(group, num_groups)
        rule = f"background: var(--{GROUNDS[place]}); {GROUP_MARKS[place]}"
        lines.append(f"body:not(:has(#by-score:checked)) .text .g{group}, .key .g{group} {{ {rule} }}")
    for level in range(1, NUM_LEVELS):
        rule = f"background: var(--level{level}); {LEVEL_MARKS[level]}"
        lines.append(f"body:has(#by-score:checked) .text .s{level}, .key .s{level} {{ {rule} }}")
    return "\n".join(lines)


def _place(group: int, num_groups: int) -> int:
    """Which look a group above the lowest has: 0 the most important one's; those between take turns."""
    from_top = num_groups - 1 - group
    return 0 if from_top == 0 else 1 + (from_top - 1) % (len(GROUNDS) - 1)


def _legend(num_groups: int) -> str:
    groups = "".join(
        f'<span class="by-group"><i class="g{group}">{group_name(group, num_groups)}</i></span>'
        for group in reversed(range(num_groups))
    )
    levels = "".join(
        f'<span class="by-score"><i class="s{level}">{LEVEL_NAMES[level]}</i></span>'
        for level in reversed(range(NUM_LEVELS))
    )
    return f'{groups}{levels}<span><i class="p">not trained on (prompt)</i></span>'


def _summary(summaries: Sequence[GroupSummary]) -> str:
    rows = "".join(_summary_row(summary, len(summaries)) for summary in reversed(summaries))
    return (
        '<div class="scroll groups"><table><caption>Groups in all the data</caption><thead><tr><th scope="col">group</th>'
        '<th scope="col" class="number">tokens</th><th scope="col">share</th><th scope="col" class="number">mean score</th>'
        f'<th scope="col">most typical tokens</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _summary_row(summary: GroupSummary, num_groups: int) -> str:
    tokens = " ".join(f"<code>{escape(token)}</code>" for token in summary.typical_tokens)
    return (
        f'<tr><th scope="row" class="key"><i class="g{summary.group}">{group_name(summary.group, num_groups)}</i></th>'
        f'<td class="number" data-label="tokens">{count_text(summary.num_tokens)}</td>'
        f'<td data-label="share">{summary.share:.1%}<span class="bar"><i style="width: {summary.share:.1%}"></i></span></td>'
        f'<td class="number" data-label="mean score">{value_text(summary.mean_score, 3)}</td>'
        f'<td data-label="most typical tokens">{tokens}</td></tr>'
    )


def _article(row: RowTokens, page: _Page, beside: Beside | None) -> str:
    heading = _heading(row, f" · {_top(row, page)}")
    if beside is None:
        return f"<article>{heading}{_drawn(row, page)}</article>"
    prompt, response = split_prompt(row)
    columns = "".join(
        f'<section><h3>{escape(visible(title))} <span class="meta">{escape(visible(note))}</span></h3>{drawn}</section>'
        for title, note, drawn in (
            (beside.title, beside.note, f'<div class="text" dir="auto">{_text(beside.text)}</div>'),
            (beside.own_title, beside.own_note, _drawn(response, page)),
        )
    )
    before = _drawn(prompt, page) if prompt.num_tokens else ""
    return f'<article>{heading}{before}<div class="columns">{columns}</div></article>'


def _compared(versions: Mapping[str, RowTokens], page: _Page) -> str:
    first = next(iter(versions.values()))
    columns = "".join(
        f'<section><h3>{escape(visible(label))} <span class="meta">{_top(row, page)}</span></h3>'
        f"{_drawn(split_prompt(row)[1], page)}</section>"
        for label, row in versions.items()
    )
    before = split_prompt(first)[0]
    prompt = _drawn(before, page) if before.num_tokens else ""
    return f'<article>{_heading(first)}{prompt}<div class="columns">{columns}</div></article>'


def _heading(row: RowTokens, more: str = "") -> str:
    weight = f" · row weight {row.loss_weight:g}" if row.loss_weight != 1.0 else ""
    meta = f"{count_text(row.num_tokens)} tokens · {count_text(row.num_supervised)} trained on{more}{weight}"
    source = f'<span class="meta">{escape(visible(row.source))}</span>' if row.source else ""
    return f'<header><h2>{escape(visible(row.row_id))}</h2>{source}<span class="meta">{meta}</span></header>'


def _top(row: RowTokens, page: _Page) -> str:
    top = int((row.group_ids == page.num_groups - 1).sum())
    return f"{count_text(top)} {group_name(page.num_groups - 1, page.num_groups)}"


def _drawn(row: RowTokens, page: _Page) -> str:
    pieces = "".join(_piece(segment, row, page) for segment in row_segments(row))
    return f'<div class="text" dir="auto">{pieces}</div>'


def _piece(segment: Segment, row: RowTokens, page: _Page) -> str:
    if not segment.tokens:
        return _text(segment.text)
    classes = f"g{segment.group} s{segment.level}" if segment.supervised else "p"
    title = escape("\n".join(_details(token, row, page) for token in segment.tokens))
    if not segment.text:
        return f'<i class="{classes}" title="{title}"><b>{escape(_token_name(segment.tokens[0], row, page))}</b></i>'
    blank, core = leading_blank(segment.text)
    return f'{blank}<i class="{classes}" title="{title}">{_text(core)}</i>'


def _text(text: str) -> str:
    """Escaped text; a line break keeps its mark and its break."""
    return '<span class="n"></span>\n'.join(escape(visible(line)) for line in text.split("\n"))


def _token_name(token: int, row: RowTokens, page: _Page) -> str:
    token_id = int(row.input_ids[token])
    return readable_token(page.tokenizer, token_id) if page.tokenizer is not None else f"token {token_id}"


def _details(token: int, row: RowTokens, page: _Page) -> str:
    """The tooltip of one token: its text, id, and where it is trained on its group, score and weight."""
    start, end = row.spans[token].tolist()
    text = visible(row.text[start:end]) or _token_name(token, row, page)
    if not row.supervised[token]:
        return f"{text} · id {row.input_ids[token]}"
    parts = [
        text,
        f"id {row.input_ids[token]}",
        group_name(int(row.group_ids[token]), page.num_groups),
        f"score {value_text(float(row.scores[token]), 3)}",
    ]
    if row.pinned[token]:
        parts.append("special token, its group is fixed by the recipe")
    if row.token_weights is not None and row.token_weights[token] != 1.0:
        parts.append(f"weight {row.token_weights[token]:g}")
    return " · ".join(parts)
