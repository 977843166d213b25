"""The cache's results as tables, one per stage, the newest first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sftgo_cli.cache import CacheEntry

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_DIGITS = 12  # of a key: as many as tell results apart


def cache_tables(entries: Sequence[CacheEntry]) -> list[Table]:
    """A table per stage: when a result was made, the beginning of its key, its size, and the recipe it was made for."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    tables = []
    for stage in dict.fromkeys(entry.stage for entry in entries):
        own = sorted((entry for entry in entries if entry.stage == stage), key=lambda entry: -entry.built)
        total = f"{stage}: {len(own):,} results, {sum(entry.num_bytes for entry in own) / 1e6:,.1f} MB"
        table = Table(title=Text(total), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        table.add_column("date", no_wrap=True)
        table.add_column("key", no_wrap=True)
        table.add_column("MB", justify="right", no_wrap=True)
        table.add_column("recipe", overflow="fold")
        for entry in own:
            made = datetime.fromtimestamp(entry.built).strftime("%Y-%m-%d %H:%M")
            size = f"{entry.num_bytes / 1e6:,.1f}"
            table.add_row(made, entry.key[:SHOWN_DIGITS], size, Text(short_path(entry.recipe) or "-", overflow="fold"))
        tables.append(table)
    return tables


def short_path(path: str) -> str:
    """Relative to the working directory where it lies below it, else with `~` for the home."""
    if not path:
        return ""
    relative = os.path.relpath(path)
    if not relative.startswith(".."):
        return relative
    home = str(Path.home())
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(f"{home}/") else path
