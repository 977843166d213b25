"""How far a scoring by a model is: a bar on a terminal, else a line every few seconds; with rate and remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sftgo_cli.scoring.context import ScoringContext

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown_progress(scorer: str, num_tokens: int, todo: int, context: ScoringContext) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told about every finished piece of so many tokens, and of 0 when a scorer was opened: what
    that takes says nothing about the rate.

    Args:
        num_tokens: of all rows; `todo` of them are still to be scored.
    """
    if context.console is None or not context.console.is_terminal or not todo:
        yield _lines(scorer, num_tokens, todo, context.say)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]scoring"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=context.console, speed_estimate_period=300.0) as bar:
        task = bar.add_task("score", total=num_tokens, completed=num_tokens - todo, note=f"of {num_tokens:,} tokens")
        start, done = time.monotonic(), 0

        def advance(tokens: int) -> None:
            nonlocal start, done
            done += tokens
            if not done:
                start = time.monotonic()
                return
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=tokens, note=f"of {num_tokens:,} tokens  {rate:,.0f} tokens/s")

        yield advance


def _lines(scorer: str, num_tokens: int, todo: int, say: Callable[[str], None]) -> Callable[[int], None]:
    """The rate is this run's, without what an earlier one had finished."""
    start = last = time.monotonic()
    done = 0

    def advance(tokens: int) -> None:
        nonlocal start, last, done
        done += tokens
        now = time.monotonic()
        if not done:
            start = last = now
        if now - last >= SECONDS_BETWEEN_LINES and done < todo:
            last = now
            rate = done / (now - start)
            say(
                f"scoring with {scorer}: {num_tokens - todo + done:,} of {num_tokens:,} tokens, {rate:,.0f} tokens/s, "
                f"{duration((todo - done) / rate)} left"
            )

    return advance


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `5 h 02 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
