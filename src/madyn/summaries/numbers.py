"""Numbers as people read them: a value with its interval, a time."""

from __future__ import annotations

import math


def band(median: float, lower: float, upper: float, known: float = float("inf")) -> str:
    """A value with its interval, to the digits that the interval's width bears out: 12.3 (10.1 to 14.9)."""
    if median != median:
        return "-"
    width = upper - lower
    if width > known:
        return "not determined"
    digits = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 3
    return f"{median:,.{digits}f} ({lower:,.{digits}f} to {upper:,.{digits}f})"


def duration(seconds: float | None) -> str:
    """Seconds for a reader: 8 s, 12 min, 3.5 h."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
