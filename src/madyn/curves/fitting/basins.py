"""Where the searches start: every basin of the sum of squares over the box, found on a grid.

With the linear parameters projected out (`objective`), one matrix product a linear parameter gives all series' sums of
squares on the grid at once, the edges of the box included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from madyn.curves.fitting.objective import Objective
from madyn.curves.grouping import alike
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.typing import Array, Rows

CANDIDATES = 16  # basins searched in each series
NEAR, FLOOR = 2.0, 5e-3  # a basin is searched if it is at most this times the deepest, plus this of the signal
SAME = 1e-10  # grid values closer than this, relatively, are one basin's plateau
AT_ONCE = 400_000  # values of F on a grid held at the same time
PIECE, KEPT = 4_000_000, 8  # values of the basis on a piece of a grid, and how many pieces are kept for all series


def basins(objective: Objective, floor: float) -> tuple[Array, Rows]:
    """Where to search from, (P, q), and whose starts they are, (P,)."""
    hypothesis = objective.hypothesis
    axes, turn = hypothesis.start_grid
    low, high = hypothesis.search_box.T
    grid = np.clip(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)) @ turn.T, low, high)
    starts, owners = [], []
    for series in alike(objective.weight_roots):  # a grid is projected once for all series of equal weights
        for part, loss in _losses(objective, grid, series):
            whose, where = _minima(loss.reshape(len(part), *hypothesis.grid_points), floor)
            starts.append(np.clip(_between(axes, where) @ turn.T, low, high))
            owners.append(part[whose])
    return np.concatenate(starts), np.concatenate(owners)


def mapped_basins(objective: Objective, floor: float) -> tuple[Array, Rows]:
    """The basins of the curve without the penalty and in other parameters, where there is one, as starts."""
    hypothesis = objective.hypothesis
    if hypothesis.starts_from is None or hypothesis.mapped is None:
        return np.empty((0, hypothesis.num_nonlinear)), np.empty(0, np.intp)
    other = Objective(HYPOTHESES[hypothesis.starts_from], objective.x, objective.y, objective.weight_roots)
    u, owner = basins(other, floor)
    theta = other.hypothesis.nonlinear_at(u)
    coefficients = other.project(theta, owner)[2]
    linear = np.einsum("pij,pj->pi", HYPOTHESES[hypothesis.starts_from].combine_matrix(theta), coefficients)
    mapped, _ = hypothesis.mapped(np.concatenate([theta, linear], axis=1))
    with np.errstate(all="ignore"):
        starts = np.clip(np.log(mapped[:, : hypothesis.num_nonlinear]), *hypothesis.search_box.T)
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
            flat, at = low.reshape(len(low), -1), at.reshape(len(low), -1)
            minimal = (low <= _lowest_around(low)).reshape(flat.shape) & np.isfinite(flat)
            whose, where = np.nonzero(minimal)
            rest = np.stack(np.unravel_index(where, low.shape[1:]), axis=-1).astype(float)
        depth.append(flat[whose, where])
        owner.append(whose)
        place.append(np.insert(rest, axis - 1, at[whose, where], axis=1))
    return _distinct(np.concatenate(depth), np.concatenate(owner), np.concatenate(place), floor)


def _lowest_around(low: Array) -> Array:
    """The least of each point of grids (S, m1, ..., mr) and its neighbours, those across a corner among them."""
    lowest = low
    for axis in range(1, low.ndim):
        before, after = (tuple(part if i == axis else slice(None) for i in range(low.ndim)) for part in _SHIFTED)
        around = lowest.copy()
        np.minimum(around[after], lowest[before], out=around[after])
        np.minimum(around[before], lowest[after], out=around[before])
        lowest = around
    return lowest


_SHIFTED = slice(None, -1), slice(1, None)


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
    size = len(grid) * objective.target.shape[1] * len(objective.hypothesis.linear)
    pieces = np.array_split(grid, max(1, size // PIECE))
    projections = (objective.projection(piece, series[0]) for piece in pieces)
    kept = list(projections) if len(pieces) <= KEPT else None
    for part in np.array_split(series, max(1, len(series) * len(grid) // AT_ONCE)):
        each = kept or (objective.projection(piece, series[0]) for piece in pieces)
        losses = [objective.on_grid(projection, part) for projection in each]
        yield part, losses[0] if len(losses) == 1 else np.concatenate(losses, axis=1)
