"""A grid that refines itself where a density has its mass, for many densities at once.

The cells of a coarse grid are split where mass is or may be, until none holds much of it. The middle of a cell that is
wider than a ridge misses it; how much higher the density may be elsewhere in the cell is told by how much it differs
among the cells beside it. For a ridge of the normal form, whose logarithm falls off as -D^2/2w^2, half that difference
is enough to have the cells within two half widths of it split, and no others. Ridges and several peaks are found alike.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from madyn.typing import Array

SPLIT = 48  # cells split in a round
LARGEST = 1 / 80  # a cell that may hold more of the mass than this is split
ROUNDS = 40


def grid(box: Array, coarse: int) -> Array:
    """The middles of a grid of cells over a box (q, 2), as many along each axis: (coarse^q, q)."""
    edges = [np.linspace(low, high, coarse + 1) for low, high in box]
    return np.stack(np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij"), axis=-1).reshape(-1, len(box))


def refined(
    log_density: Callable[[Array, NDArray[np.intp]], Array], box: Array, coarse: int, count: int
) -> tuple[Array, Array, Array]:
    """Cells that hold the mass of `count` densities over one box.

    Args:
        log_density: `log_density(u (S, N, q), which (S,))` -> (S, N), of the densities `which`; -inf where there is
            none. The first u is one grid for all of them, (1, N, q).
        box: (q, 2).
        coarse: cells along each axis of the first grid.
        count: of densities.

    Returns:
        (middle (count, N, q), half width (count, N, q), log density (count, N)); where a density has fewer than N
        cells, the rest have none of it.
    """
    q, first = len(box), grid(box, coarse)
    going = np.arange(count)
    u = np.broadcast_to(first, (count, *first.shape))
    half = np.broadcast_to(np.ptp(box, axis=1) / (2 * coarse), u.shape)
    log_f = log_density(first[np.newaxis], going)
    rise = _between_neighbours(log_f.reshape(count, *(coarse,) * q)).reshape(count, -1)
    done: list[tuple[NDArray[np.intp], Array, Array, Array]] = []
    signs = np.array(list(product((-1, 1), repeat=q)))
    for step in range(ROUNDS + 1):
        mass = log_f + np.sum(np.log(half), axis=2)
        top = np.max(mass, axis=1, keepdims=True)
        possible = mass + rise - top - np.log(np.sum(np.exp(mass - top), axis=1, keepdims=True))
        open_ = (np.max(possible, axis=1) > np.log(LARGEST)) & (step < ROUNDS)
        done.append((going[~open_], u[~open_], half[~open_], log_f[~open_]))
        going = going[open_]
        if not going.size:
            break
        u, half, log_f, rise, possible = (array[open_] for array in (u, half, log_f, rise, possible))
        worst = np.argpartition(-possible, SPLIT - 1, axis=1)[:, :SPLIT]
        rows = np.arange(len(going))[:, np.newaxis]
        smaller = half[rows, worst] / 2
        children = u[rows, worst][:, :, np.newaxis] + signs * smaller[:, :, np.newaxis]
        below = log_density(children.reshape(len(going), -1, q), going).reshape(children.shape[:-1])
        parts = (
            (u, children),
            (half, np.broadcast_to(smaller[:, :, np.newaxis], children.shape)),
            (log_f, below),
            (rise, np.broadcast_to(_spread(below)[..., np.newaxis], below.shape)),
        )
        u, half, log_f, rise = (_with_children(old, new, rows, worst) for old, new in parts)
    return _in_order(done, count)


def _between_neighbours(log_f: Array) -> Array:
    """Half the difference to the next cells of a grid (S, m, ..., m), over the axes together."""
    rise = np.zeros(log_f.shape)
    with np.errstate(invalid="ignore"):
        for axis in range(1, log_f.ndim):
            step = np.nan_to_num(np.abs(np.diff(log_f, axis=axis)), nan=0.0, posinf=0.0)
            pad = [(0, 0)] * log_f.ndim
            before, after = list(pad), list(pad)
            before[axis], after[axis] = (1, 0), (0, 1)
            rise += 0.5 * np.maximum(np.pad(step, before), np.pad(step, after))
    return rise


def _spread(log_f: Array) -> Array:
    """Half the difference among the cells that were one (..., children)."""
    finite = np.isfinite(log_f)
    high = np.max(log_f, axis=-1, where=finite, initial=-np.inf)
    low = np.min(log_f, axis=-1, where=finite, initial=np.inf)
    return np.where(high > low, (high - low) / 2, 0.0)


def _with_children(old: Array, new: Array, rows: NDArray[np.intp], split: NDArray[np.intp]) -> Array:
    """Cells (S, N, ...) with those split replaced by their first child, and the other children appended."""
    old = old.copy()
    old[rows, split] = new[:, :, 0]
    return np.concatenate([old, new[:, :, 1:].reshape(len(old), -1, *old.shape[2:])], axis=1)


def _in_order(done: list[tuple[NDArray[np.intp], Array, Array, Array]], count: int) -> tuple[Array, Array, Array]:
    """What was finished round by round, in the order of the densities."""
    width = max(part[3].shape[1] for part in done if len(part[0]))
    q = done[0][1].shape[-1]
    u, half, log_f = np.zeros((count, width, q)), np.ones((count, width, q)), np.full((count, width), -np.inf)
    for rows, *arrays in done:
        for full, array in zip((u, half, log_f), arrays, strict=True):
            full[rows, : array.shape[1]] = array
    return u, half, log_f
