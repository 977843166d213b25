"""`sftgo eval RECIPE|RUN`: held-out loss overall and per group; table on stdout, JSON in the run's evaluation/ folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, console, emit, quiet_libraries, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("eval")
def evaluate(
    target: Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, or a run's folder")],
    overrides: Overrides = None,
    base: Annotated[bool, typer.Option("--base", help="The base model, before training")] = False,
) -> int:
    """Measure the evaluation sets: loss, perplexity, token accuracy, worst group and every group."""
    from sftgo_cli import model_use
    from sftgo_cli.report.run_tables import evaluation_table

    quiet_libraries()
    results = model_use.evaluate(target, overrides or [], base, say, console(stderr=True))
    console().print(evaluation_table(results))
    emit(results)
    return 0
