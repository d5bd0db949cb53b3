"""The hypotheses: the curve families that a trajectory may follow, one entry of `HYPOTHESES` each.

An entry carries all that a fitting method needs: the function and its analytic Jacobian, where a search starts and what
bounds it, how the data are normalised before it and how parameters scale back after it, and the penalty if the fit is
regularised. A new hypothesis is one more entry here, and nothing elsewhere.

Data are normalised before a fit: steps are divided by their range T; values are divided by their range R after their
minimum is subtracted (`has_offset`), or, where the curve has no free offset and so cannot follow a shift, only divided
by R = max |y|. All six curves keep their form under this, and their parameters scale back linearly, so that
covariances scale back exactly too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from madyn.curves.second_order import step_response, step_response_gradient
from madyn.errors import UsageError

Array = NDArray[np.float64]
Value = float | Array

# Positive parameters are bounded below by this, in normalised units, so that logarithms stay defined at step 0.
SMALLEST = 1e-10


@dataclass(frozen=True)
class Penalty:
    r"""Keeps a fit off its degenerate directions, as extra residual rows in normalised units.

    The sum of squares that is minimised becomes

        RSS + noise^2 [ sum_j ((log theta_j - log theta_j0) / log_width)^2 + sum_k (a_k / amplitude_width)^2 ]

    over the positive parameters theta_j, theta_0 the start of the search, and the amplitudes a_k. This is the maximum
    a posteriori fit for noise of standard deviation `noise` (a share of the series' range), a prior that each theta_j
    lies within a factor exp(log_width) of its start, and amplitudes within `amplitude_width` ranges of zero. The
    baseline K is left free: data determine it once the amplitudes are bounded.

    With the defaults, a parameter 100 times its start costs what a rise of the RSS by 0.002 squared ranges would (about
    0.0007 of R2 for a series of 37 points); and the directions lam -> 0 with A -> inf, tau0 -> inf, and A against gamma
    and t0, are no longer flat.

    Attributes:
        positive: indices of the theta_j.
        amplitudes: indices of the a_k.
    """

    positive: tuple[int, ...]
    amplitudes: tuple[int, ...]
    noise: float = 0.03
    log_width: float = 3.0
    amplitude_width: float = 10.0

    def rows(self, params: Array, start: Array) -> Array:
        """The extra residuals, shape (len(positive) + len(amplitudes),)."""
        positive, amplitudes = list(self.positive), list(self.amplitudes)
        logs = np.log(params[positive] / start[positive])
        return self.noise * np.concatenate([logs / self.log_width, params[amplitudes] / self.amplitude_width])

    def jacobian(self, params: Array) -> Array:
        """Derivative of `rows`, shape (rows, p)."""
        matrix = np.zeros((len(self.positive) + len(self.amplitudes), len(params)))
        for row, j in enumerate(self.positive):
            matrix[row, j] = self.noise / (self.log_width * params[j])
        for row, k in enumerate(self.amplitudes, start=len(self.positive)):
            matrix[row, k] = self.noise / self.amplitude_width
        return matrix


@dataclass(frozen=True)
class Hypothesis:
    """A curve family, and how it is fitted.

    Attributes:
        name: the key in `HYPOTHESES` and in the files of a dataset.
        param_names: the parameters in order, p of them.
        formula: one line for documentation.
        function: `function(t, *params)` -> values; t and parameters broadcast, so that a parameter may be an array of
            shape (..., 1). NaN where the curve is not defined.
        jacobian: `jacobian(t, *params)` -> the derivatives by the parameters, shape (..., n, p).
        start: `start(t, y)` -> (p,), from normalised data.
        lower: bounds below, in normalised units, (p,). Above, no parameter is bounded.
        has_offset: values are normalised by range and minimum; if False by scale alone.
        rescale: `rescale(T, R)` -> (p, p) matrix M; raw parameters are M @ normalised ones (plus the minimum, for K).
        penalty: None unless the fit is regularised.
    """

    name: str
    param_names: tuple[str, ...]
    formula: str
    function: Callable[..., Array]
    jacobian: Callable[..., Array]
    start: Callable[[Array, Array], Array]
    lower: tuple[float, ...]
    has_offset: bool
    rescale: Callable[[float, float], Array]
    penalty: Penalty | None = None

    @property
    def num_params(self) -> int:
        """p, the number of parameters."""
        return len(self.param_names)


def _columns(*columns: Value) -> Array:
    """The columns broadcast together and stacked last: np.stack(np.broadcast_arrays(...), -1), four times faster."""
    stacked = np.empty((*np.broadcast(*columns).shape, len(columns)))
    for j, column in enumerate(columns):
        stacked[..., j] = column
    return stacked


# original ---------------------------------------------------------------------------------------------------------


def _original(t: Value, A: Value, lam: Value, gamma: Value, t0: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        x = np.multiply(gamma, t) + t0
        return A * np.exp(-np.multiply(lam, x)) * np.log(x) + K


def _original_jacobian(t: Value, A: Value, lam: Value, gamma: Value, t0: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        x = np.multiply(gamma, t) + t0
        decay, log = np.exp(-np.multiply(lam, x)), np.log(x)
        by_x = A * decay * (1 / x - lam * log)
        return _columns(decay * log, -np.multiply(A, x) * decay * log, by_x * t, by_x, np.ones_like(x + K))


def _original_start(t: Array, y: Array) -> Array:
    """As published: A = range(y), lam = 1/std(x), gamma = 1/range(x), t0 = 1, K = min(y) + A/2."""
    A = np.ptp(y)
    return np.array([A, 1 / np.std(t), 1 / np.ptp(t), 1.0, np.min(y) + A / 2])


def _original_rescale(T: float, R: float) -> Array:
    return np.diag([R, 1.0, 1 / T, 1.0, R])


# reparam ----------------------------------------------------------------------------------------------------------


def _reparam(t: Value, beta: Value, tau0: Value, A1: Value, A2: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        return np.exp(-np.multiply(beta, t)) * (A1 * np.log(np.add(t, tau0)) + A2) + K


def _reparam_jacobian(t: Value, beta: Value, tau0: Value, A1: Value, A2: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        since = np.add(t, tau0)
        decay, log = np.exp(-np.multiply(beta, t)), np.log(since)
        by_beta = -np.multiply(t, decay) * (A1 * log + A2)
        return _columns(by_beta, A1 * decay / since, decay * log, decay, np.ones_like(since + K))


def _reparam_start(t: Array, y: Array) -> Array:
    """The published start of original, through the exact map between the two."""
    A, lam, gamma, t0, K = _original_start(t, y)
    A1 = A * np.exp(-lam * t0)
    return np.array([lam * gamma, t0 / gamma, A1, A1 * np.log(gamma), K])


def _reparam_rescale(T: float, R: float) -> Array:
    """log(t/T + tau0/T) = log(t + tau0) - log T: part of A1 passes into A2."""
    matrix = np.diag([1 / T, T, R, R, R])
    matrix[3, 2] = -R * np.log(T)
    return matrix


# step1, step2 -----------------------------------------------------------------------------------------------------


def _step1(t: Value, tau: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(-K * np.expm1(-np.divide(t, tau)), float)


def _step1_jacobian(t: Value, tau: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        u = np.divide(t, tau)
        return _columns(-K * u * np.exp(-u) / tau, -np.expm1(-u))


def _step1_start(t: Array, y: Array) -> Array:
    return np.array([np.std(t), y[np.argmax(t)]], dtype=np.float64)


def _step1_rescale(T: float, R: float) -> Array:
    return np.diag([T, R])


def _step2(t: Value, zeta: Value, omega_n: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        return K * step_response(np.multiply(omega_n, t), zeta)


def _step2_jacobian(t: Value, zeta: Value, omega_n: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        u = np.multiply(omega_n, t)
        response, by_u, by_zeta = step_response_gradient(u, zeta)
        return _columns(K * by_zeta, K * by_u * t, response)


def _step2_start(t: Array, y: Array) -> Array:
    """Critically damped, at the time scale at which step1 starts."""
    return np.array([1.0, 1 / np.std(t), y[np.argmax(t)]])


def _step2_rescale(T: float, R: float) -> Array:
    return np.diag([1.0, 1 / T, R])


# the registry -----------------------------------------------------------------------------------------------------

_ORIGINAL = Hypothesis(
    name="original",
    param_names=("A", "lam", "gamma", "t0", "K"),
    formula="A exp(-lam x) log(x) + K, x = gamma t + t0",
    function=_original,
    jacobian=_original_jacobian,
    start=_original_start,
    lower=(-np.inf, SMALLEST, SMALLEST, SMALLEST, -np.inf),
    has_offset=True,
    rescale=_original_rescale,
)
_REPARAM = Hypothesis(
    name="reparam",
    param_names=("beta", "tau0", "A1", "A2", "K"),
    formula="exp(-beta t) (A1 log(t + tau0) + A2) + K",
    function=_reparam,
    jacobian=_reparam_jacobian,
    start=_reparam_start,
    lower=(SMALLEST, SMALLEST, -np.inf, -np.inf, -np.inf),
    has_offset=True,
    rescale=_reparam_rescale,
)
_STEP1 = Hypothesis(
    name="step1",
    param_names=("tau", "K"),
    formula="K (1 - exp(-t / tau))",
    function=_step1,
    jacobian=_step1_jacobian,
    start=_step1_start,
    lower=(SMALLEST, -np.inf),
    has_offset=False,
    rescale=_step1_rescale,
)
_STEP2 = Hypothesis(
    name="step2",
    param_names=("zeta", "omega_n", "K"),
    formula="K s(omega_n t; zeta), s the unit step response of s'' + 2 zeta s' + s = 1",
    function=_step2,
    jacobian=_step2_jacobian,
    start=_step2_start,
    lower=(SMALLEST, SMALLEST, -np.inf),
    has_offset=False,
    rescale=_step2_rescale,
)

HYPOTHESES: dict[str, Hypothesis] = {
    h.name: h
    for h in (
        _ORIGINAL,
        _REPARAM,
        replace(_ORIGINAL, name="original_regularized", penalty=Penalty(positive=(1, 2, 3), amplitudes=(0,))),
        replace(_REPARAM, name="reparam_regularized", penalty=Penalty(positive=(0, 1), amplitudes=(2, 3))),
        _STEP1,
        _STEP2,
    )
}
"""Every hypothesis by name, in the order in which tables show them."""


def resolve(names: Iterable[str]) -> list[Hypothesis]:
    """The hypotheses of these names, in the order given.

    Raises:
        UsageError: a name is not in `HYPOTHESES`.

    >>> [h.param_names for h in resolve(["step1"])]
    [('tau', 'K')]
    """
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in HYPOTHESES]
    if unknown:
        raise UsageError(f"unknown hypothesis: {', '.join(unknown)}; known: {', '.join(HYPOTHESES)}")
    return [HYPOTHESES[name] for name in names]
