"""Curves of reparam through drawn courses: what a peak and a plateau are read off, where no curve was fitted.

A population knows no formula. So that a peak and a plateau mean what they mean everywhere else in madyn, each drawn
course (what was seen, and one way in which it may go on) gets the curve that draws it best of a small grid of the box;
the linear parameters are those of least squares.
"""

from __future__ import annotations

import itertools

import numpy as np

from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.typing import Array

CURVE = HYPOTHESES["reparam"]
_AS_GOOD = 1e-7  # of a course's sum of squares: of curves that draw it alike, not rounding chooses but the order
_POINTS = 8  # of the grid, along each nonlinear parameter


def curves_through(x: Array, y: Array) -> Array:
    """The parameters (N, p) of reparam's curves through courses y (N, m) at x (m,), shares of the run."""
    box = CURVE.search_box
    axes = [low + (high - low) * (np.arange(_POINTS) + 0.5) / _POINTS for low, high in box]
    cells = CURVE.nonlinear_at(np.array(list(itertools.product(*axes))))
    total = np.einsum("nm,nm->n", y, y)
    best, found = np.full(len(y), np.inf), np.zeros((len(y), CURVE.num_params))
    for theta in cells:
        columns = CURVE.columns(x, theta)
        if not np.all(np.isfinite(columns)) or np.linalg.matrix_rank(columns) < columns.shape[1]:
            continue
        basis, triangle = np.linalg.qr(columns)
        inside = y @ basis
        left = total - np.einsum("nk,nk->n", inside, inside)
        better = left < best - _AS_GOOD * total
        if not np.any(better):
            continue
        coefficients = np.linalg.solve(triangle, inside[better].T).T
        linear = coefficients @ CURVE.combine_matrix(theta).T
        found[better] = np.concatenate([np.broadcast_to(theta, (len(linear), len(theta))), linear], axis=1)
        best[better] = left[better]
    return found
