"""The agreement of groupings as a table, in the terminal and on a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from sftgo_cli.report.agreement import Agreement
from sftgo_cli.report.number_text import count_text, value_text

if TYPE_CHECKING:
    from rich.table import Table

TITLE = "Agreement between groupings"
EXPLANATION = (
    "Overlap: of the tokens that either scorer puts into the most important group, the share that both do; by chance: "
    "what random groups of the same sizes would give. Rank correlation: Spearman's, the mean over the samples "
    "that have one."
)
MAX_UNWRAPPED = 40  # characters of two names that stay on one line
COLUMNS = ("scorers", "overlap", "by chance", "rank correlation", "samples")


def _cells(found: Agreement) -> list[tuple[str, ...]]:
    return [
        (
            f"{pair.first} and {pair.second}",
            value_text(pair.overlap, 3),
            value_text(pair.chance, 3),
            value_text(pair.rank_correlation, 3),
            count_text(pair.num_correlated),
        )
        for pair in found.pairs
    ]


def scope_text(found: Agreement) -> str:
    """What was compared, in one line."""
    return f"{count_text(found.num_ranked)} ranked tokens of {count_text(found.num_rows)} samples"


def agreement_table(found: Agreement) -> Table:
    """The table for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{TITLE}: {scope_text(found)}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption=EXPLANATION,
        caption_justify="left",
        caption_style="dim",
    )
    longest = max((len(first) for first, *_ in _cells(found)), default=0)
    table.add_column(COLUMNS[0], no_wrap=longest <= MAX_UNWRAPPED)
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right")
    for first, *rest in _cells(found):
        table.add_row(Text(first), *rest)
    return table


def agreement_html(found: Agreement) -> str:
    """The table for the page of `inspect`."""
    head = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{name}</th>' for number, name in enumerate(COLUMNS)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f'<td class="number">{cell}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in _cells(found)
    )
    return (
        f'<div class="scroll"><table><caption>{TITLE}: {scope_text(found)}</caption><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="quiet">{EXPLANATION}</p>'
    )


def overlap_notes(found: Agreement) -> list[str]:
    """The overlap in each of the samples that agree least; with several pairs the mean first, then every pair's."""
    notes = []
    for row in found.least:
        each = ", ".join(
            f"{pair.first} and {pair.second} {value_text(overlap, 2)}"
            for pair, overlap in zip(found.pairs, row.overlaps, strict=True)
        )
        mean = f"mean overlap {value_text(row.overlap, 2)}: " if len(row.overlaps) > 1 else "overlap: "
        notes.append(mean + each)
    return notes
