"""A table of many columns in blocks below each other, as many as the width asks for: no cell is ever cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table


@dataclass(frozen=True)
class ColumnBlocks:
    """A rich renderable: `build` gives the table of some of the columns (by their number, from 0) and whether it is the
    last block; every block begins with the `repeated` columns and holds as many of the others as fit. `build_narrow`
    takes its place where there must be several blocks."""

    build: Callable[[Sequence[int], bool], Table]
    num_columns: int
    repeated: int = 0
    build_narrow: Callable[[Sequence[int], bool], Table] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head, rest = list(range(self.repeated)), list(range(self.repeated, self.num_columns))
        build = self.build
        if self.build_narrow is not None and not _fits(build([*head, *rest], False), console, options):
            build = self.build_narrow
        while True:
            take = len(rest)
            while take > 1 and not _fits(build([*head, *rest[:take]], False), console, options):
                take -= 1
            shown, rest = rest[:take], rest[take:]
            yield build([*head, *shown], not rest)
            if not rest:
                return


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    """Whether the table's columns have room, title and caption aside, which are wrapped."""
    from rich.measure import Measurement

    table.title = table.caption = None
    return Measurement.get(console, options.update(max_width=100_000), table).maximum <= options.max_width
