"""Reference problems of nonlinear regression: NIST's Statistical Reference Datasets, with certified answers.

These are the problems (https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml, public domain) whose curve is linear in
all but one or two parameters. `nist_strd.json` holds data and certified values as published; here stand the curves. The
bounds reach at least a factor of 100 to either side of the solution unless the curve itself forbids it, so that they
give no start away: a position lies between the points, and two terms that could change places are kept in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madyn.curves.fitting.fits import Fits, fit_curves
from madyn.curves.hypotheses.separable import SeparableModel

Array = NDArray[np.float64]
Bounds = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Problem:
    """A published curve, its data and certified answers.

    Attributes:
        name: as published.
        x, y: the data, (n,).
        values, deviations: the certified parameters b1, b2, ... and their standard deviations.
        rss: the certified residual sum of squares.
        formula: `formula(x, *b)`, the curve as published.
        basis: `basis(x, *nonlinear)`, each of shape P -> P + (n, k), real or complex.
        nonlinear: the box of the nonlinear parameters.
        linear: names of the linear ones.
        back: `back(nonlinear and linear parameters)` -> b1, b2, ..., real or complex.
        linear_scale: nonlinear parameters to search on a linear scale although their bounds are positive.
    """

    name: str
    x: Array = field(repr=False)
    y: Array = field(repr=False)
    values: Array
    deviations: Array
    rss: float
    formula: Callable[..., Any]
    basis: Callable[..., Any]
    nonlinear: Mapping[str, Bounds]
    linear: Sequence[str]
    back: Callable[[Any], Sequence[Any]]
    linear_scale: Sequence[str] = ()


def _columns(*columns: Any) -> Any:
    """Basis functions, each of shape P + (n,) or one that broadcasts to it, as P + (n, k)."""
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def _one_term(shape: Callable[..., Any]) -> Callable[..., Any]:
    """The basis that is a single function shape(x, *nonlinear), 0 or infinite where numbers end."""

    def basis(x: Array, *nonlinear: Any) -> Any:
        with np.errstate(all="ignore"):
            return _columns(shape(x, *(np.asarray(value)[..., np.newaxis] for value in nonlinear)))

    return basis


def _rational(x: Array, powers: Sequence[int], denominator: Any) -> Any:
    return _columns(*(x**power / denominator for power in powers))


def _mgh09(x: Array, b3: Any, b4: Any) -> Any:
    b3, b4 = np.asarray(b3)[..., np.newaxis], np.asarray(b4)[..., np.newaxis]
    return _rational(x, (2, 1), x**2 + x * b3 + b4)


def _mgh17(x: Array, slow: Any, ratio: Any) -> Any:
    slow, ratio = np.asarray(slow)[..., np.newaxis], np.asarray(ratio)[..., np.newaxis]
    return _columns(np.ones_like(x), np.exp(-x * slow), np.exp(-x * slow * ratio))


def _kirby2(x: Array, scale: Any, cosine: Any) -> Any:
    """Denominator 1 + 2 cosine (x/scale) + (x/scale)^2, which has no zero at positive x if the cosine is above -1."""
    scale, cosine = np.asarray(scale)[..., np.newaxis], np.asarray(cosine)[..., np.newaxis]
    return _rational(x, (0, 1, 2), 1 + 2 * cosine * x / scale + (x / scale) ** 2)


def _enso(x: Array, long: Any, short: Any) -> Any:
    long, short = np.asarray(long)[..., np.newaxis], np.asarray(short)[..., np.newaxis]
    waves = [wave(2 * np.pi * x / period) for period in (12, long, short) for wave in (np.cos, np.sin)]
    return _columns(np.ones_like(x), *waves)


def _enso_formula(x: Array, *b: Any) -> Any:
    at = [2 * np.pi * x / period for period in (12, b[3], b[6])]
    annual = b[1] * np.cos(at[0]) + b[2] * np.sin(at[0])
    return b[0] + annual + b[4] * np.cos(at[1]) + b[5] * np.sin(at[1]) + b[7] * np.cos(at[2]) + b[8] * np.sin(at[2])


def _same(params: Any) -> Sequence[Any]:
    """b1 is the height and b2, b3 are the nonlinear parameters."""
    return (params[-1], *params[:-1])


def _saturation(shape: Callable[..., Any], rate: Bounds) -> dict[str, Any]:
    """b1 shape(x, b2)."""
    return {
        "formula": lambda x, b1, b2: b1 * shape(x, b2),
        "basis": _one_term(shape),
        "nonlinear": {"b2": rate},
        "linear": ("b1",),
        "back": _same,
    }


_CHWIRUT: dict[str, Any] = {
    "formula": lambda x, b1, b2, b3: np.exp(-b1 * x) / (b2 + b3 * x),
    "basis": _one_term(lambda x, b1, c: np.exp(-b1 * x) / (1 + c * x)),
    "nonlinear": {"b1": (1e-3, 20.0), "c": (1e-2, 1e3)},
    "linear": ("a",),
    "back": lambda p: (p[0], 1 / p[2], p[1] / p[2]),
}

_CURVES: dict[str, dict[str, Any]] = {
    "Misra1a": _saturation(lambda x, b2: -np.expm1(-b2 * x), (1e-6, 1e-1)),
    "Misra1b": _saturation(lambda x, b2: 1 - (1 + b2 * x / 2) ** -2, (1e-6, 1e-1)),
    "Misra1c": _saturation(lambda x, b2: 1 - (1 + 2 * b2 * x) ** -0.5, (1e-6, 1e-1)),
    "Misra1d": {
        "formula": lambda x, b1, b2: b1 * b2 * x / (1 + b2 * x),
        "basis": _one_term(lambda x, b2: b2 * x / (1 + b2 * x)),
        "nonlinear": {"b2": (1e-6, 1e-1)},
        "linear": ("b1",),
        "back": _same,
    },
    "Chwirut1": _CHWIRUT,
    "Chwirut2": _CHWIRUT,
    "DanWood": _saturation(lambda x, b2: x**b2, (0.03, 400.0)),
    "BoxBOD": _saturation(lambda x, b2: -np.expm1(-b2 * x), (1e-3, 1e2)),
    "Rat42": {
        "formula": lambda x, b1, b2, b3: b1 / (1 + np.exp(b2 - b3 * x)),
        "basis": _one_term(lambda x, b2, b3: 1 / (1 + np.exp(b2 - b3 * x))),
        "nonlinear": {"b2": (0.02, 300.0), "b3": (5e-4, 10.0)},
        "linear": ("b1",),
        "back": _same,
    },
    "Eckerle4": {
        "formula": lambda x, b1, b2, b3: b1 / b2 * np.exp(-0.5 * ((x - b3) / b2) ** 2),
        "basis": _one_term(lambda x, b2, b3: np.exp(-0.5 * ((x - b3) / b2) ** 2)),
        "nonlinear": {"b2": (0.04, 500.0), "b3": (400.0, 500.0)},
        "linear": ("height",),
        "back": lambda p: (p[2] * p[0], p[0], p[1]),
    },
    "Bennett5": {
        "formula": lambda x, b1, b2, b3: b1 * (b2 + x) ** (-1 / b3),
        "basis": _one_term(lambda x, b2, b3: (b2 + x) ** (-1 / b3)),
        "nonlinear": {"b2": (0.1, 1e4), "b3": (5e-3, 1e2)},
        "linear": ("b1",),
        "back": _same,
    },
    "MGH09": {
        "formula": lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4),
        "basis": _mgh09,
        "nonlinear": {"b3": (1e-3, 1e2), "b4": (1e-3, 1e2)},
        "linear": ("b1", "b1 b2"),
        "back": lambda p: (p[2], p[3] / p[2], p[0], p[1]),
    },
    "MGH10": {
        "formula": lambda x, b1, b2, b3: b1 * np.exp(b2 / (x + b3)),
        "basis": _one_term(lambda x, b2, b3: np.exp(b2 / (x + b3))),
        "nonlinear": {"b2": (50.0, 1e6), "b3": (3.0, 5e4)},
        "linear": ("b1",),
        "back": _same,
    },
    "MGH17": {
        "formula": lambda x, b1, b2, b3, b4, b5: b1 + b2 * np.exp(-x * b4) + b3 * np.exp(-x * b5),
        "basis": _mgh17,
        "nonlinear": {"slow": (1e-4, 2.0), "ratio": (1.01, 200.0)},
        "linear": ("b1", "b2", "b3"),
        "back": lambda p: (p[2], p[3], p[4], p[0], p[0] * p[1]),
    },
    "Kirby2": {
        "formula": lambda x, b1, b2, b3, b4, b5: (b1 + b2 * x + b3 * x**2) / (1 + b4 * x + b5 * x**2),
        "basis": _kirby2,
        "nonlinear": {"scale": (1.0, 3e4), "cosine": (-0.999, 20.0)},
        "linear": ("b1", "b2", "b3"),
        "back": lambda p: (p[2], p[3], p[4], 2 * p[1] / p[0], p[0] ** -2),
    },
    "ENSO": {
        "formula": _enso_formula,
        "basis": _enso,
        "nonlinear": {"b4": (30.0, 80.0), "b7": (15.0, 30.0)},
        "linear": ("b1", "b2", "b3", "b5", "b6", "b8", "b9"),
        "back": lambda p: (p[2], p[3], p[4], p[0], p[5], p[6], p[1], p[7], p[8]),
    },
}  # fmt: skip


def _read() -> tuple[Problem, ...]:
    published = json.loads(Path(__file__).with_name("nist_strd.json").read_text(encoding="utf-8"))
    problems = []
    for name, curve in _CURVES.items():
        one = published[name]
        values, deviations = np.array(list(one["parameters"].values())).T
        x, y = np.array(one["x"]), np.array(one["y"])
        problems.append(Problem(name, x, y, values, deviations, one["rss"], **curve))
    return tuple(problems)


PROBLEMS = _read()


def fitted(problem: Problem) -> Fits:
    """The fit, from no start."""
    model = SeparableModel(
        problem.basis, problem.nonlinear, problem.linear, name=problem.name, linear_scale=problem.linear_scale
    )
    return fit_curves(problem.x, problem.y, model)


def published_parameters(problem: Problem, fits: Fits) -> tuple[Array, Array]:
    """(b1, b2, ...; their standard deviations), these by the delta method: derivatives of `back` by complex step."""
    popt = fits.popt
    change = np.empty((len(problem.values), len(popt)))
    for j, size in enumerate(np.abs(popt)):
        shifted = popt.astype(complex)
        shifted[j] += 1e-100j * size
        change[:, j] = np.imag(np.array(problem.back(shifted))) / (1e-100 * size)
    return np.array(problem.back(popt)), np.sqrt(np.diag(change @ fits.pcov @ change.T))


def digits(computed: Array | float, certified: Array | float) -> Array:
    """Log relative error: how many significant digits agree."""
    error = np.abs(np.asarray(computed) - certified) / np.abs(certified)
    return -np.log10(np.maximum(error, 1e-16))
