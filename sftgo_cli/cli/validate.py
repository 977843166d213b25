"""`sftgo validate RECIPE`: check recipe, data and tokenizer, all errors at once; trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, emit, quiet_libraries, reading_width, say

if TYPE_CHECKING:
    from sftgo_cli.recipe.load import LoadedRecipe

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def validate(recipe: RecipePath, overrides: Overrides = None) -> int:
    """Check RECIPE, its data and its tokenizer; really tokenizes, trains nothing."""
    from sftgo_cli import pipeline

    loaded = pipeline.load(recipe, overrides or [])
    quiet_libraries()
    return print_checks(loaded, num_processes=1)


def print_checks(loaded: LoadedRecipe, num_processes: int) -> int:
    """Tokenize and score under the cache, then print the data table and the step and memory estimate.

    A curation that was not run before is checked only: it may take hours.
    """
    from sftgo_cli import pipeline
    from sftgo_cli.training.preflight import check_start

    check_start(loaded, alone=True, say=say)
    out = console(progress=True)
    data = pipeline.prepare(loaded, say, generating=False)
    pipeline.print_reports(loaded, data, out)
    estimate = pipeline.estimate(loaded, data, num_processes, say)
    for line in estimate:
        out.print(line, width=reading_width(out))
    out.print(f"{loaded.path}: valid", style="green", soft_wrap=True)
    sets = {name: rows.num_rows for name, rows in data.evaluation.items()}
    result = {"recipe": loaded.path, "valid": True, "num_rows": data.train.num_rows, "evaluation_rows": sets}
    emit({**result, "sources": data.reports, "estimate": estimate})
    return 0
