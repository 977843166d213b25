"""`sftgo train RECIPE`: run the missing data stages, then train; the same command resumes."""

from __future__ import annotations

from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, quiet_libraries, say

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
    from sftgo_cli.training.imports import import_libraries

    loaded = pipeline.load(recipe, overrides or [])
    import_libraries()
    quiet_libraries()
    if dry_run:
        from sftgo_cli.cli.validate import print_checks

        return print_checks(loaded, num_processes or 1)
    out = console()
    arguments = ["train", str(recipe), *(overrides or [])]
    return pipeline.train(loaded, num_processes, context.obj or [], arguments, say, out)
