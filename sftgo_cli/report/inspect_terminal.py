"""Rows in the terminal with their tokens colored by group or by score.

Where the terminal has no colors (a file, a pipe, NO_COLOR) the same is said with marks: «word» is a token of the most
important group (by score: of the row's top fifth), ‹1:word› one of a group between, ⟦text⟧ text that is not
supervised. Colors are dark text on a light ground or no ground at all, so they read on dark and light terminals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from sftgo_cli.report.group_names import group_name
from sftgo_cli.report.number_text import count_text
from sftgo_cli.report.segments import (
    NUM_LEVELS,
    RowTokens,
    Segment,
    leading_blank,
    num_groups_of,
    row_segments,
    row_tokens,
    shortened,
    split_prompt,
)
from sftgo_cli.report.visible_text import NEWLINE, readable_token, visible

ColorBy = Literal["group", "score"]

UNSUPERVISED_STYLE = "dim"
TOP_STYLE = "bold #000000 on #ffd75f"
BETWEEN_STYLES = ("#000000 on #87d7ff", "#000000 on #d7afff", "#000000 on #afd7af")  # next to the top first
SCORE_STYLES = ("", "underline", "#000000 on #d7d7af", "#000000 on #ffd75f", "bold #000000 on #ff8700")
PLAIN_MARKS = {"top": ("«", "»"), "between": ("‹", "›"), "unsupervised": ("⟦", "⟧")}
ASCII_MARKS = {"top": ("<<", ">>"), "between": ("<", ">"), "unsupervised": ("[[", "]]")}


@dataclass(frozen=True)
class _Row:
    """A row that chooses between colors and marks when it is printed."""

    tokens: RowTokens
    color_by: ColorBy
    num_groups: int
    tokenizer: Any

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield ruled(_headline(self.tokens, self.num_groups), console, options)
        draw = _marked if _is_plain(console) else _colored
        yield Padding(draw(self, options.ascii_only), (0, 0, 1, 2))


@dataclass(frozen=True)
class _Compared:
    """A row under several scorers: what comes before the response once, then the response as each of them sees it."""

    row: RowTokens
    prompt: _Row | None
    versions: Mapping[str, _Row]
    note: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        draw = _marked if _is_plain(console) else _colored
        yield ruled(_headline(self.row, None), console, options)
        if self.note:
            yield Padding(Text(self.note, style="dim"), (0, 0, 0, 2))
        if self.prompt is not None and self.prompt.tokens.num_tokens:
            yield Padding(draw(self.prompt, options.ascii_only), (0, 0, 0, 2))
        for label, version in self.versions.items():
            top = int((version.tokens.group_ids == version.num_groups - 1).sum())
            counted = f"  {count_text(top)} {group_name(version.num_groups - 1, version.num_groups)}"
            yield Text.assemble((f"  {label}", "bold"), (counted, "dim"))
            yield Padding(draw(version, options.ascii_only), (0, 0, 0, 4))
        yield Text()


@dataclass(frozen=True)
class _Legend:
    """One line, and a blank one, that says what the colors, or the marks, mean."""

    color_by: ColorBy
    num_groups: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = _legend_entries(self.color_by, self.num_groups)
        if _is_plain(console):
            unmarked = [name for name, _, kind, _ in lines if kind == "plain"]
            marked = [line for line in lines if line[2] != "plain"]
            names = [_mark(name, kind, group, options.ascii_only) for name, _, kind, group in marked]
            yield Text("  ".join([*names, f"unmarked: {', '.join(unmarked)}"]))
        else:
            yield Text("  ").join(Text(f" {name} ", style=style) for name, style, _, _ in lines)
        yield Text()


def render_rows(
    rows: Sequence[Mapping[str, Any]],
    color_by: ColorBy = "group",
    *,
    num_groups: int | None = None,
    tokenizer: Any = None,
) -> Iterable[Any]:
    """Rich renderables: the legend, then every row under its id, source and counts.

    Args:
        rows: rows of a `TokenTable` or a data set, with the columns of `segments.NEEDED`.
        num_groups: default: as many as the rows show, at least 2.
        tokenizer: names tokens without characters (a BOS put in front); without it they show their id.

    Raises:
        UserError: a row has no scores, groups, text or offsets.
    """
    shown = [row_tokens(row) for row in rows]
    groups = num_groups or num_groups_of(shown)
    return [_Legend(color_by, groups), *(_Row(tokens, color_by, groups, tokenizer) for tokens in shown)]


def render_compared(
    versions: Mapping[str, Sequence[Mapping[str, Any]]],
    color_by: ColorBy = "group",
    *,
    num_groups: int,
    tokenizer: Any = None,
    max_characters: int | None = None,
    notes: Sequence[str] = (),
) -> Iterable[Any]:
    """Rich renderables: the legend, then every row with its response under one scorer after the other.

    Args:
        versions: scorer -> the rows, the same ones for every scorer.
        max_characters: show about as much of each response, and no prompt; None for all of the row.
        notes: a few words about each row, that stand below its heading.

    Raises:
        UserError: a row has no scores, groups, text or offsets.
    """
    yield _Legend(color_by, num_groups)
    for number, same_row in enumerate(zip(*versions.values(), strict=True)):
        rows = [row_tokens(row) for row in same_row]
        parts = [split_prompt(row) for row in rows]
        responses = [part if max_characters is None else shortened(part, max_characters) for _, part in parts]
        drawn = [_Row(part, color_by, num_groups, tokenizer) for part in responses]
        prompt = _Row(parts[0][0], color_by, num_groups, tokenizer) if max_characters is None else None
        yield _Compared(rows[0], prompt, dict(zip(versions, drawn, strict=True)), notes[number] if notes else "")


def ruled(headline: Text, console: Console, options: ConsoleOptions) -> Rule | Text:
    """A headline in a rule where it fits into one, which would cut it; else by itself, wrapped."""
    if headline.cell_len + 4 <= options.max_width and not _is_plain(console):
        return Rule(headline, align="left", style="dim")
    return Text("── ", style="dim") + headline


def _is_plain(console: Console) -> bool:
    return console.no_color or console.color_system is None


def _headline(row: RowTokens, num_groups: int | None) -> Text:
    """Id, source, counts; how many tokens are most important where one grouping of `num_groups` is shown."""
    parts = [
        visible(row.source),
        f"{count_text(row.num_tokens)} tokens",
        f"{count_text(row.num_supervised)} supervised",
    ]
    if num_groups is not None:
        top = int((row.group_ids == num_groups - 1).sum())
        parts.append(f"{count_text(top)} {group_name(num_groups - 1, num_groups)}")
    if row.loss_weight != 1.0:
        parts.append(f"row weight {row.loss_weight:g}")
    rest = " · ".join(part for part in parts if part)
    return Text.assemble((visible(row.row_id), "bold"), "  ", rest)


def _legend_entries(color_by: ColorBy, num_groups: int) -> list[tuple[str, str, str, int]]:
    """Name, style, kind of mark and group of every look that can occur, most important first."""
    prompt = ("not supervised", UNSUPERVISED_STYLE, "unsupervised", -1)
    if color_by == "score":
        names = ("lowest fifth of the row's scores", "low", "middle", "high", "highest fifth")
        levels = reversed(range(NUM_LEVELS))
        return [*((names[k], SCORE_STYLES[k], _kind("score", k, NUM_LEVELS), k) for k in levels), prompt]
    groups = reversed(range(num_groups))
    return [
        *((group_name(k, num_groups), group_style(k, num_groups), _kind("group", k, num_groups), k) for k in groups),
        prompt,
    ]


def group_style(group: int, num_groups: int) -> str:
    """The rich style of a group: nothing for the least important one, the strongest for the most important one."""
    if group < 0:
        return UNSUPERVISED_STYLE
    from_top = num_groups - 1 - group
    if from_top == 0:
        return TOP_STYLE
    return "" if group == 0 else BETWEEN_STYLES[(from_top - 1) % len(BETWEEN_STYLES)]


def _style(segment: Segment, row: _Row) -> str:
    if not segment.supervised:
        return UNSUPERVISED_STYLE
    return SCORE_STYLES[segment.level] if row.color_by == "score" else group_style(segment.group, row.num_groups)


def _kind(color_by: ColorBy, value: int, num_values: int) -> str:
    """Which mark stands for a group, or for a score level, where there are no colors."""
    if value == num_values - 1:
        return "top"
    return "between" if color_by == "group" and value > 0 else "plain"


def _shown_text(segment: Segment, row: _Row, ascii_only: bool) -> str:
    """What is drawn for a segment; a line break stays one behind its mark."""
    if not segment.text and segment.tokens:
        token_id = int(row.tokens.input_ids[segment.tokens[0]])
        return readable_token(row.tokenizer, token_id) if row.tokenizer is not None else f"(token {token_id})"
    text = visible(segment.text).replace(NEWLINE, NEWLINE + "\n") if "\n" in segment.text else visible(segment.text)
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


def _colored(row: _Row, ascii_only: bool) -> Text:
    text = Text()
    for segment in row_segments(row.tokens):
        blank, core = leading_blank(_shown_text(segment, row, ascii_only))
        text.append(blank).append(core, style=_style(segment, row))
    return text


def _marked(row: _Row, ascii_only: bool) -> Text:
    """Neighbors of one group share a pair of marks."""

    def look(segment: Segment) -> tuple[str, int]:
        if not segment.supervised:
            return "unsupervised", -1
        value, num_values = (segment.level, NUM_LEVELS) if row.color_by == "score" else (segment.group, row.num_groups)
        kind = _kind(row.color_by, value, num_values)
        return kind, value if kind == "between" else 0

    text = Text()
    for (kind, group), segments in groupby(row_segments(row.tokens), key=look):
        text.append(_mark("".join(_shown_text(s, row, ascii_only) for s in segments), kind, group, ascii_only))
    return text


def _mark(text: str, kind: str, group: int, ascii_only: bool) -> str:
    """The text between its marks; blanks at its ends stay outside."""
    core = text.strip()
    if kind == "plain" or not core:
        return text
    start = text.index(core)
    left, right = ASCII_MARKS[kind] if ascii_only else PLAIN_MARKS[kind]
    label = f"{group}:" if kind == "between" else ""
    return f"{text[:start]}{left}{label}{core}{right}{text[start + len(core) :]}"
