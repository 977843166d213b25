"""`sftgo curate RECIPE`: run the curation of the training rows; print where their targets come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, emit, quiet_libraries, reading_width, say
from sftgo_cli.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def curate(
    recipe: RecipePath,
    overrides: Overrides = None,
    num_processes: Annotated[
        int | None,
        typer.Option("-n", "--num-processes", min=1, help="Processes that generate; default: one per accelerator"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Also write the curated rows here, for datasets.load_from_disk")
    ] = None,
) -> int:
    """Choose what each training row of RECIPE is trained on; show the shares and an example of each kind."""
    from sftgo_cli import pipeline
    from sftgo_cli.curation.saving import notes, save_curated
    from sftgo_cli.curation.stage import PROVENANCE
    from sftgo_cli.data.stages import check_new_folder
    from sftgo_cli.report.curation_table import examples, read_provenance, rejection_lines, shares_table

    if output is not None:
        check_new_folder(output)
    loaded = pipeline.load(recipe, overrides or [])
    if not loaded.recipe.curation:
        raise UserError(
            "the recipe has no curation", str(recipe), "add one, for example curation: [{name: s3ft, judge: numeric}]"
        )
    quiet_libraries()
    data = pipeline.tokenize(loaded, say, num_processes, console(stderr=True))
    out = console()
    width = reading_width(out)
    counted: dict[str, dict[str, int]] = {}
    for label, folder in data.curated.items():
        rows = read_provenance(folder / PROVENANCE)
        counted[label] = dict(Counter(str(row["target_source"]) for row in rows))
        out.print(shares_table(label, rows))
        for line in [*notes(folder), *rejection_lines(rows)]:
            out.print(line, width=width)
        out.print()
        for part in examples(rows):
            out.print(part, width=width)
    if output is not None:
        num_rows = save_curated(data.curated, output)
        say(f"wrote {num_rows:,} rows to {output}")
    emit({"recipe": recipe, "targets": counted, "folders": data.curated, "output": output})
    return 0
