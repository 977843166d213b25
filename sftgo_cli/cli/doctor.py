"""`sftgo doctor [RECIPE]`: versions, devices, and what is missing for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import console

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def doctor(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="Also check what it needs")] = None,
) -> int:
    """Show versions and devices; with a recipe, what it needs and this machine lacks. Exit 3 when something is missing."""
    from rich.table import Table

    from sftgo_cli.cache import cache_root
    from sftgo_cli.training.environment import devices, missing_for, versions

    table = Table(title="sftgo doctor", title_justify="left", show_header=False)
    for name, version in versions().items():
        table.add_row(name, version or "not installed")
    for name, value in devices().items():
        table.add_row(name, ", ".join(value) or "none" if isinstance(value, list) else str(value))
    table.add_row("cache", str(cache_root()))
    out = console()
    out.print(table)
    if recipe is None:
        return 0
    from sftgo_cli import pipeline

    missing = missing_for(pipeline.load(recipe, []).recipe)
    for line in missing:
        out.print(f"missing: {line}", style="red", highlight=False, soft_wrap=True)
    if not missing:
        out.print(f"{recipe}: nothing is missing", style="green", highlight=False, soft_wrap=True)
    return 3 if missing else 0
