"""`sftgo cache ls | why | rm`: what is cached, what a key is made of, and removing it."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from sftgo_cli.cli.output import console, print_json, say

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
Key = Annotated[str, typer.Argument(metavar="KEY", help="Beginning of a key, as `ls` prints it")]


@app.command()
def ls() -> int:
    """List the cached results."""
    from rich.table import Table

    from sftgo_cli.cache import cache_root, entries

    table = Table(title=str(cache_root()), title_justify="left")
    table.add_column("stage")
    table.add_column("key")
    table.add_column("MB", justify="right")
    for entry in entries():
        table.add_row(entry.stage, entry.key, f"{entry.num_bytes / 1e6:,.1f}")
    console().print(table)
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
    say(f"removed {len(chosen)} cached results, {sum(entry.num_bytes for entry in chosen) / 1e6:,.1f} MB")
    return 0
