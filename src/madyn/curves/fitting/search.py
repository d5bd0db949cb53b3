"""The global optimum of every series, by variable projection over a grid.

A grid over the box of the nonlinear parameters, its edges included, finds every basin of every series: with the linear
parameters projected out (`objective`), one matrix product a linear parameter serves all series at once. The basins are
then searched with Levenberg-Marquardt steps that stay in the box, all of them together: a few with the Gauss-Newton
matrix, after which those that cannot win are dropped, then with the Hessian, which does not creep along flat valleys.
The best of each series is brought to rounding by Newton steps. Nothing is drawn at random, nothing has to be started.

An optimum on an edge of the box is flagged: there the least sum of squares may not be attained by any parameters, as
where beta goes to 0 and the curve to an undamped logarithm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from madyn.curves.fitting.basins import CANDIDATES, FLOOR, NEAR, SAME, basins, mapped_basins
from madyn.curves.fitting.descent import descend, free_ways, newton, step_of, take
from madyn.curves.fitting.objective import Objective
from madyn.curves.fitting.shortening import shortened
from madyn.typing import Array, Mask, Rows

# Rounds of a search: with the Hessian or not, and how many steps. Where residuals are small the Gauss-Newton matrix is
# the better guide through a narrow valley, where they are large the Hessian.
ROUNDS = ((False, 4), (True, 5), (False, 12), (True, 12), (False, 30), (True, 30), (False, 100))
LAST_ROUNDS = ((True, 5), (False, 12), (True, 30))  # of a long series, on all of its points
USUAL = 37  # points
# How far from the best a shortened series' second best may be: of the least sum of squares, and of the box.
CLOSE = 1e-2
DROPPING = 2  # rounds after which searches are dropped
STAGES = 8  # of the way from one search to a better one
HOPE = 10.0  # times what Gauss and Newton expect is still to be gained: more is not hoped for
EDGE = 1e-6  # of the box: closer to a bound than this is on it


class Optima(NamedTuple):
    """The optimum of each of S series.

    Attributes:
        u: (S, q), search coordinates.
        linear: (S, k), coefficients of the basis.
        loss: (S,), the least F; infinite where the curve is not defined anywhere in the box.
        at_low, at_high: (S, q), whether the optimum lies on the lower or upper edge of the box.
    """

    u: Array
    linear: Array
    loss: Array
    at_low: Mask
    at_high: Mask


def search(objective: Objective) -> Optima:
    """The global minimum of the objective in its box, for every series."""
    short = shortened(objective)
    if short is None:
        return best_of(objective, *_searched(objective, FLOOR))
    # The floor is for a series of about the usual number of points; the sum of squares grows with them.
    u, owner = _searched(short, FLOOR * max(1.0, objective.x.size / USUAL))
    u, owner = _rivals(short, u, owner)
    for exact, steps in LAST_ROUNDS:
        u = descend(objective, u, owner, steps, exact)
    return best_of(objective, u, owner)


def _searched(objective: Objective, floor: float) -> tuple[Array, Rows]:
    """The ends of the searches from all basins, (P, q), and whose they are, (P,)."""
    u, owner = basins(objective, floor)
    mapped, whose = mapped_basins(objective, floor)
    u, owner = np.concatenate([u, mapped]), np.concatenate([owner, whose])
    for number, (exact, steps) in enumerate(ROUNDS):
        u = descend(objective, u, owner, steps, exact)
        if number < DROPPING:
            u, owner = _promising(objective, u, owner)
    return u, owner


def _rivals(short: Objective, u: Array, owner: Rows) -> tuple[Array, Rows]:
    """The ends of searches on a shortened series that may be the lowest on the series itself, one of each place."""
    loss = short.loss_at(u, owner)
    order = np.lexsort((loss, owner))
    u, owner, loss = u[order], owner[order], loss[order]
    first = np.searchsorted(owner, owner)
    power = np.einsum("pm,pm->p", short.target, short.target)[owner]
    keep = loss <= (1 + CLOSE) * loss[first] + CLOSE**2 * power
    low, high = short.hypothesis.search_box.T
    for back in range(1, CANDIDATES):
        near = np.all(np.abs(u[back:] - u[:-back]) < CLOSE * (high - low), axis=1)
        keep[back:] &= ~(near & keep[:-back] & (owner[back:] == owner[:-back]))
    return u[keep], owner[keep]


def _promising(objective: Objective, u: Array, owner: Rows) -> tuple[Array, Rows]:
    """The searches (P, q) that may still end lower than their series' best one.

    Dropped are those that cannot gain enough, and those from which it is downhill all the way to the best.
    """
    point = objective.at(u, owner)
    order = np.lexsort((point.loss, owner))
    u, owner, point = u[order], owner[order], take(point, order)
    first = np.searchsorted(owner, owner)  # the best of each search's series
    low, high = objective.hypothesis.search_box.T
    step = step_of(point, free_ways(u, point, low, high), np.zeros(len(u)), np.full(len(low), np.inf))
    gain = -np.einsum("pq,pq->p", step, 2 * point.slope + np.einsum("pij,pj->pi", point.normal, step))
    hopeless = point.loss - HOPE * np.maximum(gain, 0) > NEAR * point.loss[first]
    rest = np.flatnonzero((first != np.arange(len(u))) & ~hopeless)
    way, downhill, before = u[first[rest]] - u[rest], np.ones(len(rest), bool), point.loss[rest]
    for share in np.linspace(0, 1, STAGES + 1)[1:]:
        after = objective.project(objective.hypothesis.nonlinear_at(u[rest] + share * way), owner[rest])[-1]
        downhill &= after <= before * (1 + SAME)
        before = after
    keep = np.concatenate([np.unique(first), rest[~downhill]])
    return u[keep], owner[keep]


def best_of(objective: Objective, u: Array, owner: Rows) -> Optima:
    """The best of several ends of searches a series, brought to rounding."""
    loss = objective.loss_at(u, owner)
    order = np.lexsort((loss, owner))
    first = order[np.unique(owner[order], return_index=True)[1]]
    everyone = np.arange(len(objective.weight_roots))
    u = newton(objective, u[first], everyone)
    point = objective.at(u, everyone)
    low, high = objective.hypothesis.search_box.T
    margin = EDGE * (high - low)
    return Optima(u, point.linear, point.loss, u <= low + margin, u >= high - margin)
