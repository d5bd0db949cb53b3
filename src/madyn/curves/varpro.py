"""The engine: the global optimum of every series, by variable projection over a grid.

A grid over the box of the nonlinear parameters, its edges included, finds every basin of every series: with the linear
parameters projected out (`objective`), one matrix product a linear parameter serves all series at once. The basins are
then searched with Levenberg-Marquardt steps that stay in the box, all of them together, and the best of each series is
brought to rounding by Newton steps. Nothing is drawn at random and nothing has to be started.

An optimum on an edge of the box is flagged: there the least sum of squares may not be attained by any parameters, as
where beta goes to 0 and the curve to an undamped logarithm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from madyn.curves.objective import Objective, Point

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

CANDIDATES = 8  # basins searched in each series
NEAR, FLOOR = 1.2, 1e-3  # a basin is searched if it is at most this times the deepest, plus this of the signal
SAME = 1e-10  # grid values closer than this, relatively, are one basin's plateau
LONGEST = 0.25  # of the box, the longest step of a search
ANGLE = 1e-7  # a search ends where the residual is this close to orthogonal to every way to go
STEPS = 200
NEWTON_STEPS = 6
EDGE = 1e-6  # of the box: closer to a bound than this is on it
AT_ONCE = 2_000_000  # values of a grid held at the same time


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
    u, owner = _basins(objective)
    u, _ = _descend(objective, u, owner)
    return best_of(objective, u, owner)


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


def _basins(objective: Objective) -> tuple[Array, Rows]:
    """Where to search from, (P, q), and whose starts they are, (P,)."""
    model = objective.model
    axes = [np.linspace(low, high, m) for (low, high), m in zip(model.search_box, model.grid_points, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    starts, owners = [], []
    for series in _sharing_weights(objective.root):
        for part in np.array_split(series, max(1, len(series) * len(grid) // AT_ONCE)):
            loss = _loss_on_grid(objective, grid, part).reshape(len(part), *model.grid_points)
            whose, where = _minima(loss)
            starts.append(_between(axes, where))
            owners.append(part[whose])
    return np.concatenate(starts), np.concatenate(owners)


def _minima(loss: Array) -> tuple[Rows, Array]:
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
    return _distinct(np.concatenate(depth), np.concatenate(owner), np.concatenate(place))


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


def _distinct(depth: Array, owner: Rows, place: Array) -> tuple[Rows, Array]:
    """The deepest places of each owner, without those within a grid point of a deeper one and without plateaus."""
    order = np.lexsort((depth, owner))
    depth, owner, place = depth[order], owner[order], place[order]
    first = np.searchsorted(owner, np.unique(owner))
    best = np.repeat(depth[first], np.diff([*first, len(owner)]))
    keep = depth <= NEAR * np.maximum(best, 0) + np.where(best > 0, 0, FLOOR) + FLOOR
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


def _loss_on_grid(objective: Objective, grid: Array, series: Rows) -> Array:
    n, k = objective.target.shape[1], len(objective.model.linear)
    pieces = np.array_split(grid, max(1, len(grid) * n * k // (2 * AT_ONCE)))
    return np.concatenate([objective.on_grid(piece, series) for piece in pieces], axis=1)


def _sharing_weights(root: Array) -> list[Rows]:
    """The rows of each set of equal weights: a grid is projected once for all of them."""
    if np.all(root == root[:1]):
        return [np.arange(len(root))]
    _, which = np.unique(root, axis=0, return_inverse=True)
    return [np.flatnonzero(which == i) for i in range(which.max() + 1)]


def _descend(objective: Objective, u: Array, owner: Rows) -> tuple[Array, Array]:
    """Levenberg-Marquardt in the box from every u (P, q) at once; gives the ends and their losses."""
    low, high = objective.model.search_box.T
    u = u.copy()
    losses = np.full(len(u), np.inf)
    running = np.arange(len(u))
    point = objective.at(u, owner)
    losses[:] = point.loss
    damping, growth = np.full(len(u), 1e-3), np.full(len(u), 2.0)
    for _ in range(STEPS):
        free = ~(((u[running] <= low) & (point.slope > 0)) | ((u[running] >= high) & (point.slope < 0)))
        going = np.any(_cosines(point) * free > ANGLE, axis=1) & (damping[running] < 1e12) & np.isfinite(point.loss)
        running, point, free = running[going], _take(point, going), free[going]
        if not len(running):
            break
        step = _step(point, free, damping[running], LONGEST * (high - low))
        new = np.clip(u[running] + step, low, high)
        step = new - u[running]
        expected = -np.einsum("pq,pq->p", step, 2 * point.slope + np.einsum("pij,pj->pi", point.normal, step))
        trial = objective.at(new, owner[running])
        with np.errstate(all="ignore"):
            gain = (point.loss - trial.loss) / np.maximum(expected, 1e-300)
        better = (trial.loss < point.loss) & np.isfinite(trial.loss)
        stuck = ~better & (np.abs(expected) <= 1e-15 * point.loss)
        now = running[better]
        u[now], losses[now] = new[better], trial.loss[better]
        damping[now] *= np.maximum(1 / 3, 1 - (2 * np.clip(gain[better], 0, 1) - 1) ** 3)
        growth[now] = 2.0
        worse = running[~better]
        damping[worse] *= growth[worse]
        growth[worse] *= 2
        damping[running[stuck]] = np.inf
        point = Point(*(np.where(_like(better, old), after, old) for old, after in zip(point, trial, strict=True)))
    return u, losses


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
    h = 1e-4 * np.ones(len(low)) * np.where(objective.model.log_scale, 1.0, high - low)
    u = u.copy()
    running = series[np.isfinite(objective.at(u, series).loss)]
    point = objective.at(u[running], running)
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
        step, definite = _newton_step(hessian, point.slope)
        new = np.clip(u[running] + np.clip(step, -LONGEST * (high - low), LONGEST * (high - low)), low, high)
        trial = objective.at(new, running)
        closer = np.max(_cosines(trial), axis=1) < np.max(_cosines(point), axis=1)
        better = definite & closer & (trial.loss <= point.loss * (1 + 1e-9))
        u[running[better]] = new[better]
        running, point = running[better], _take(trial, better)
    return u


def _newton_step(hessian: Array, slope: Array) -> tuple[Array, NDArray[np.bool_]]:
    size = np.sqrt(np.abs(np.einsum("pii->pi", hessian)))
    size[size == 0] = 1.0
    scaled = hessian / (size[:, :, np.newaxis] * size[:, np.newaxis, :])
    definite = np.all(np.isfinite(scaled), axis=(1, 2))
    scaled[~definite] = np.eye(hessian.shape[-1])
    definite &= np.linalg.eigvalsh(scaled)[:, 0] > 1e-13
    scaled[~definite] = np.eye(hessian.shape[-1])
    return -np.linalg.solve(scaled, (slope / size)[..., np.newaxis])[..., 0] / size, definite


def _take(point: Point, rows: NDArray[np.bool_]) -> Point:
    return Point(*(part[rows] for part in point))


def _like(flags: NDArray[np.bool_], array: Array) -> NDArray[np.bool_]:
    return flags.reshape(-1, *(1,) * (array.ndim - 1))
