"""How far a long step is: a bar on a terminal, else a line every few seconds; with rate and remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SECONDS_BETWEEN_LINES = 10.0
WIDE = 110  # columns that the bar takes with every word

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Work:
    """What is done (`scoring`), with what (`tfidf`), in which unit (`tokens`), how much of it in all and still to do."""

    verb: str
    method: str
    unit: str
    total: int
    todo: int


@contextmanager
def shown_progress(work: Work, say: Callable[[str], None], console: Any) -> Iterator[Advance]:
    """Gives a function that is told about every finished piece in units, and of 0 when the work has really begun: what
    comes before that (a model that is loaded) says nothing about the rate.

    Args:
        console: a rich console, or None.
    """
    if console is None or not console.is_terminal or not work.todo:
        yield _lines(work, say)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    wide = console.width >= WIDE
    columns = (
        TextColumn(f"[bold]{work.verb}"),
        BarColumn(bar_width=20 if wide else 6),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    of_all = f"of {work.total:,} {work.unit}"
    with Progress(*columns, console=console, speed_estimate_period=300.0) as bar:
        task = bar.add_task(work.verb, total=work.total, completed=work.total - work.todo, note=of_all)
        start, done = time.monotonic(), 0

        def advance(units: int) -> None:
            nonlocal start, done
            done += units
            if not done:
                start = time.monotonic()
                return
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=units, note=f"{of_all}  {_rate(rate)}{f' {work.unit}' if wide else ''}/s")

        yield advance


def _lines(work: Work, say: Callable[[str], None]) -> Advance:
    """The rate is this run's, without what an earlier one had finished."""
    start = last = time.monotonic()
    done = 0

    def advance(units: int) -> None:
        nonlocal start, last, done
        done += units
        now = time.monotonic()
        if not done:
            start = last = now
        if now - last >= SECONDS_BETWEEN_LINES and done < work.todo:
            last = now
            rate = done / (now - start)
            finished = work.total - work.todo + done
            say(
                f"{work.verb} with {work.method}: {finished:,} of {work.total:,} {work.unit}, "
                f"{_rate(rate)} {work.unit}/s, {duration((work.todo - done) / rate)} left"
            )

    return advance


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `5 h 02 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
