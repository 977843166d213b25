"""`sftgo methods [SECTION|NAME]`: every scorer, objective, tuner and curation method; with their options and sources."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sftgo_cli.cli.output import console, emit, reading_width

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def complete_name(incomplete: str) -> list[str]:
    """Sections and methods that begin as typed, for shell completion."""
    from sftgo_cli import methods as tables

    known = [*tables.PACKAGES, *(name for kind in tables.PACKAGES for name in tables.names(kind))]
    return [name for name in dict.fromkeys(known) if name.startswith(incomplete)]


@app.command()
def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION|NAME]",
            help="scoring, objective, tuning, curation, judge or generator; or one method; default: all sections",
            autocompletion=complete_name,
        ),
    ] = None,
) -> int:
    """List the methods a recipe can name; of one section, or one method, with every option, default and meaning."""
    from sftgo_cli import methods as tables
    from sftgo_cli.errors import UserError, nearest
    from sftgo_cli.report.method_list import MethodEntry, method_entries, method_text, section_text

    entries = [entry for kind in tables.PACKAGES for entry in method_entries(kind, tables)]
    chosen = [entry for entry in entries if name in (None, entry.section, entry.name)]
    if not chosen:
        known = [*tables.PACKAGES, *(entry.name for entry in entries)]
        close = nearest(name or "", known)
        fix = f"did you mean {close}?" if close else f"sections: {', '.join(tables.PACKAGES)}"
        raise UserError(f"there is no section or method {name!r}", "sftgo methods", fix)
    out = console()
    width = reading_width(out) or out.width
    parts: dict[str, list[MethodEntry]] = {}
    for entry in chosen:
        parts.setdefault(entry.section, []).append(entry)
    for section, own in parts.items():
        if name is None:
            _print(out, section_text(section, own, width))
        for entry in own if name is not None else ():
            _print(out, method_text(entry, width))
    if name is None:
        _print(out, ["Options, defaults and meanings: sftgo methods SECTION, or sftgo methods NAME"])
    emit({"methods": chosen})
    return 0


def _print(out: Any, lines: list[Any]) -> None:
    for line in lines:
        out.print(line, soft_wrap=True)
    out.print()
