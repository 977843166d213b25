"""`sftgo score RECIPE`: tokenize, score and group under the cache; print a table about the groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, quiet_libraries, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def score(
    recipe: RecipePath,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="Also write the finished columns here, for datasets.load_from_disk")
    ] = None,
) -> int:
    """Tokenize, score and group the training rows of RECIPE and show what the groups are."""
    from sftgo_cli import pipeline
    from sftgo_cli.data.stages import check_new_folder, save_columns
    from sftgo_cli.report.score_table import score_statistics, score_table

    if output is not None:
        check_new_folder(output)
    loaded = pipeline.load(recipe, overrides or [])
    quiet_libraries()
    data = pipeline.prepare(loaded, say)
    out = console()
    pipeline.print_reports(loaded, data, out)
    summaries = score_statistics(data.train.datasets, data.tokenizer, data.num_groups)
    out.print(score_table(summaries, loaded.recipe.grouping.cuts()))
    if output is not None:
        save_columns(data.train, output)
        say(f"wrote {data.train.num_rows} rows to {output}")
    return 0
