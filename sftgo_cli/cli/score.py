"""`sftgo score RECIPE`: tokenize, score and group under the cache; print a table about the groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftgo_cli.cli.output import Overrides, RecipePath, console, emit, quiet_libraries, reading_width, say
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    from sftgo_cli.recipe.load import LoadedRecipe

SHOWN_CHARACTERS = 240  # of each response where groupings are compared

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def score(
    recipe: RecipePath,
    overrides: Overrides = None,
    num_processes: Annotated[
        int | None,
        typer.Option(
            "-n", "--num-processes", min=1, help="Processes of a scorer that runs a model; default: one per accelerator"
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="SCORERS", help="Compare groupings instead: tfidf,random or 'tfidf, {name: rho1, ...}'"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Also write the finished columns here, for datasets.load_from_disk")
    ] = None,
) -> int:
    """Tokenize, score and group the training rows of RECIPE and show what the groups are."""
    from sftgo_cli import pipeline
    from sftgo_cli.data.stages import check_new_folder, save_columns
    from sftgo_cli.report.group_names import group_labels
    from sftgo_cli.report.score_table import score_statistics, score_table
    from sftgo_cli.report.token_kinds import KINDS, count_kinds, kind_rows, kinds_table, kinds_warning
    from sftgo_cli.scoring.group_stage import given_column

    if output is not None:
        check_new_folder(output)
    loaded = pipeline.load(recipe, overrides or [])
    quiet_libraries()
    if compare is not None:
        return _compare(loaded, compare, num_processes, output)
    data = pipeline.prepare(loaded, say, num_processes, console(stderr=True))
    out = console()
    pipeline.print_reports(loaded, data, out)
    summaries = score_statistics(data.train.datasets, data.tokenizer, data.num_groups)
    grouping = loaded.recipe.grouping
    labels = group_labels(grouping)
    out.print(score_table(summaries, grouping.cuts(), labels))
    kinds = count_kinds(data.train.datasets, data.num_groups)
    out.print(kinds_table(kind_rows(kinds, labels), "Kinds of tokens", "group"))
    warning = kinds_warning(kinds, labels) if given_column(grouping) is None else None
    if warning is not None:
        out.print(warning, style="bold yellow", highlight=False, markup=False)
    if output is not None:
        save_columns(data.train, output)
        say(f"wrote {data.train.num_rows} rows to {output}")
    emit(
        {
            "recipe": recipe,
            "num_rows": data.train.num_rows,
            "groups": summaries,
            "kinds": [dict(zip(KINDS, kinds.shares(group), strict=True)) for group in range(data.num_groups)],
            "kinds_of_all": dict(zip(KINDS, kinds.shares(), strict=True)),
            "warning": warning,
            "sources": data.reports,
            "output": output,
        }
    )
    return 0


def _compare(loaded: LoadedRecipe, scorers: str, num_processes: int | None, output: Path | None) -> int:
    from sftgo_cli.comparison import prepare_each, rows_of
    from sftgo_cli.report.agreement import agreement
    from sftgo_cli.report.agreement_table import agreement_table, overlap_notes
    from sftgo_cli.report.inspect_terminal import render_compared
    from sftgo_cli.report.token_kinds import ALL_TOKENS, count_kinds, kinds_table

    if output is not None:
        raise UserError("--output writes the columns of one scorer", "--output", "leave out --compare")
    views = prepare_each(loaded, scorers, say, num_processes, console(stderr=True))
    grouping = loaded.recipe.grouping
    datasets = {label: data.train.datasets for label, data in views.items()}
    found = agreement(datasets, grouping.num_groups(), grouping.special_tokens)
    kinds = {label: count_kinds(data.train.datasets, data.num_groups) for label, data in views.items()}
    most_important = [(label, counts.shares(-1)) for label, counts in kinds.items()]
    out = console()
    out.print(agreement_table(found))
    all_tokens = next(iter(kinds.values())).shares()
    rows = [*most_important, (ALL_TOKENS, all_tokens)]
    out.print(kinds_table(rows, "Kinds of the most important tokens", "scorer"))
    out.print("Where they agree least\n", style="bold")
    chosen = {label: rows_of(data.train, [row.row for row in found.least]) for label, data in views.items()}
    tokenizer = next(iter(views.values())).tokenizer
    parts = render_compared(
        chosen,
        num_groups=grouping.num_groups(),
        tokenizer=tokenizer,
        max_characters=SHOWN_CHARACTERS,
        notes=overlap_notes(found),
    )
    for part in parts:
        out.print(part, width=reading_width(out))
    emit(found)
    return 0
