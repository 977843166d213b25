"""`sftgo eval RECIPE|RUN`: held-out loss overall and per group; table on stdout, JSON in the run's evaluation/ folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, console, print_json, quiet_libraries, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("eval")
def evaluate(
    target: Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, or a run's folder")],
    overrides: Overrides = None,
    base: Annotated[bool, typer.Option("--base", help="The base model, before training")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
) -> int:
    """Measure the evaluation sets: loss, perplexity, token accuracy, worst group and every group."""
    from sftgo_cli import model_use
    from sftgo_cli.report.run_tables import evaluation_table

    quiet_libraries()
    out = console(stderr=json_output)
    results = model_use.evaluate(target, overrides or [], base, say, out)
    if json_output:
        print_json(results)
    else:
        out.print(evaluation_table(results))
    return 0
