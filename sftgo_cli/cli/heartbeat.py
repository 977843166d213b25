"""A line where nothing else is said for a while, so that a person sees that something works, and on what.

The first one comes 1.5 s after the start, when the libraries are still being loaded; then after 5 s of silence, and ever
more rarely while the same thing goes on. Whatever is printed resets it (`heard`).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_SECONDS = 1.5
SILENT_SECONDS = 5.0
GROWTH = 2.0
LONGEST_SECONDS = 120.0
OTHER = "working"


class Heartbeat:
    """What was said last and when; `tick` gives the line that is due."""

    def __init__(self, activity: str, now: float) -> None:
        self.activity = activity
        self.since = self.heard_at = now
        self.wait = FIRST_SECONDS

    def heard(self, line: str | None, now: float) -> None:
        """Something was shown; `line` names a new activity if it begins with one (`scoring 2 rows`), else it is a fact."""
        self.heard_at = now
        if line is not None and line.split(" ", 1)[0].endswith("ing"):
            self.activity, self.since, self.wait = line, now, SILENT_SECONDS
        elif self.activity != OTHER:  # a table or a bar: whatever was going on before has ended, or shows itself
            self.activity, self.since = OTHER, now
        self.wait = max(self.wait, SILENT_SECONDS)

    def tick(self, now: float) -> str | None:
        """The line that is due now, if any."""
        if now - self.heard_at < self.wait:
            return None
        first = self.wait == FIRST_SECONDS
        self.heard_at = now
        self.wait = SILENT_SECONDS if first else min(self.wait * GROWTH, LONGEST_SECONDS)
        return f"{self.activity} ..." if first else f"still {self.activity} ({now - self.since:.0f} s)"


_current: Heartbeat | None = None


def heard(line: str | None = None) -> None:
    """Something was shown; `line` if it says what is done now."""
    if _current is not None:
        _current.heard(line, time.monotonic())


def rest() -> None:
    """No lines from here on: other processes say what they do."""
    if _current is not None:
        _current.wait = _current.heard_at = float("inf")


@contextmanager
def beating(activity: str, silent: bool) -> Iterator[None]:
    """Lines on stderr while the block works in silence; `activity` is what it begins with."""
    global _current
    if silent:
        yield
        return
    mine = _current = Heartbeat(activity, time.monotonic())
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            line = mine.tick(time.monotonic())
            if line is not None:
                print(line, file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(1.0)
        _current = None
