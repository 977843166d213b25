"""`sftgo cache ls | why | rm`: what is cached, what a key is made of, and removing it."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from sftgo_cli.cli.output import console, emit, print_json, say, wants_json

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
Key = Annotated[str, typer.Argument(metavar="KEY", help="Beginning of a key, as `ls` prints it")]


@app.command()
def ls() -> int:
    """List the cached results by stage, the newest first: date, size, and the recipe that asked for them last."""
    from rich.text import Text

    from sftgo_cli.cache import cache_root, entries
    from sftgo_cli.report.cache_list import cache_tables

    found = list(entries())
    out = console()
    out.print(Text(f"{cache_root()}: {len(found):,} results, {sum(e.num_bytes for e in found) / 1e6:,.1f} MB"))
    for table in cache_tables(found):
        out.print(table)
    emit({"root": cache_root(), "entries": found})
    return 0


@app.command()
def why(key: Key) -> int:
    """Print what a key is made of."""
    from sftgo_cli.cache import explain, find

    print_json(explain(find(key).path))
    return 0


@app.command()
def rm(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Beginning of a key")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every cached result")] = False,
) -> int:
    """Remove one cached result, or all of them."""
    from sftgo_cli.cache import entries, find
    from sftgo_cli.errors import UserError

    if (key is None) != everything:
        raise UserError("nothing was named", "sftgo cache rm", "give a key, or --all")
    chosen = list(entries()) if key is None else [find(key)]
    for entry in chosen:
        shutil.rmtree(entry.path)
    num_bytes = sum(entry.num_bytes for entry in chosen)
    if not wants_json():
        say(f"removed {len(chosen)} cached results, {num_bytes / 1e6:,.1f} MB")
    emit({"removed": [entry.key for entry in chosen], "num_bytes": num_bytes})
    return 0
