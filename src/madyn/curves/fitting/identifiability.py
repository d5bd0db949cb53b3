"""What the data determine of a curve, and what they do not, in numbers and in words.

Let J D^-1 be the Jacobian at the optimum with every column brought to length 1, and J D^-1 = U S V' its singular value
decomposition. The ratio of the largest to the smallest singular value is the condition number; the last column v of V
is the flat direction: the parameters may move by s D^-1 v / S_min, s the residual standard deviation, for the price of
one standard error. Where that changes some parameter by more than half, the parameters are not identified one by one,
and yet the curve itself can be: a quantity of the curve has the standard error of its changes along all these
directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from madyn.curves.fitting.arrays_of_fits import FitArrays
from madyn.curves.fitting.solution import RANK
from madyn.errors import UsageError, check_range, listed, quoted
from madyn.typing import Array

Index = tuple[int, ...]

# A one-standard-error move along the flat direction that changes a parameter by more than this share says that the
# parameters are not identified one by one.
UNIDENTIFIED = 0.5
# A quantity is called determined if its standard error is below this share of it.
DETERMINED = 0.25
# The share of a standard error by which parameters are moved to see what follows.
_NUDGE = 1e-3
_IN_FULL = 10


@dataclass(frozen=True)
class Identifiability:
    """What one fit determines.

    Attributes:
        condition: the condition number of the Jacobian, its columns at length 1; infinite where it has not full rank.
        flat: (p,), by how much of itself each parameter changes in a one-standard-error move along the flat direction.
        identified: whether no parameter changes by more than half of itself in that move.
        quantities: (value, standard error) of quantities of the curve; an infinite error where nothing determines one.
    """

    condition: float
    flat: Array
    identified: bool
    quantities: dict[str, tuple[float, float]]


def identifiability(fits: FitArrays, index: int | Index = ()) -> Identifiability:
    """What the fit of one series determines. Its series must have a fit.

    Args:
        fits: of any leading shape.
        index: of the series in it.
    """
    index = (index,) if isinstance(index, int) else tuple(index)
    jacobian, popt = fits.jacobian[index], fits.popt[index]
    size = np.linalg.norm(jacobian, axis=0)
    scale = np.where(size > 0, size, 1.0)
    _, singular, directions = np.linalg.svd(jacobian / scale, full_matrices=False)
    moves, free = _moves(fits, index, scale, singular, directions)
    with np.errstate(all="ignore"):
        flat = np.abs(moves[-1] if len(free) == 0 else free[0]) / np.abs(popt)
        signs = np.sign(moves[-1] if len(free) == 0 else free[0])
        condition = singular[0] / singular[-1] if len(free) == 0 else np.inf
    flat = np.where(np.isfinite(flat), flat * signs, signs)
    identified = len(free) == 0 and bool(np.max(np.abs(flat)) <= UNIDENTIFIED)
    if fits.mapped_from is not None:  # the curve is the same, and its quantities are better known in those parameters
        return Identifiability(float(condition), flat, identified, identifiability(fits.mapped_from, index).quantities)
    return Identifiability(float(condition), flat, identified, _quantities(fits, index, moves, free))


def _moves(fits: FitArrays, index: Index, scale: Array, singular: Array, directions: Array) -> tuple[Array, Array]:
    """One-standard-error moves (r, p), the flattest last, and directions in which nothing changes, (p - r, p)."""
    used = fits.weights[index]
    seen = (used > 0) & np.isfinite(fits.residuals[index])
    residuals = fits.residuals[index][seen] * np.sqrt(used[seen] / np.mean(used[seen]))
    left = int(np.sum(seen)) - fits.hypothesis.num_params
    s = np.sqrt(np.sum(residuals**2) / left) if left > 0 else np.inf
    full = singular > RANK * singular[0]
    with np.errstate(invalid="ignore"):  # without points to spare, s is infinite, and so is every move
        moves = s * directions[full] / singular[full][:, np.newaxis] / scale
    return moves, directions[~full] / scale


def _quantities(fits: FitArrays, index: Index, moves: Array, free: Array) -> dict[str, tuple[float, float]]:
    popt = fits.popt[index]
    quantities = {}
    for name, function in _derived(fits, index).items():
        value = function(popt)
        if not np.isfinite(value):
            continue
        steps = [(function(popt + _NUDGE * m) - function(popt - _NUDGE * m)) / (2 * _NUDGE) for m in moves]
        error = float(np.sqrt(np.sum(np.square(steps))))
        for direction in free:
            move = 1e-4 * direction * np.min(np.abs(popt[direction != 0]) / np.abs(direction[direction != 0]))
            if abs(function(popt + move) - function(popt - move)) > 1e-9 * abs(value):
                error = np.inf
        quantities[name] = (float(value), error if np.isfinite(error) else np.inf)
    return quantities


def _derived(fits: FitArrays, index: Index) -> dict[str, Callable[[Array], Any]]:
    """Quantities of the curve as functions of its parameters."""
    hypothesis = fits.hypothesis
    t = fits.steps if fits.steps.ndim == 1 else fits.steps[index]
    seen = t[(fits.weights[index] > 0) & np.isfinite(fits.residuals[index])]
    middle, last = float(np.sort(seen)[len(seen) // 2]), float(np.max(seen))
    derived: dict[str, Callable[[Array], Any]] = {
        f"value at {at:g}": lambda params, at=at: hypothesis.values(np.array([at]), params)[0]
        for at in dict.fromkeys([middle, last])
    }
    peak = hypothesis.peak
    if peak is not None:
        derived["peak step"] = lambda params: peak(*params)[0]
        derived["peak height"] = lambda params: peak(*params)[1]
    if hypothesis.has_limit:
        derived["plateau"] = hypothesis.limit_of
    return derived


def summary(fits: FitArrays, index: int | Index | None = None) -> str:
    """The report of `Fits.summary`."""
    if index is not None:
        return _one(fits, place_of(fits, index))
    everything = list(np.ndindex(fits.success.shape))
    if len(everything) == 1:
        return _one(fits, everything[0])
    lines = [
        f"{fits.hypothesis.name}, {len(everything)} series, {int(np.sum(fits.success))} fitted by method "
        f"{fits.method}, {int(np.sum(np.any(fits.at_edge, axis=-1)))} of them on an edge of the box"
    ]
    if np.any(fits.success):
        lines[0] += f"; mean R2 = {np.mean(fits.r2[fits.success]):.4f}"
    poor = int(np.sum(fits.r2[fits.success] <= 0))
    if poor:
        lines[0] += f"; the curve does not fit {poor} of them, where a constant lies closer"
    lines += [f"\nseries {i[0] if len(i) == 1 else i}: {_one(fits, i)}" for i in everything[:_IN_FULL]]
    if len(everything) > _IN_FULL:
        lines.append(f"\n({len(everything) - _IN_FULL} more: ask for one with summary(index))")
    return "\n".join(lines)


def place_of(fits: FitArrays, index: object) -> Index:
    """The index of one series. Raises UsageError where there is none."""
    shape = fits.success.shape
    numbers = listed("index", index if np.ndim(index) else [index])  # pyright: ignore[reportArgumentType]
    if len(numbers) != len(shape):
        raise UsageError(f"index is {quoted(index)}; the fits have the shape {shape}, so it has {len(shape)} numbers")
    return tuple(check_range("index", i, -n, n - 1) for i, n in zip(numbers, shape, strict=True))


def _one(fits: FitArrays, index: Index) -> str:
    head = f"{fits.hypothesis.name}, {int(fits.num_points[index])} points, method {fits.method}"
    if not fits.success[index]:
        return f"{head}: no fit: {fits.message[index]}"
    lines = [f"{head}: R2 = {fits.r2[index]:.4f}, AICc = {_number(fits.aicc[index])}, BIC = {_number(fits.bic[index])}"]
    poor = bool(fits.r2[index] <= 0)
    if poor:
        lines.append(
            "The curve does not fit: a constant lies closer to the data. Its parameters say nothing of the series, and "
            "none is called determined."
        )
    errors = np.sqrt(np.diagonal(fits.pcov[index]))
    for name, value, error in zip(fits.hypothesis.param_names, fits.popt[index], errors, strict=True):
        share = f"  ({100 * error / abs(value):.3g} %)" if np.isfinite(error) and value else ""
        lines.append(f"  {name:<10} {value:>14.6g}  +- {_number(error)}{share}")
    if not poor:
        report = identifiability(fits, index)
        lines += [_identified(fits, report), *_determined(report)]
    if fits.message[index]:
        lines.append(f"Note: {fits.message[index]}.")
    t = fits.steps if fits.steps.ndim == 1 else fits.steps[index]
    far = t[fits.suspects[index]]
    if far.size:
        lines.append(f"Far off the curve: {', '.join(f'{step:g}' for step in far)}.")
    return "\n".join(lines)


def _identified(fits: FitArrays, report: Identifiability) -> str:
    said = f"Condition number {report.condition:.3g}."
    if report.identified:
        return f"{said} The parameters are identified one by one."
    share = np.abs(report.flat)
    moved = [i for i in np.argsort(-share) if share[i] > 0.05 * np.max(share)]
    together = ", ".join(f"{fits.hypothesis.param_names[i]} by {100 * report.flat[i]:+.3g} %" for i in moved)
    if np.isinf(report.condition):
        return f"{said} The parameters are not identified: changing {together} does not move the curve at these points."
    return (
        f"{said} The parameters are not identified one by one: changing {together}, together, moves the curve by no "
        "more than its noise does."
    )


def _determined(report: Identifiability) -> list[str]:
    good, bad = [], []
    for name, (value, error) in report.quantities.items():
        said = f"{name} = {value:.5g} +- {_number(error)}"
        (good if error <= DETERMINED * abs(value) else bad).append(said)
    lines = [f"Determined: {'; '.join(good)}."] if good else []
    return [*lines, f"Not determined: {'; '.join(bad)}."] if bad else lines


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else ("unknown" if np.isinf(value) else "undefined")
