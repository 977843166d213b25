"""The table about prepared data that is always printed.

One column per source, or one line per source when there are many and the width allows; else as many sources beside each
other as fit, in blocks. Rows in, kept, dropped and why, tokens, supervised tokens and their share, tokens cut, lengths,
and of evaluation sets how many rows are trained on too. No number is ever cut. `data_notes.py` has what stands under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sftgo_cli.report.number_text import UNDEFINED, count_text, share_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from sftgo_cli.data.holdout import Leakage
    from sftgo_cli.data.preparation_report import PreparationReport

UNLIMITED = 100_000  # a width that no table has
MAX_SIDE_BY_SIDE = 4  # more sources than this go below each other

Column = tuple[str, dict[str, str]]  # a source's name; label -> text, in the order they are shown


@dataclass(frozen=True)
class DataTable:
    """The table as something that rich prints at any width."""

    columns: tuple[Column, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rest, title = self.columns, "Data"
        if len(rest) > MAX_SIDE_BY_SIDE:
            table = _below(rest)
            if _width(table, console, options) <= options.max_width:
                yield table
                return
        while True:
            number = min(len(rest), MAX_SIDE_BY_SIDE)
            while number > 1 and _width(_beside(rest[:number], title), console, options) > options.max_width:
                number -= 1
            yield _beside(rest[:number], title)
            rest, title = rest[number:], ""
            if not rest:
                return


def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
    """The width at which nothing of a table is wrapped or cut."""
    return console.measure(table, options=options.update(max_width=UNLIMITED)).maximum


def data_table(reports: Sequence[PreparationReport], leaks: Mapping[str, Leakage] | None = None) -> DataTable:
    """Counts of every source. Rows kept and rows dropped add up to rows in.

    Args:
        leaks: by evaluation set, how much of it is trained on.
    """
    reasons = list(dict.fromkeys(reason for report in reports for reason in report.dropped))
    leaks = {name: leak for name, leak in (leaks or {}).items() if any(report.source == name for report in reports)}
    return DataTable(tuple((report.source, _cells(report, reasons, leaks)) for report in reports))


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")


def _beside(columns: Sequence[Column], title: str) -> Table:
    from rich.text import Text

    table = _table(title)
    table.add_column("", no_wrap=True)
    for name, _ in columns:
        table.add_column(Text(name), justify="right", overflow="fold")
    for label in columns[0][1] if columns else ():
        table.add_row(label, *(cells[label] for _, cells in columns))
    return table


def _below(columns: Sequence[Column]) -> Table:
    from rich.text import Text

    table = _table("Data")
    table.add_column("source", no_wrap=True)
    for label in columns[0][1]:
        table.add_column(Text(label.strip().replace(" ", "\n")), justify="right", no_wrap=True)
    for name, cells in columns:
        table.add_row(Text(name), *cells.values())
    return table


def _cells(report: PreparationReport, reasons: Sequence[str], leaks: Mapping[str, Leakage]) -> dict[str, str]:
    """Label -> text of one source, in the order they are shown."""
    num_dropped = sum(rows.num_rows for rows in report.dropped.values())
    per_reason = {
        f"  {reason_text(reason)}": count_text(report.dropped[reason].num_rows if reason in report.dropped else 0)
        for reason in reasons
    }
    leak = leaks.get(report.source)
    trained_on = {
        "also trained on": count_text(leak.same_row) if leak else UNDEFINED,
        "  prompt trained on": count_text(leak.same_prompt) if leak else UNDEFINED,
    }
    return {
        "rows in": count_text(report.rows_in),
        "rows kept": count_text(report.rows_kept),
        "rows dropped": count_text(num_dropped),
        **per_reason,
        **(trained_on if leaks else {}),
        "rows cut": count_text(report.rows_truncated),
        "tokens": count_text(report.tokens),
        "supervised tokens": count_text(report.supervised_tokens),
        "  share of tokens": share_text(report.supervised_tokens, report.tokens),
        "tokens cut": count_text(report.tokens_cut),
        "  supervised": count_text(report.supervised_cut),
        "length min": count_text(report.length_min),
        "length p50": f"{report.length_p50:,.0f}",
        "length p95": f"{report.length_p95:,.0f}",
        "length max": count_text(report.length_max),
    }


def reason_text(reason: str) -> str:
    """`empty_answer` -> `empty answer`."""
    return reason.replace("_", " ")
