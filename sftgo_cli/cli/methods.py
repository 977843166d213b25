"""`sftgo methods`: every scorer, objective, tuner and curation method with its options, defaults and source."""

from __future__ import annotations

from typing import Annotated

import typer

from sftgo_cli.cli.output import console

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def methods(
    section: Annotated[
        str | None, typer.Argument(help="scoring, objective, tuning, curation, judge or generator; default: all")
    ] = None,
) -> int:
    """List the methods a recipe can name."""
    from rich.table import Table
    from rich.text import Text

    from sftgo_cli import methods as tables
    from sftgo_cli.errors import UserError, nearest

    known = [name for name in tables.PACKAGES if tables.names(name)]
    if section is not None and section not in known:
        hint = nearest(section, known)
        raise UserError(
            f"there is no section {section!r}", "sftgo methods", f"did you mean {hint}?" if hint else str(known)
        )
    for kind in [section] if section else known:
        table = Table(title=kind, title_justify="left", title_style="bold", show_lines=True, expand=False)
        for column in ("name", "what it does", "options (default)"):
            table.add_column(column)
        for name in tables.names(kind):
            module = tables.module(kind, name)
            options = [
                f"{key}: {'(required)' if field.is_required() else repr(field.default)}"
                for key, field in module.Options.model_fields.items()
            ]
            described = Text(f"{tables.summary(kind, name)}\n") + Text(module.SOURCE, style="dim")
            table.add_row(Text(name, style="bold"), described, "\n".join(options) or "-")
        console().print(table)
    return 0
