"""The engine: the global optimum of every series, by variable projection over a grid.

A grid over the box of the nonlinear parameters, its edges included, finds every basin of every series: with the linear
parameters projected out (`objective`), one matrix product a linear parameter serves all series at once. The basins are
then searched with Levenberg-Marquardt steps that stay in the box, all of them together: a few with the Gauss-Newton
matrix, after which those that cannot win are dropped, then with the Hessian, which does not creep along flat valleys.
The best of each series is brought to rounding by Newton steps. Nothing is drawn at random, nothing has to be started.

An optimum on an edge of the box is flagged: there the least sum of squares may not be attained by any parameters, as
where beta goes to 0 and the curve to an undamped logarithm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from madyn.curves.fitting.objective import Objective, Point
from madyn.curves.fitting.shortening import shortened
from madyn.curves.grouping import alike
from madyn.curves.hypotheses.registry import HYPOTHESES

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

CANDIDATES = 16  # basins searched in each series
NEAR, FLOOR = 2.0, 5e-3  # a basin is searched if it is at most this times the deepest, plus this of the signal
SAME = 1e-10  # grid values closer than this, relatively, are one basin's plateau
LONGEST = 0.25  # of the box, the longest step of a search
ANGLE = 1e-7  # a search ends where the residual is this close to orthogonal to every way to go
# Rounds of a search: with the Hessian or not, and how many steps. Where residuals are small the Gauss-Newton matrix is
# the better guide through a narrow valley, where they are large the Hessian.
ROUNDS = ((False, 4), (True, 5), (False, 12), (True, 12), (False, 30), (True, 30), (False, 100))
LAST_ROUNDS = ((True, 5), (False, 12), (True, 30))  # of a long series, on all of its points
USUAL = 37  # points
CLOSE = (
    1e-2  # of the least sum of squares, and of the box: how far from the best a shortened series' second best may be
)
DROPPING = 2  # rounds after which searches are dropped
LEAST = 1e-10  # eigenvalue of a scaled Hessian
STAGES = 8  # of the way from one search to a better one
HOPE = 10.0  # times what Gauss and Newton expect is still to be gained: more is not hoped for
NEWTON_STEPS = 6
EDGE = 1e-6  # of the box: closer to a bound than this is on it
AT_ONCE = 400_000  # values of F on a grid held at the same time
PIECE, KEPT = 4_000_000, 8  # values of the basis on a piece of a grid, and how many pieces are kept for all series


class Found(NamedTuple):
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
    at_low: NDArray[np.bool_]
    at_high: NDArray[np.bool_]


def search(objective: Objective) -> Found:
    """The global minimum of the objective in its box, for every series."""
    short = shortened(objective)
    if short is None:
        return best_of(objective, *_searched(objective, FLOOR))
    # The floor is for a series of about the usual number of points; the sum of squares grows with them.
    u, owner = _searched(short, FLOOR * max(1.0, objective.x.size / USUAL))
    u, owner = _rivals(short, u, owner)
    for exact, steps in LAST_ROUNDS:
        u = _descend(objective, u, owner, steps, exact)
    return best_of(objective, u, owner)


def _searched(objective: Objective, floor: float) -> tuple[Array, Rows]:
    """The ends of the searches from all basins, (P, q), and whose they are, (P,)."""
    u, owner = _basins(objective, floor)
    mapped, whose = _mapped_basins(objective, floor)
    u, owner = np.concatenate([u, mapped]), np.concatenate([owner, whose])
    for number, (exact, steps) in enumerate(ROUNDS):
        u = _descend(objective, u, owner, steps, exact)
        if number < DROPPING:
            u, owner = _promising(objective, u, owner)
    return u, owner


def _rivals(short: Objective, u: Array, owner: Rows) -> tuple[Array, Rows]:
    """The ends of searches on a shortened series that may be the lowest on the series itself, one of each place."""
    loss = short.at(u, owner).loss
    order = np.lexsort((loss, owner))
    u, owner, loss = u[order], owner[order], loss[order]
    first = np.searchsorted(owner, owner)
    power = np.einsum("pm,pm->p", short.target, short.target)[owner]
    keep = loss <= (1 + CLOSE) * loss[first] + CLOSE**2 * power
    low, high = short.model.search_box.T
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
    u, owner, point = u[order], owner[order], _take(point, order)
    first = np.searchsorted(owner, owner)  # the best of each search's series
    low, high = objective.model.search_box.T
    step = _step(point, _free(u, point, low, high), np.zeros(len(u)), np.full(len(low), np.inf))
    gain = -np.einsum("pq,pq->p", step, 2 * point.slope + np.einsum("pij,pj->pi", point.normal, step))
    hopeless = point.loss - HOPE * np.maximum(gain, 0) > NEAR * point.loss[first]
    rest = np.flatnonzero((first != np.arange(len(u))) & ~hopeless)
    way, downhill, before = u[first[rest]] - u[rest], np.ones(len(rest), bool), point.loss[rest]
    for share in np.linspace(0, 1, STAGES + 1)[1:]:
        after = objective.project(objective.model.nonlinear_at(u[rest] + share * way), owner[rest])[-1]
        downhill &= after <= before * (1 + SAME)
        before = after
    keep = np.concatenate([np.unique(first), rest[~downhill]])
    return u[keep], owner[keep]


def best_of(objective: Objective, u: Array, owner: Rows) -> Found:
    """The best of several ends of searches a series, brought to rounding."""
    loss = objective.at(u, owner).loss
    order = np.lexsort((loss, owner))
    first = order[np.unique(owner[order], return_index=True)[1]]
    everyone = np.arange(len(objective.root))
    u = _newton(objective, u[first], everyone)
    point = objective.at(u, everyone)
    low, high = objective.model.search_box.T
    margin = EDGE * (high - low)
    return Found(u, point.linear, point.loss, u <= low + margin, u >= high - margin)


def _basins(objective: Objective, floor: float) -> tuple[Array, Rows]:
    """Where to search from, (P, q), and whose starts they are, (P,)."""
    model = objective.model
    axes, turn = model.start_grid
    low, high = model.search_box.T
    grid = np.clip(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)) @ turn.T, low, high)
    starts, owners = [], []
    for series in _sharing_weights(objective.root):
        for part, loss in _losses(objective, grid, series):
            whose, where = _minima(loss.reshape(len(part), *model.grid_points), floor)
            starts.append(np.clip(_between(axes, where) @ turn.T, low, high))
            owners.append(part[whose])
    return np.concatenate(starts), np.concatenate(owners)


def _mapped_basins(objective: Objective, floor: float) -> tuple[Array, Rows]:
    """The basins of the curve without the penalty and in other parameters, where there is one, as starts."""
    model = objective.model
    if model.starts_from is None or model.mapped is None:
        return np.empty((0, model.num_nonlinear)), np.empty(0, np.intp)
    other = Objective(HYPOTHESES[model.starts_from], objective.x, objective.y, objective.root)
    u, owner = _basins(other, floor)
    theta = other.model.nonlinear_at(u)
    coefficients = other.project(theta, owner)[2]
    linear = np.einsum("pij,pj->pi", HYPOTHESES[model.starts_from].combine_matrix(theta), coefficients)
    mapped, _ = model.mapped(np.concatenate([theta, linear], axis=1))
    with np.errstate(all="ignore"):
        starts = np.clip(np.log(mapped[:, : model.num_nonlinear]), *model.search_box.T)
    exists = np.all(np.isfinite(starts), axis=1)
    return starts[exists], owner[exists]


def _minima(loss: Array, floor: float) -> tuple[Rows, Array]:
    """The basins of grids (S, m1, ..., mq): whose they are, (P,), and where, (P, q) in grid points and parts of them.

    A valley is narrower than the grid is fine in one direction where the noise is small, and then a grid hides how low
    it is along the other. So each axis in turn is minimised over, with a parabola through the three points about the
    minimum, and the local minima of what is left are taken.
    """
    depth, owner, place = [], [], []
    everyone = np.arange(len(loss))
    for axis in range(1, loss.ndim):
        low, at = _along(loss, axis)
        if low.ndim == 1:
            whose, rest = everyone, np.empty((len(loss), 0))
            where = np.zeros(len(loss), np.intp)
            flat, at = low[:, np.newaxis], at[:, np.newaxis]
        else:
            size = (1, *(3,) * (low.ndim - 1))
            flat, at = low.reshape(len(low), -1), at.reshape(len(low), -1)
            minimal = (low <= minimum_filter(low, size=size, mode="nearest")).reshape(flat.shape) & np.isfinite(flat)
            whose, where = np.nonzero(minimal)
            rest = np.stack(np.unravel_index(where, low.shape[1:]), axis=-1).astype(float)
        depth.append(flat[whose, where])
        owner.append(whose)
        place.append(np.insert(rest, axis - 1, at[whose, where], axis=1))
    return _distinct(np.concatenate(depth), np.concatenate(owner), np.concatenate(place), floor)


def _along(loss: Array, axis: int) -> tuple[Array, Array]:
    """(minimum along an axis by the parabola about the least point, its place in grid points)."""
    m = loss.shape[axis]
    at = np.argmin(loss, axis=axis)
    middle = np.clip(at, 1, m - 2)
    before, here, after = (
        np.take_along_axis(loss, np.expand_dims(middle + shift, axis), axis).squeeze(axis) for shift in (-1, 0, 1)
    )
    with np.errstate(all="ignore"):
        bend = before - 2 * here + after
        shift = np.where((bend > 0) & (at == middle), (before - after) / (2 * bend), 0.0)
        low = here - (before - after) ** 2 / (8 * bend)
    inside = np.isfinite(low) & (at == middle) & (bend > 0)
    least = np.take_along_axis(loss, np.expand_dims(at, axis), axis).squeeze(axis)
    return np.where(inside, low, least), at + np.where(inside, shift, 0.0)


def _distinct(depth: Array, owner: Rows, place: Array, floor: float) -> tuple[Rows, Array]:
    """The deepest places of each owner, without those within a grid point of a deeper one and without plateaus."""
    order = np.lexsort((depth, owner))
    depth, owner, place = depth[order], owner[order], place[order]
    first = np.searchsorted(owner, np.unique(owner))
    best = np.repeat(depth[first], np.diff([*first, len(owner)]))
    keep = depth <= NEAR * np.maximum(best, 0) + np.where(best > 0, 0, floor) + floor
    depth, owner, place = depth[keep], owner[keep], place[keep]
    new = np.ones(len(owner), bool)
    for back in range(1, CANDIDATES):
        same = owner[back:] == owner[:-back]
        close = np.all(np.abs(place[back:] - place[:-back]) < 1.5, axis=1)
        level = np.abs(depth[back:] - depth[:-back]) <= SAME * np.abs(depth[:-back])
        new[back:] &= ~(same & (close | level))
    owner, place = owner[new], place[new]
    first = np.searchsorted(owner, np.unique(owner))
    rank = np.arange(len(owner)) - np.repeat(first, np.diff([*first, len(owner)]))
    return owner[rank < CANDIDATES], place[rank < CANDIDATES]


def _between(axes: list[Array], place: Array) -> Array:
    return np.stack([np.interp(p, np.arange(len(axis)), axis) for p, axis in zip(place.T, axes, strict=True)], axis=-1)


def _losses(objective: Objective, grid: Array, series: Rows) -> Iterator[tuple[Rows, Array]]:
    """(some of the series, their F on the grid) for series of equal weights."""
    size = len(grid) * objective.target.shape[1] * len(objective.model.linear)
    pieces = np.array_split(grid, max(1, size // PIECE))
    projections = (objective.projection(piece, series[0]) for piece in pieces)
    kept = list(projections) if len(pieces) <= KEPT else None
    for part in np.array_split(series, max(1, len(series) * len(grid) // AT_ONCE)):
        each = kept or (objective.projection(piece, series[0]) for piece in pieces)
        losses = [objective.on_grid(projection, part) for projection in each]
        yield part, losses[0] if len(losses) == 1 else np.concatenate(losses, axis=1)


def _sharing_weights(root: Array) -> list[Rows]:
    """The rows of each set of equal weights: a grid is projected once for all of them."""
    return alike(root)


def _descend(objective: Objective, u: Array, owner: Rows, steps: int, exact: bool) -> Array:
    """Levenberg-Marquardt in the box from every u (P, q) at once; gives the ends.

    Args:
        steps: the most that are taken.
        exact: the Hessian is damped, where it is positive definite, and not the Gauss-Newton matrix.
    """
    low, high = objective.model.search_box.T
    u = u.copy()
    running = np.arange(len(u))
    point = objective.at(u, owner)
    damping, growth = np.full(len(u), 1e-3), np.full(len(u), 2.0)
    curvature = _curvature(objective, u, owner, point) if exact else point.normal
    for _ in range(steps):
        free = _free(u[running], point, low, high)
        going = np.any(_cosines(point) * free > ANGLE, axis=1) & (damping[running] < 1e12) & np.isfinite(point.loss)
        running, point, free, curvature = running[going], _take(point, going), free[going], curvature[going]
        if not len(running):
            break
        model = point._replace(normal=curvature)
        step = _step(model, free, damping[running], LONGEST * (high - low))
        new = np.clip(u[running] + step, low, high)
        step = new - u[running]
        expected = -np.einsum("pq,pq->p", step, 2 * point.slope + np.einsum("pij,pj->pi", curvature, step))
        trial = objective.at(new, owner[running])
        with np.errstate(all="ignore"):
            gain = (point.loss - trial.loss) / np.maximum(expected, 1e-300)
        better = (trial.loss < point.loss) & np.isfinite(trial.loss)
        stuck = ~better & (np.abs(expected) <= 1e-15 * point.loss)
        now = running[better]
        u[now] = new[better]
        damping[now] *= np.maximum(1 / 3 if not exact else 1 / 10, 1 - (2 * np.clip(gain[better], 0, 1) - 1) ** 3)
        growth[now] = 2.0
        worse = running[~better]
        damping[worse] *= growth[worse]
        growth[worse] *= 2
        damping[running[stuck]] = np.inf
        point = Point(*(np.where(_like(better, old), after, old) for old, after in zip(point, trial, strict=True)))
        curvature = curvature.copy()
        moved = _take(point, better)
        curvature[better] = _curvature(objective, u[now], owner[now], moved) if exact else moved.normal
    return u


def _free(u: Array, point: Point, low: Array, high: Array) -> NDArray[np.bool_]:
    """(P, q), whether a way downhill leads into the box."""
    return ~(((u <= low) & (point.slope > 0)) | ((u >= high) & (point.slope < 0)))


def _curvature(objective: Objective, u: Array, owner: Rows, point: Point) -> Array:
    """Half the Hessian of F, (P, q, q), by differences of the exact gradient, its eigenvalues made positive.

    In units in which the Gauss-Newton matrix has a diagonal of 1; a search then leaves a saddle along the ways that
    lead down from it (Dauphin et al. 2014).
    """
    high = objective.model.search_box[:, 1]
    columns = []
    for j, h in enumerate(_width(objective)):
        step = np.zeros(u.shape)
        step[:, j] = np.where(u[:, j] + h <= high[j], h, -h)
        columns.append((objective.at(u + step, owner).slope - point.slope) / step[:, j : j + 1])
    hessian = np.stack(columns, axis=-1)
    size = np.sqrt(np.einsum("pii->pi", point.normal))
    with np.errstate(all="ignore"):
        unit = 1 / (size[:, :, np.newaxis] * size[:, np.newaxis, :])
        scaled = (hessian + np.swapaxes(hessian, -1, -2)) / 2 * unit
        good = np.all(np.isfinite(scaled), axis=(1, 2))
        values, ways = np.linalg.eigh(np.where(_like(good, scaled), scaled, np.eye(u.shape[1])))
        positive = np.einsum("pik,pk,pjk->pij", ways, np.maximum(np.abs(values), LEAST), ways) / unit
    return np.where(_like(good, positive), positive, point.normal)


def _width(objective: Objective) -> Array:
    """(q,), the steps of differences in search coordinates."""
    low, high = objective.model.search_box.T
    return 1e-4 * np.where(objective.model.log_scale, 1.0, high - low)


def _definite(hessian: Array) -> NDArray[np.bool_]:
    """(P,), whether symmetric matrices are positive definite beyond rounding, whatever the parameters' units."""
    size = np.sqrt(np.abs(np.einsum("pii->pi", hessian)))
    with np.errstate(all="ignore"):
        scaled = hessian / (size[:, :, np.newaxis] * size[:, np.newaxis, :])
    definite = np.all(np.isfinite(scaled), axis=(1, 2))
    scaled[~definite] = np.eye(hessian.shape[-1])
    return definite & (np.linalg.eigvalsh(scaled)[:, 0] > 1e-13)


def _cosines(point: Point) -> Array:
    """Cosine of the angle between the residual and each direction in which a parameter moves the curve, (P, q)."""
    size = np.sqrt(np.einsum("pii->pi", point.normal) * point.loss[:, np.newaxis])
    with np.errstate(all="ignore"):
        return np.where(size > 0, np.abs(point.slope) / size, 0.0)


def _step(point: Point, free: NDArray[np.bool_], damping: Array, longest: Array) -> Array:
    q = free.shape[1]
    diagonal = np.einsum("pii->pi", point.normal)
    matrix = point.normal + np.einsum("pi,ij->pij", damping[:, np.newaxis] * diagonal + 1e-300, np.eye(q))
    matrix = np.where(free[:, :, np.newaxis] & free[:, np.newaxis, :], matrix, np.eye(q))
    slope = np.where(free, point.slope, 0.0)
    size = np.sqrt(np.einsum("pii->pi", matrix))
    scaled = matrix / (size[:, :, np.newaxis] * size[:, np.newaxis, :]) + 1e-14 * np.eye(q)
    step = -np.linalg.solve(scaled, (slope / size)[..., np.newaxis])[..., 0] / size
    step = np.where(np.isfinite(step), step, 0.0)
    return step / np.maximum(1.0, np.max(np.abs(step) / longest, axis=1))[:, np.newaxis]


def _newton(objective: Objective, u: Array, series: Rows) -> Array:
    """Newton steps on the exact gradient, by which a minimum is known to rounding and not to the root of it."""
    low, high = objective.model.search_box.T
    h = _width(objective)
    u = u.copy()
    point = objective.at(u, series)
    finite = np.isfinite(point.loss)
    running, point = series[finite], _take(point, finite)
    for _ in range(NEWTON_STEPS):
        inside = np.all((u[running] > low + h) & (u[running] < high - h), axis=1)
        running, point = running[inside], _take(point, inside)
        if not len(running):
            break
        hessian = np.stack(
            [(objective.at(u[running] + step, running).slope - objective.at(u[running] - step, running).slope)
             for step in np.diag(h)], axis=-1,
        ) / (2 * h)  # fmt: skip
        hessian = (hessian + np.swapaxes(hessian, -1, -2)) / 2
        definite = _definite(hessian)
        hessian[~definite] = np.eye(len(h))
        step = _step(point._replace(normal=hessian), np.ones(definite.shape + h.shape, bool), np.zeros(len(running)),
                     LONGEST * (high - low))  # fmt: skip
        new = np.clip(u[running] + step, low, high)
        trial = objective.at(new, running)
        closer = np.max(_cosines(trial), axis=1) < np.max(_cosines(point), axis=1)
        better = definite & closer & (trial.loss <= point.loss * (1 + 1e-9))
        u[running[better]] = new[better]
        running, point = running[better], _take(trial, better)
    return u


def _take(point: Point, rows: NDArray[np.bool_] | Rows) -> Point:
    return Point(*(part[rows] for part in point))


def _like(flags: NDArray[np.bool_], array: Array) -> NDArray[np.bool_]:
    return flags.reshape(-1, *(1,) * (array.ndim - 1))
