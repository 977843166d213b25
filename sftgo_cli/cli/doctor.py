"""`sftgo doctor [RECIPE]`: versions, devices, and what is missing for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, console, emit

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def doctor(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="Also check what it needs")] = None,
    overrides: Overrides = None,
) -> int:
    """Show versions and devices; with a recipe, what it needs and this machine lacks. Exit 3 when something is missing."""
    from rich.table import Table
    from rich.text import Text

    from sftgo_cli import pipeline
    from sftgo_cli.cache import cache_root

    loaded = None if recipe is None else pipeline.load(recipe, overrides or [])  # wrong input first: the rest is slow

    from sftgo_cli.training.environment import devices, missing_for, versions
    from sftgo_cli.training.preflight import check_training

    found = {**versions(), **devices()}
    table = Table(title="sftgo doctor", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {**found, "cache": cache_root()}.items():
        text = ", ".join(value) or "none" if isinstance(value, list) else str(value)
        table.add_row(name, Text("not installed" if value is None else text))
    out = console()
    out.print(table)
    missing = [] if loaded is None else missing_for(loaded.recipe)
    if loaded is not None and not missing:
        check_training(loaded.recipe, Path(loaded.recipe.training.output_dir).expanduser())
    for line in missing:
        out.print(f"missing: {line}", style="red", soft_wrap=True)
    if loaded is not None and not missing:
        out.print(f"{recipe}: nothing is missing", style="green", soft_wrap=True)
    emit({**found, "cache": cache_root(), "recipe": recipe, "missing": missing})
    return 3 if missing else 0
