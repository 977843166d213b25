"""`sftgo train RECIPE`: run the missing data stages, then train; the same command resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli import heartbeat
from sftgo_cli.cli.output import Overrides, RecipePath, console, emit, quiet_libraries, say, wants_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def train(
    context: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    num_processes: Annotated[
        int | None,
        typer.Option("-n", "--num-processes", min=1, help="Processes, for scoring too; default: one per accelerator"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, estimate memory and steps, stop")
    ] = False,
) -> int:
    """Score, group and train as RECIPE says. Flags after `--` go to accelerate launch."""
    from sftgo_cli import pipeline
    from sftgo_cli.report.run_summaries import trained_run
    from sftgo_cli.training.imports import import_libraries
    from sftgo_cli.training.launch import inside_launcher

    loaded = pipeline.load(recipe, overrides or [])
    import_libraries()
    quiet_libraries()
    if dry_run:
        from sftgo_cli.cli.validate import print_checks

        return print_checks(loaded, num_processes or 1)
    arguments = ["train", str(recipe), *(overrides or [])]
    code = pipeline.train(
        loaded, num_processes, context.obj or [], arguments, say, console(progress=True), heartbeat.rest
    )
    if code == 0 and wants_json() and not inside_launcher():
        emit(trained_run(Path(loaded.recipe.training.output_dir).expanduser()))
    return code
