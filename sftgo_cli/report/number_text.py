"""Numbers as people read them: thousands separated, undefined ones as a dash, differences with their sign."""

from __future__ import annotations

import math

UNDEFINED = "–"


def count_text(count: int) -> str:
    """1234567 -> `1,234,567`."""
    return f"{count:,}"


def share_text(part: float, whole: float) -> str:
    """`part` of `whole` in percent with one decimal; a dash when there is no whole."""
    return f"{part / whole:.1%}" if whole else UNDEFINED


def value_text(value: float | None, decimals: int = 4) -> str:
    """A fixed number of decimals, or the shortest form where these would show nothing; None is a dash."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if value and (abs(value) >= 1e6 or abs(value) < 10**-decimals):
        return f"{value:.3g}"
    return f"{value:,.{decimals}f}"
