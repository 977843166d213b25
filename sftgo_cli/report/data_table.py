"""The table about prepared data that is always printed, and the notes under it.

One column per source (one line per source when there are many): rows in, kept, dropped and why, tokens, supervised
tokens and their share, tokens cut, lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sftgo_cli.report.number_text import count_text, share_text

if TYPE_CHECKING:
    from rich.table import Table

    from sftgo_cli.data.preparation_report import PreparationReport

MAX_SIDE_BY_SIDE = 4  # more sources than this go below each other


def data_table(reports: Sequence[PreparationReport]) -> Table:
    """Counts of every source. Rows kept and rows dropped add up to rows in."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    reasons = list(dict.fromkeys(reason for report in reports for reason in report.dropped))
    columns = [_cells(report, reasons) for report in reports]
    names = [report.source for report in reports]
    labels = list(_cells(reports[0], reasons)) if reports else []
    table = Table(title="Data", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("source" if len(reports) > MAX_SIDE_BY_SIDE else "", no_wrap=True)
    flipped = len(reports) > MAX_SIDE_BY_SIDE
    for header in labels if flipped else names:
        table.add_column(Text(header.strip()), justify="right", no_wrap=not flipped)
    if flipped:
        for name, cells in zip(names, columns, strict=True):
            table.add_row(Text(name), *cells.values())
    else:
        for label in labels:
            table.add_row(label, *(cells[label] for cells in columns))
    return table


def _cells(report: PreparationReport, reasons: Sequence[str]) -> dict[str, str]:
    """Label -> text of one source, in the order they are shown."""
    num_dropped = sum(rows.num_rows for rows in report.dropped.values())
    per_reason = {
        f"  {reason_text(reason)}": count_text(report.dropped[reason].num_rows if reason in report.dropped else 0)
        for reason in reasons
    }
    return {
        "rows in": count_text(report.rows_in),
        "rows kept": count_text(report.rows_kept),
        "rows dropped": count_text(num_dropped),
        **per_reason,
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


def data_notes(reports: Sequence[PreparationReport], weights: Mapping[str, float] | None = None) -> list[str]:
    """Sentences under the table: columns ignored, rows dropped by name, parts not written, the realised mixture.

    Args:
        weights: the training sources by name with their `weight`; the mixture's sentence is about these only. None:
            every report counts once.
    """
    return [*_ignored(reports), *_dropped(reports), *_left_out(reports), *_mixture(reports, weights)]


def _ignored(reports: Sequence[PreparationReport]) -> list[str]:
    by_columns: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        if report.ignored_columns:
            by_columns.setdefault(tuple(report.ignored_columns), []).append(report.source)
    return [f"Ignored columns of {', '.join(names)}: {', '.join(columns)}." for columns, names in by_columns.items()]


def _dropped(reports: Sequence[PreparationReport]) -> list[str]:
    notes = []
    for report in reports:
        for reason, rows in report.dropped.items():
            end = ", ..." if rows.num_rows > len(rows.first_rows) else "."
            notes.append(
                f"Dropped from {report.source}, {reason_text(reason)} ({count_text(rows.num_rows)}): "
                f"{', '.join(rows.first_rows)}{end}"
            )
    return notes


def _left_out(reports: Sequence[PreparationReport]) -> list[str]:
    lost = [
        f"The chat template leaves out {kind}: {count_text(count.num_messages)} in {count_text(count.num_rows)} rows of "
        f"{report.source} ({', '.join(count.first_rows)}{', ...' if count.num_rows > len(count.first_rows) else ''})."
        for report in reports
        for kind, count in report.left_out.items()
    ]
    return lost + list(dict.fromkeys(note for report in reports for note in report.notes))


def _mixture(reports: Sequence[PreparationReport], weights: Mapping[str, float] | None) -> list[str]:
    chosen = [report for report in reports if weights is None or report.source in weights]
    if len(chosen) < 2:
        return []
    tokens = [report.supervised_tokens * (1.0 if weights is None else weights[report.source]) for report in chosen]
    shares = (f"{report.source} {share_text(part, sum(tokens))}" for report, part in zip(chosen, tokens, strict=True))
    return [f"Share of the supervised tokens{' per epoch' if weights else ''}: {', '.join(shares)}."]
