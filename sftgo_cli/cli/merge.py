"""`sftgo merge RUN --output DIR`: merge a run's adapter into its base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import emit, quiet_libraries, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder")],
    output: Annotated[Path, typer.Option(help="New folder for the merged model")],
) -> int:
    """Write a plain model with the run's adapter merged in, for any tool."""
    from sftgo_cli import model_use

    quiet_libraries()
    model_use.merge(run, output)
    say(f"wrote the merged model to {output}")
    emit({"run": run, "output": output})
    return 0
