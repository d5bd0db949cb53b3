"""Method "varpro": from series in their own units to the optimum of each, with covariances, and back.

Steps are divided by the last step seen and values by their range (see `units`), the engine searches, and
parameters and covariance are scaled back. Series that share their steps and the last one seen are searched together,
whatever points they lack.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from madyn.curves.fitting import search
from madyn.curves.fitting.objective import Objective, penalty_rows
from madyn.curves.fitting.solution import RANK, Solution
from madyn.curves.grouping import alike
from madyn.curves.hypotheses.separable import SeparableModel, complex_step
from madyn.curves.units import Units
from madyn.typing import Array

# Times the largest value: an amplitude beyond it has a variance that is no number, and says nothing.
ABSURD = 1e100


def solve(hypothesis: SeparableModel, t: Array, y: Array, weights: Array) -> Solution:
    """Fit every series of y.

    The covariance is s^2 (J'WJ)^-1 with s^2 = F/(n - p), J the Jacobian by all parameters at the optimum, F the
    weighted residual sum of squares and n the points of weight above 0. For a regularised hypothesis the penalty's rows
    count as data, in J, in F and in n. It is infinite where J has not full rank or n = p, and nan
    where a variance is smaller than the smallest number.

    Args:
        hypothesis: the curve.
        t: (m, n), finite where there is weight.
        y: (m, n), finite where there is weight.
        weights: (m, n), 0 where a point is missing. Each series has at least p points of weight above 0.
    """
    m, p, q = len(y), hypothesis.num_params, hypothesis.num_nonlinear
    popt, pcov, residuals = np.full((m, p), np.nan), np.full((m, p, p), np.nan), np.full(y.shape, np.nan)
    at_low, at_high = np.zeros((m, q), bool), np.zeros((m, q), bool)
    jacobian = np.full((m, t.shape[1] + penalty_rows(hypothesis), p), np.nan)
    messages = [""] * m
    seen = weights > 0
    rows = np.where(seen, t, np.nan)
    for members in _sharing_points(hypothesis, t, rows):
        part = _Scaled(hypothesis, t[members], y[members], weights[members])
        optima = search.search(part.objective)
        popt[members], pcov[members], residuals[members], jacobian[members] = part.back(optima)
        at_low[members], at_high[members] = optima.at_low, optima.at_high
    size = np.max(np.abs(y), axis=1, where=seen, initial=0.0)
    for i in np.flatnonzero(~np.all(np.isfinite(popt), axis=1)):
        messages[i] = "the curve is not finite at these steps for any parameters in its box"
    with np.errstate(invalid="ignore"):
        absurd = np.max(np.abs(popt[:, q:]), axis=1, initial=0.0) > ABSURD * size
    for i in np.flatnonzero(absurd):
        j = q + int(np.argmax(np.abs(popt[i, q:])))
        messages[i] = (
            f"no sensible parameters: {hypothesis.param_names[j]} would be {popt[i, j]:.1g}, since no point lies "
            "where the curve begins; count the steps from a later start"
        )
        popt[i], residuals[i] = np.nan, np.nan
    pcov[[bool(message) for message in messages]] = np.nan
    return Solution(popt, pcov, messages, at_low, at_high, residuals, jacobian)


def _sharing_points(hypothesis: SeparableModel, t: Array, seen: Array) -> list[NDArray[np.intp]]:
    """The series that can be searched together: the same steps, and the same last one if time is normalised."""
    keys = np.nan_to_num(t, nan=-1.0)
    if hypothesis.normalised:
        keys = np.concatenate([keys, np.nanmax(seen, axis=1, keepdims=True)], axis=1)
    return alike(keys)


class _Scaled:
    """Series in the units that a search works in, and the way back."""

    def __init__(self, hypothesis: SeparableModel, t: Array, y: Array, weights: Array) -> None:
        seen = weights > 0
        steps = np.where(np.isfinite(t[0]), t[0], 0.0)
        last = float(np.max(steps, where=seen[0], initial=0.0)) or 1.0
        high, low = np.max(y, axis=1, where=seen, initial=-np.inf), np.min(y, axis=1, where=seen, initial=np.inf)
        self.hypothesis, self.y, self.units = hypothesis, y, Units.of(hypothesis, last, low, high)
        v = np.where(seen, self.units.scaled(y), 0.0)
        # Weights act by their proportions alone; a mean of 1 keeps the penalty's size what it says.
        self.weights = weights / np.mean(weights, axis=1, where=seen, keepdims=True)
        self.count = np.sum(seen, axis=1)
        self.objective = Objective(hypothesis, steps / self.units.T, v, np.sqrt(self.weights))

    def back(self, optima: search.Optima) -> tuple[Array, Array, Array, Array]:
        """(popt, pcov, residuals, jacobian) in the series' own units."""
        with np.errstate(all="ignore"):  # what is not finite afterwards is told of
            return self._back(optima)

    def _back(self, optima: search.Optima) -> tuple[Array, Array, Array, Array]:
        theta = self.hypothesis.nonlinear_at(optima.u)
        curve = np.einsum("mnk,mk->mn", self.hypothesis.columns(self.objective.x, theta), optima.linear)
        residuals = self.y - self.units.unscaled(curve)
        jacobian = self.objective.jacobian(theta, optima.linear)
        covariance = self._covariance(jacobian, optima)
        combine = self.hypothesis.combine_matrix(theta)
        popt = np.concatenate([theta, np.einsum("mij,mj->mi", combine, optima.linear)], axis=1)
        change = self._combined_change(theta, optima.linear, combine)
        change = self.units.matrices(self.hypothesis) @ change
        popt = self.units.parameters(self.hypothesis, popt)
        lost = ~np.all(np.isfinite(covariance), axis=(1, 2))
        covariance[lost] = 0.0
        pcov = change @ covariance @ np.swapaxes(change, 1, 2)
        pcov[lost | ~np.all(np.isfinite(pcov), axis=(1, 2))] = np.inf
        known = np.diagonal(covariance, axis1=1, axis2=2) > 0
        pcov[np.any(known & (np.diagonal(pcov, axis1=1, axis2=2) == 0), axis=1)] = np.nan
        none = ~np.isfinite(optima.loss)
        popt[none], residuals[none] = np.nan, np.nan
        # J by popt of the curve in its own units, from J by (theta, coefficients) of the scaled one.
        jacobian = np.swapaxes(_solved(np.swapaxes(change, 1, 2), np.swapaxes(jacobian, 1, 2)), 1, 2)
        return popt, pcov, residuals, jacobian * self.units.scale[:, np.newaxis, np.newaxis]

    def _combined_change(self, theta: Array, linear: Array, combine: Array) -> Array:
        """d(theta, M(theta) c)/d(theta, c), (m, p, p)."""
        m, q = theta.shape
        change = np.zeros((m, self.hypothesis.num_params, self.hypothesis.num_params))
        change[:, :q, :q] = np.eye(q)
        change[:, q:, q:] = combine
        if self.hypothesis.combine is not None:
            for j in range(q):
                shifted, h = complex_step(theta, j)
                moved = np.einsum("mij,mj->mi", self.hypothesis.combine_matrix(shifted), linear)
                change[:, q:, j] = moved.imag / h[:, np.newaxis]
        return change

    def _covariance(self, jacobian: Array, optima: search.Optima) -> Array:
        """Covariance of (theta, coefficients of the basis), (m, p, p); infinite where it is not determined."""
        rows, p = self.count + penalty_rows(self.hypothesis), self.hypothesis.num_params
        covariance = np.full((len(jacobian), p, p), np.inf)
        size = np.linalg.norm(jacobian, axis=1)
        good = np.all(np.isfinite(jacobian), axis=(1, 2)) & np.all(size > 0, axis=1) & (rows > p)
        if not np.any(good):
            return covariance
        _, singular, directions = np.linalg.svd(jacobian[good] / size[good][:, np.newaxis, :], full_matrices=False)
        full = singular[:, -1] > RANK * singular[:, 0]
        inverse = np.einsum("mji,mj,mjk->mik", directions[full], singular[full] ** -2.0, directions[full])
        which = np.flatnonzero(good)[full]
        variance = optima.loss[which] / (rows[which] - p)
        scale = size[which]
        covariance[which] = variance[:, np.newaxis, np.newaxis] * inverse / (scale[:, :, None] * scale[:, None, :])
        return covariance


def _solved(matrices: Array, right: Array) -> Array:
    """The solutions of many systems; nan for a matrix that is singular, which must not take the others with it."""
    try:
        return np.asarray(np.linalg.solve(matrices, right), float)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full(right.shape, np.nan)
        each = [_solved(matrices[i : i + 1], right[i : i + 1]) for i in range(len(matrices))]
    return np.asarray(np.concatenate(each), float)
