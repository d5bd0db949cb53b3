"""A long series in fewer points, which say where its basins are.

The grid of a search costs as much as a series has points, and what it is to find, the basins, does not need them all.
Points that lie within half a percent of each other in time are taken together, their weights summed and their values
averaged; points that are further apart than that, as the first ones of a run are, stay as they are. This is for the
built-in hypotheses alone: each is a function of time in units of its own parameters, and in its box none changes
noticeably over half a percent of it. What is found so is searched again on all points (see `varpro`), so that the
optimum is that of the series itself.
"""

from __future__ import annotations

import numpy as np

from madyn.curves.fitting.objective import Objective

LONG = 4096  # points: a series of no more is searched as it is
WIDTH = 1 / 200  # in the logarithm of time


def shortened(objective: Objective) -> Objective | None:
    """The objective of the same series with neighbouring points taken together; None where that is not worth it."""
    x = objective.x
    if x.size <= LONG or not objective.hypothesis.normalised:
        return None
    order = np.argsort(x, kind="stable")
    with np.errstate(divide="ignore"):
        bins = np.floor(np.log(x[order]) / WIDTH)  # -inf at step 0
    first = np.flatnonzero(np.concatenate([[True], bins[1:] != bins[:-1]]))
    if 2 * first.size > x.size:
        return None
    counts = np.diff(first, append=x.size)
    weights = np.square(objective.weight_roots[:, order])
    total = np.add.reduceat(weights, first, axis=1)
    values = np.add.reduceat(weights * objective.y[:, order], first, axis=1)
    values /= np.where(total > 0, total, 1.0)
    short = Objective(objective.hypothesis, np.add.reduceat(x[order], first) / counts, values, np.sqrt(total))
    short.start = objective.start
    return short
