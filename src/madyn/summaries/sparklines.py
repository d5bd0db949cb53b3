"""Sparklines: a series of numbers as a word of a line, in blocks or, for terminals that have none, in ASCII."""

from __future__ import annotations

import numpy as np

BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
FAILED, NOT_FINITE = "x", "!"


def sparkline(values: np.ndarray, failed: np.ndarray, width: int, in_ascii: bool = False) -> str:
    """The course of a series, from its smallest to its largest value, on a logarithmic scale where all are positive.

    One mark a value where there is room, else one for a few neighbours, whose mean it shows.

    Args:
        values: shape (n,); one that is not finite shows as `!`, whatever its neighbours are.
        failed: shape (n,), whether there is no value since measuring failed: `x`, where nothing else is.
        width: of the line at most, in characters.

    >>> sparkline(np.array([1, 2, 4, np.nan, 8.0]), np.zeros(5, bool), 8, in_ascii=True)
    '_-+!#'
    """
    marks = LETTERS if in_ascii else BLOCKS
    if not values.size or width < 1:
        return ""
    finite = np.isfinite(values) & ~failed
    scaled = values
    if np.all(values[finite] > 0):
        with np.errstate(all="ignore"):
            scaled = np.log(values)
    least, most = (float(np.min(scaled[finite])), float(np.max(scaled[finite]))) if finite.any() else (0.0, 0.0)
    line = []
    for at in np.array_split(np.arange(values.size), min(width, values.size)):
        if np.any(~finite[at] & ~failed[at]):
            line.append(NOT_FINITE)
        elif not finite[at].any():
            line.append(FAILED)
        elif most <= least:
            line.append(marks[0])
        else:
            share = (float(np.mean(scaled[at][finite[at]])) - least) / (most - least)
            line.append(marks[min(len(marks) - 1, max(0, int(share * len(marks))))])
    return "".join(line)
