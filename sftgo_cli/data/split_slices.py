"""`split` of a source that is not the Hub's: a split's name and, in brackets, which of its rows.

`train[:10%]`, `train[100:200]`, `train[-50:]`, as `datasets` writes them: bounds are row numbers or percents (rounded to
the nearest row), negative ones count from the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sftgo_cli.errors import UserError

BOUND = r"(-?\d+)(%?)"
SLICE = re.compile(rf"^(?P<name>[^\[\]+]*)\[(?:{BOUND})?:(?:{BOUND})?\]$")


@dataclass(frozen=True)
class RowSlice:
    """Rows from `start` up to `stop`, each a number and whether it is in percent, None for the end."""

    start: tuple[int, bool] | None
    stop: tuple[int, bool] | None

    @property
    def needs_total(self) -> bool:
        """Whether the number of rows must be known before."""
        return any(bound is not None and (bound[1] or bound[0] < 0) for bound in (self.start, self.stop))

    def range(self, total: int) -> range:
        """The row numbers of `total` rows."""
        first = 0 if self.start is None else _row(self.start, total)
        last = total if self.stop is None else _row(self.stop, total)
        return range(first, max(first, last))


def _row(bound: tuple[int, bool], total: int) -> int:
    number, is_percent = bound
    row = round(total * number / 100) if is_percent else number
    return min(max(row + total if number < 0 else row, 0), total)


def split_name(split: str, where: str) -> tuple[str, RowSlice | None]:
    """The name and the slice of a `split`.

    Raises:
        UserError: it has brackets or a plus and is no slice that can be read here.
    """
    if not any(sign in split for sign in "[]+"):
        return split, None
    match = SLICE.match(split.replace(" ", ""))
    if match is None:
        raise UserError(f"split {split!r} cannot be read", where, "write it like train[:10%] or train[100:200]")
    start, start_percent, stop, stop_percent = match.groups()[1:]
    bounds = [(int(n), bool(p)) if n else None for n, p in ((start, start_percent), (stop, stop_percent))]
    if any(bound is not None and bound[1] and abs(bound[0]) > 100 for bound in bounds):
        raise UserError(f"split {split!r} has more than 100 %", where, "write it like train[:10%]")
    return match["name"] or "train", RowSlice(bounds[0], bounds[1])
