"""From starts to optima: Levenberg and Marquardt's steps in a box, all searches together, and Newton's at the end.

With the Gauss-Newton matrix a search finds its way through a narrow valley where residuals are small; with the Hessian
it does not creep along flat ones.
"""

from __future__ import annotations

import numpy as np

from madyn.curves.fitting.objective import Objective, Point
from madyn.typing import Array, Mask, Rows

LONGEST = 0.25  # of the box, the longest step of a search
ANGLE = 1e-7  # a search ends where the residual is this close to orthogonal to every way to go
LEAST = 1e-10  # eigenvalue of a scaled Hessian
NEWTON_STEPS = 6


def descend(objective: Objective, u: Array, owner: Rows, steps: int, exact: bool) -> Array:
    """Levenberg-Marquardt in the box from every u (P, q) at once; gives the ends.

    Args:
        steps: the most that are taken.
        exact: the Hessian is damped, where it is positive definite, and not the Gauss-Newton matrix.
    """
    low, high = objective.hypothesis.search_box.T
    u = u.copy()
    running = np.arange(len(u))
    point = objective.at(u, owner)
    damping, growth = np.full(len(u), 1e-3), np.full(len(u), 2.0)
    curvature = _curvature(objective, u, owner, point) if exact else point.normal
    for _ in range(steps):
        free = free_ways(u[running], point, low, high)
        going = np.any(_cosines(point) * free > ANGLE, axis=1) & (damping[running] < 1e12) & np.isfinite(point.loss)
        running, point, free, curvature = running[going], take(point, going), free[going], curvature[going]
        if not len(running):
            break
        model = point._replace(normal=curvature)
        step = step_of(model, free, damping[running], LONGEST * (high - low))
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
        moved = take(point, better)
        curvature[better] = _curvature(objective, u[now], owner[now], moved) if exact else moved.normal
    return u


def free_ways(u: Array, point: Point, low: Array, high: Array) -> Mask:
    """(P, q), whether a way downhill leads into the box."""
    return ~(((u <= low) & (point.slope > 0)) | ((u >= high) & (point.slope < 0)))


def _curvature(objective: Objective, u: Array, owner: Rows, point: Point) -> Array:
    """Half the Hessian of F, (P, q, q), by differences of the exact gradient, its eigenvalues made positive.

    In units in which the Gauss-Newton matrix has a diagonal of 1; a search then leaves a saddle along the ways that
    lead down from it (Dauphin et al. 2014).
    """
    high = objective.hypothesis.search_box[:, 1]
    columns = []
    for j, h in enumerate(_width(objective)):
        step = np.zeros(u.shape)
        step[:, j] = np.where(u[:, j] + h <= high[j], h, -h)
        columns.append((objective.slope_at(u + step, owner) - point.slope) / step[:, j : j + 1])
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
    low, high = objective.hypothesis.search_box.T
    return 1e-4 * np.where(objective.hypothesis.log_scale, 1.0, high - low)


def _definite(hessian: Array) -> Mask:
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


def step_of(point: Point, free: Mask, damping: Array, longest: Array) -> Array:
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


def newton(objective: Objective, u: Array, series: Rows) -> Array:
    """Newton steps on the exact gradient, by which a minimum is known to rounding and not to the root of it."""
    low, high = objective.hypothesis.search_box.T
    h = _width(objective)
    u = u.copy()
    point = objective.at(u, series)
    finite = np.isfinite(point.loss)
    running, point = series[finite], take(point, finite)
    for _ in range(NEWTON_STEPS):
        inside = np.all((u[running] > low + h) & (u[running] < high - h), axis=1)
        running, point = running[inside], take(point, inside)
        if not len(running):
            break
        hessian = np.stack(
            [(objective.slope_at(u[running] + step, running) - objective.slope_at(u[running] - step, running))
             for step in np.diag(h)], axis=-1,
        ) / (2 * h)  # fmt: skip
        hessian = (hessian + np.swapaxes(hessian, -1, -2)) / 2
        definite = _definite(hessian)
        hessian[~definite] = np.eye(len(h))
        step = step_of(point._replace(normal=hessian), np.ones(definite.shape + h.shape, bool), np.zeros(len(running)),
                     LONGEST * (high - low))  # fmt: skip
        new = np.clip(u[running] + step, low, high)
        trial = objective.at(new, running)
        closer = np.max(_cosines(trial), axis=1) < np.max(_cosines(point), axis=1)
        better = definite & closer & (trial.loss <= point.loss * (1 + 1e-9))
        u[running[better]] = new[better]
        running, point = running[better], take(trial, better)
    return u


def take(point: Point, rows: Mask | Rows) -> Point:
    return Point(*(part[rows] for part in point))


def _like(flags: Mask, array: Array) -> Mask:
    return flags.reshape(-1, *(1,) * (array.ndim - 1))
