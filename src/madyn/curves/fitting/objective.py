"""What a fit minimises, as a function of the nonlinear parameters alone: variable projection.

For nonlinear parameters theta the best linear ones are a least-squares problem, so that the sum of squares is

    F(theta) = min_c |W (y - Phi(theta) c)|^2 = |r|^2,    r = (I - Q Q') W y,  Q an orthonormal basis of W Phi

(Golub and Pereyra 1973). With r orthogonal to W Phi, the exact gradient of F is -2 r' W (dPhi) c; the Gauss-Newton
matrix that goes with it is built from (I - Q Q') W (dPhi) c (Kaufman 1975). A penalty adds rows to the design, for
amplitudes, and rows that depend on theta alone. All in normalised units, for many problems at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from madyn.curves.fitting.projection import Orthonormal, orthonormalise
from madyn.curves.hypotheses.separable import SeparableModel, complex_step
from madyn.typing import Array


class Point(NamedTuple):
    """The objective at one theta for each of P problems.

    Attributes:
        loss: (P,), F; infinite where the basis is not finite.
        linear: (P, k), the best coefficients of the basis.
        slope: (P, q), half the gradient of F by the search coordinates.
        normal: (P, q, q), half the Gauss-Newton matrix of F.
    """

    loss: Array
    linear: Array
    slope: Array
    normal: Array


class Projection(NamedTuple):
    """Orthonormal columns (k, m, G) at the points of a grid, and (G,) what is added to F there, infinite where the
    basis is not finite."""

    columns: Array
    extra: Array


def _dots(a: Array, b: Array) -> Array:
    """Inner products of the rows, (P,), of two arrays (P, m)."""
    return np.einsum("pm,pm->p", a, b)


def penalty_rows(hypothesis: SeparableModel) -> int:
    """How many rows a hypothesis's penalty adds to the residuals, to count as data."""
    penalty = hypothesis.penalty
    return 0 if penalty is None else len(penalty.positive) + len(penalty.amplitudes)


class Objective:
    """F for series that share their points x; each series has weights of its own.

    Args:
        hypothesis: the curve; `x` is in the units of its bounds.
        x: (n,).
        y: (S, n), finite; where the weight is 0 anything finite.
        weight_roots: (S, n), square roots of the weights.
    """

    def __init__(self, hypothesis: SeparableModel, x: Array, y: Array, weight_roots: Array) -> None:
        self.hypothesis, self.x, self.y, self.weight_roots = hypothesis, x, y, weight_roots
        self.penalty = hypothesis.penalty
        self.target = y * weight_roots
        if self.penalty is not None:
            zeros = np.zeros((len(y), len(self.penalty.amplitudes)))
            self.target = np.concatenate([self.target, zeros], axis=1)
        self.start = self._start()

    def _start(self) -> Array:
        """(S, q), the start of the published search, about which a penalty holds the nonlinear parameters."""
        if self.penalty is None or self.hypothesis.published is None:
            return np.empty((len(self.weight_roots), 0))
        points = [self.x[seen] for seen in self.weight_roots > 0]
        return np.array([self.hypothesis.published.start(x, x)[: self.hypothesis.num_nonlinear] for x in points])

    def design(self, theta: Array, weight_roots: Array) -> Array:
        """W Phi with the rows of the penalty, (k, P, m), for theta (P, q) and weight_roots (P, n) or (1, n)."""
        columns = np.moveaxis(self.hypothesis.columns(self.x, theta), -1, 0) * weight_roots
        if self.penalty is None:
            return columns
        rows = self.penalty.noise / self.penalty.amplitude_width * self._amplitudes(theta)
        return np.concatenate([columns, np.moveaxis(rows, -1, 0)], axis=2)

    def _amplitudes(self, theta: Array) -> Array:
        """Rows of the combining matrix that give the penalised amplitudes, (P, a, k)."""
        assert self.penalty is not None
        chosen = [k - self.hypothesis.num_nonlinear for k in self.penalty.amplitudes]
        return self.hypothesis.combine_matrix(theta)[:, chosen, :]

    def _design_change(self, theta: Array, weight_roots: Array, linear: Array) -> Array:
        """(d(W Phi)/dtheta) c with the rows of the penalty, (q, P, m)."""
        gradient = self.hypothesis.gradient(self.x, theta)
        change = np.zeros((theta.shape[1], len(theta), len(self.x)))
        part = np.empty(change.shape[1:])
        for j, k in np.ndindex(len(change), linear.shape[1]):  # einsum is five times slower on so small axes
            change[j] += np.multiply(gradient[..., k, j], linear[:, k : k + 1], out=part)
        change *= weight_roots
        if self.penalty is None:
            return change
        extra = []
        for j in range(theta.shape[1]):
            shifted, h = complex_step(theta, j)
            by = self._amplitudes(shifted).imag / h[:, np.newaxis, np.newaxis]
            extra.append(self.penalty.noise / self.penalty.amplitude_width * np.einsum("pak,pk->pa", by, linear))
        return np.concatenate([change, np.array(extra)], axis=2)

    def distance(self, theta: Array, series: NDArray[np.intp]) -> tuple[Array, Array]:
        """The rows of the penalty that depend on theta alone, (P, a), and their derivatives by log theta, (a, q)."""
        if self.penalty is None:
            return np.zeros((len(theta), 0)), np.zeros((0, theta.shape[1]))
        chosen, weight = list(self.penalty.positive), self.penalty.noise / self.penalty.log_width
        return weight * np.log(theta[:, chosen] / self.start[series][:, chosen]), weight * np.eye(theta.shape[1])[
            chosen
        ]

    def project(self, theta: Array, series: NDArray[np.intp]) -> tuple[Orthonormal, Array, Array, Array]:
        """(columns, residuals (P, m), coefficients (P, k), F (P,)) at theta (P, q) of these series (P,)."""
        with np.errstate(all="ignore"):
            design = self.design(theta, self.weight_roots[series])
            broken = ~np.all(np.isfinite(design), axis=(0, 2))
            if np.any(broken):
                design[:, broken] = 0.0
            basis = orthonormalise(design)
            left, on = basis.remove(self.target[series])
            rows, _ = self.distance(theta, series)
            loss = np.einsum("pm,pm->p", left, left) + np.einsum("pa,pa->p", rows, rows)
            loss[broken] = np.inf
        return basis, left, basis.coefficients(on), loss

    def at(self, u: Array, series: NDArray[np.intp]) -> Point:
        """The objective and its derivatives at search coordinates u (P, q), u[p] for series[p]."""
        basis, linear, loss, change, slope, by = self._sloping(u, series)
        with np.errstate(all="ignore"):
            change = [basis.remove(part, passes=1)[0] for part in change]
            normal = np.empty((len(u), *2 * (len(change),)))
            for i, j in zip(*np.triu_indices(len(change)), strict=True):
                normal[:, i, j] = normal[:, j, i] = _dots(change[i], change[j])
        return Point(loss, linear, slope, normal + by.T @ by)

    def slope_at(self, u: Array, series: NDArray[np.intp]) -> Array:
        """The slope of `at` alone, (P, q), which takes two thirds of the time."""
        return self._sloping(u, series)[4]

    def loss_at(self, u: Array, series: NDArray[np.intp]) -> Array:
        """The loss of `at` alone, (P,)."""
        return self.project(self.hypothesis.nonlinear_at(u), series)[-1]

    def _sloping(self, u: Array, series: NDArray[np.intp]) -> tuple[Orthonormal, Array, Array, Array, Array, Array]:
        """(columns, coefficients (P, k), F (P,), (d(W Phi)/du) c (q, P, m), slope (P, q), the penalty's part of it)."""
        theta = self.hypothesis.nonlinear_at(u)
        basis, left, linear, loss = self.project(theta, series)
        stretch = np.where(self.hypothesis.log_scale, theta, 1.0).T  # d theta/d u
        with np.errstate(all="ignore"):
            change = self._design_change(theta, self.weight_roots[series], linear)
            change *= stretch[:, :, np.newaxis]
            change[~np.isfinite(change)] = 0.0
            slope = -np.stack([_dots(part, left) for part in change], axis=-1)
        rows, by = self.distance(theta, series)
        return basis, linear, loss, change, slope + rows @ by, by

    def jacobian(self, theta: Array, linear: Array) -> Array:
        """Derivatives of W times the curve, and of the penalty's rows, by (theta, linear), (S, rows, p)."""
        with np.errstate(all="ignore"):
            design = np.moveaxis(self.design(theta, self.weight_roots), 0, -1)
            change = np.moveaxis(self._design_change(theta, self.weight_roots, linear), 0, -1)
        jacobian = np.concatenate([change, design], axis=2)
        _, by = self.distance(theta, np.arange(len(theta)))
        if not len(by):
            return jacobian
        rows = np.zeros((len(theta), len(by), jacobian.shape[2]))
        rows[:, :, : theta.shape[1]] = by / theta[:, np.newaxis, :]
        return np.concatenate([jacobian, rows], axis=1)

    def projection(self, grid: Array, one: int) -> Projection:
        """What the F of all series with the weights of series `one` needs at the points of a grid (G, q)."""
        theta = self.hypothesis.nonlinear_at(grid)
        with np.errstate(all="ignore"):
            design = self.design(theta, self.weight_roots[one : one + 1])
            broken = ~np.all(np.isfinite(design), axis=(0, 2))
            design[:, broken] = 0.0
            rows, _ = self.distance(theta, np.array([one]))
        extra = np.einsum("pa,pa->p", rows, rows)
        extra[broken] = np.inf
        return Projection(np.ascontiguousarray(np.swapaxes(orthonormalise(design).q, 1, 2)), extra)

    def on_grid(self, projection: Projection, series: NDArray[np.intp]) -> Array:
        """F at the points of a grid for series with equal weights, (len(series), G)."""
        target = self.target[series]
        loss = np.square(target @ projection.columns[0])
        for column in projection.columns[1:]:
            part = target @ column
            loss += np.square(part, out=part)
        np.subtract(np.einsum("pm,pm->p", target, target)[:, np.newaxis], loss, out=loss)
        np.maximum(loss, 0.0, out=loss)
        loss += projection.extra
        return loss
