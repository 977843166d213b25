"""`sftgo inspect RECIPE`: rows with their tokens colored by group or score, in the terminal or as one HTML page."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, emit, quiet_libraries, reading_width, say
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    from sftgo_cli.pipeline import PreparedData
    from sftgo_cli.recipe.load import LoadedRecipe

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
    compare: Annotated[
        str | None,
        typer.Option(metavar="SCORERS", help="Each row under several scorers, as in `sftgo score --compare`"),
    ] = None,
    why: Annotated[
        str | None, typer.Option(metavar="ROW:TOKEN", help="Say how a row's token (counted from 0) came into its group")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here instead")] = None,
) -> int:
    """Show rows of RECIPE as they will be trained, every token colored by its group."""
    from sftgo_cli import pipeline
    from sftgo_cli.row_choice import select_rows

    loaded = pipeline.load(recipe, overrides or [])
    quiet_libraries()
    if why is not None:
        if compare is not None or html is not None or row is not None:
            raise UserError("--why says something about one token", "--why", "leave out --compare, --html and --row")
        return _why(loaded, why, set_name)
    num_rows = rows or (5 if html is None else 40)
    if compare is not None:
        return _compare(loaded, compare, (set_name, start, num_rows, row), color_by, html)
    data = pipeline.prepare(loaded, say, console=console(stderr=True))
    chosen = select_rows(data, set_name, start, num_rows, row)
    provenance = {} if set_name is not None else _provenance(data.curated, chosen)
    if html is None:
        _print_rows(chosen, color_by, data, provenance)
    else:
        _write_page(loaded, chosen, color_by, data, provenance, html)
    return 0


def _print_rows(
    chosen: list[dict[str, Any]],
    color_by: ColorBy,
    data: PreparedData,
    provenance: dict[tuple[str, str], dict[str, Any]],
) -> None:
    from sftgo_cli.report.curation_table import side_by_side
    from sftgo_cli.report.inspect_terminal import render_rows

    out = console()
    legend, *parts = render_rows(chosen, color_by.value, num_groups=data.num_groups, tokenizer=data.tokenizer)
    width = reading_width(out)
    out.print(legend, width=width)
    for part, shown in zip(parts, chosen, strict=True):
        curated = provenance.get((shown["source"], shown["row_id"]))
        if curated is not None:
            out.print(side_by_side(curated), width=width)
        out.print(part, width=width)
    emit({"rows": chosen})


def _write_page(
    loaded: LoadedRecipe,
    chosen: list[dict[str, Any]],
    color_by: ColorBy,
    data: PreparedData,
    provenance: dict[tuple[str, str], dict[str, Any]],
    html: Path,
) -> None:
    from sftgo_cli import durable
    from sftgo_cli.report.curation_table import beside_target
    from sftgo_cli.report.group_names import grouping_text
    from sftgo_cli.report.inspect_html import render_html
    from sftgo_cli.report.score_table import score_statistics

    summaries = score_statistics(data.train.datasets, data.tokenizer, data.num_groups)
    method = f"scored by {loaded.recipe.scoring.name}, {grouping_text(loaded.recipe.grouping)}"
    beside = {key: beside_target(curated) for key, curated in provenance.items()}
    title = f"{loaded.path.name}: token groups"
    page = render_html(
        chosen, title, summaries, method, tokenizer=data.tokenizer, beside=beside, color_by=color_by.value
    )
    durable.write_text(html, page)
    say(f"wrote {len(chosen)} rows to {html}")
    emit({"num_rows": len(chosen), "page": html})


def _why(loaded: LoadedRecipe, asked: str, set_name: str | None) -> int:
    """One token's way into its group, a line each."""
    from rich.table import Table
    from rich.text import Text

    from sftgo_cli.explanation import explanation

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    lines = explanation(loaded, asked, set_name, say, console(stderr=True))
    for name, text in lines:
        grid.add_row(Text(name), Text(text))
    console().print(grid)
    emit({"lines": [{"name": name.strip(), "text": text} for name, text in lines]})
    return 0


def _provenance(curated: dict[str, Path], rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What is known of the rows' targets, by source and id; empty without a curation."""
    if not curated:
        return {}
    from sftgo_cli.curation.stage import PROVENANCE
    from sftgo_cli.report.curation_table import read_provenance

    wanted = {(row["source"], row["row_id"]) for row in rows}
    found = {}
    for label, folder in curated.items():
        for row in read_provenance(folder / PROVENANCE):
            if (label, row["row_id"]) in wanted:
                found[label, row["row_id"]] = row
    return found


def _compare(
    loaded: LoadedRecipe,
    scorers: str,
    selection: tuple[str | None, int, int, str | None],
    color_by: ColorBy,
    html: Path | None,
) -> int:
    """The rows of `selection` (set, start, number, id) under every scorer."""
    from sftgo_cli import durable
    from sftgo_cli.comparison import prepare_each
    from sftgo_cli.report.agreement import agreement
    from sftgo_cli.report.agreement_table import agreement_html
    from sftgo_cli.report.group_names import grouping_text
    from sftgo_cli.report.inspect_html import render_compared_html
    from sftgo_cli.report.inspect_terminal import render_compared
    from sftgo_cli.row_choice import select_rows

    views = prepare_each(loaded, scorers, say, console=console(stderr=True), set_name=selection[0])
    chosen = {label: select_rows(data, *selection) for label, data in views.items()}
    first = next(iter(views.values()))
    if html is None:
        out = console()
        for part in render_compared(chosen, color_by.value, num_groups=first.num_groups, tokenizer=first.tokenizer):
            out.print(part, width=reading_width(out))
        emit({"rows": chosen})
        return 0
    grouping = loaded.recipe.grouping
    shown = {label: data.evaluation[selection[0]] if selection[0] else data.train for label, data in views.items()}
    datasets = {label: shown_rows.datasets for label, shown_rows in shown.items()}
    summary = agreement_html(agreement(datasets, first.num_groups, grouping.special_tokens))
    page = render_compared_html(
        chosen,
        f"{loaded.path.name}: {', '.join(views)}",
        summary,
        grouping_text(grouping),
        num_groups=first.num_groups,
        tokenizer=first.tokenizer,
        color_by=color_by.value,
    )
    durable.write_text(html, page)
    say(f"wrote {len(next(iter(chosen.values())))} rows to {html}")
    emit({"num_rows": len(next(iter(chosen.values()))), "page": html})
    return 0
