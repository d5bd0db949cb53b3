"""Linear least squares for many small designs at once: the projection on their columns, to full accuracy.

LAPACK is called once a matrix and is slow for thousands of matrices with three columns. Here the same orthonormal
columns are made for all designs together, by modified Gram-Schmidt with every column orthogonalised twice, which is as
accurate as Householder's method (Giraud et al. 2005). A column that depends on those before it is left out: its
coefficient is 0.

Arrays have the columns first: a design is (k, P, m), k columns of P problems with m rows each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from madyn.typing import Array

# What orthogonalising leaves of a column that depends on the others is rounding, of about this share.
DEPENDENT = 1e-13


class Orthonormal(NamedTuple):
    """Q R = design: q (k, P, m) orthonormal columns (0 where dependent), r (P, k, k) upper triangular."""

    q: Array
    r: Array

    def remove(self, y: Array, passes: int = 2) -> tuple[Array, Array]:
        """(y less its projection on the columns, (P, m); the coefficients on q, (k, P)) of y (P, m).

        A second pass takes what the first leaves by rounding.
        """
        left, on = y.copy(), np.zeros(self.q.shape[:2])
        for _ in range(passes):
            for j, column in enumerate(self.q):
                share = np.einsum("pm,pm->p", column, left)
                left -= share[:, np.newaxis] * column
                on[j] += share
        return left, on

    def coefficients(self, on: Array) -> Array:
        """Coefficients of the design's own columns, (P, k), from those on q (k, P)."""
        solution = np.zeros((on.shape[1], on.shape[0]))
        for j in reversed(range(len(on))):
            rest = on[j] - np.einsum("pk,pk->p", self.r[:, j, j + 1 :], solution[:, j + 1 :])
            solution[:, j] = rest / self.r[:, j, j]
        return solution


def orthonormalise(design: Array) -> Orthonormal:
    """Orthonormal columns of designs (k, P, m)."""
    k, problems, _ = design.shape
    q, r = np.empty_like(design), np.zeros((problems, k, k))
    for j in range(k):
        column = design[j].copy()
        before = np.sqrt(np.einsum("pm,pm->p", column, column))
        for _ in range(2 if j else 0):
            for i in range(j):
                share = np.einsum("pm,pm->p", q[i], column)
                column -= share[:, np.newaxis] * q[i]
                r[:, i, j] += share
        size = np.sqrt(np.einsum("pm,pm->p", column, column))
        dependent = ~(size > DEPENDENT * before)
        r[:, j, j] = np.where(dependent, 1.0, size)
        q[j] = np.where(dependent[:, np.newaxis], 0.0, column / r[:, j, j][:, np.newaxis])
        r[dependent, :j, j] = 0.0
    return Orthonormal(q, r)
