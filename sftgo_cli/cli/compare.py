"""`sftgo compare RUN RUN ...`: runs side by side, and in words what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import console, emit, reading_width

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders; the first is the reference")],
) -> int:
    """Put runs side by side: every evaluation set, overall and per group."""
    from sftgo_cli.errors import UserError
    from sftgo_cli.report.run_sentences import comparison_sentences
    from sftgo_cli.report.run_summaries import summarize_run
    from sftgo_cli.report.run_tables import comparison_table

    if len(runs) < 2:
        raise UserError("one run cannot be compared", "sftgo compare", "give two or more run folders")
    summaries = [summarize_run(run) for run in runs]
    out = console()
    out.print(comparison_table(summaries))
    sentences = comparison_sentences(summaries)
    for line in sentences:
        out.print(line, width=reading_width(out))
    emit({"runs": summaries, "sentences": sentences})
    return 0
