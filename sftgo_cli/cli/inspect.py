"""`sftgo inspect RECIPE`: rows with their tokens colored by group or score, in the terminal or as one HTML page."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, quiet_libraries, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class ColorBy(StrEnum):
    """What decides a token's color."""

    group = "group"
    score = "score"


@app.command()
def inspect(
    recipe: RecipePath,
    overrides: Overrides = None,
    rows: Annotated[
        int | None, typer.Option("-k", "--rows", min=1, help="How many rows; default: 5, or 40 with --html")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="Number of the first row")] = 0,
    row: Annotated[str | None, typer.Option(help="Show the row with this id")] = None,
    set_name: Annotated[
        str | None, typer.Option("--set", help="An evaluation set instead of the training rows")
    ] = None,
    color_by: Annotated[ColorBy, typer.Option(help="What decides a token's color")] = ColorBy.group,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here instead")] = None,
) -> int:
    """Show rows of RECIPE as they will be trained, every token colored by its group."""
    from sftgo_cli import pipeline

    loaded = pipeline.load(recipe, overrides or [])
    quiet_libraries()
    data = pipeline.prepare(loaded, say)
    chosen = pipeline.select_rows(data, set_name, start, rows or (5 if html is None else 40), row)
    if html is None:
        from sftgo_cli.report.inspect_terminal import render_rows

        out = console()
        parts = render_rows(chosen, color_by.value, num_groups=data.num_groups, tokenizer=data.tokenizer)
        for part in parts:
            out.print(part)
        return 0
    from sftgo_cli import durable
    from sftgo_cli.report.inspect_html import render_html
    from sftgo_cli.report.score_table import score_statistics

    summaries = score_statistics(data.train.datasets, data.tokenizer, data.num_groups)
    cuts = ", ".join(f"{cut:g}" for cut in loaded.recipe.grouping.cuts())
    method = f"scored by {loaded.recipe.scoring.name}, cut at {cuts} from the top"
    page = render_html(chosen, f"{recipe.name}: token groups", summaries, method, tokenizer=data.tokenizer)
    durable.write_text(html, page)
    say(f"wrote {len(chosen)} rows to {html}")
    return 0
