"""The hypotheses: the curve families that a trajectory may follow, one entry of `HYPOTHESES` each.

An entry is a `SeparableModel` in normalised units with what is needed to go there and back: steps are divided by the
last step T; values are divided by their range R after their minimum is subtracted (`has_offset`), or, where the curve
has no free offset and so cannot follow a shift, only divided by R = max |y|. All curves keep their form under this, and
their parameters scale back linearly, so that covariances scale back exactly too. The bounds of an entry are therefore
the box in normalised time that every search of it stays in. A new hypothesis is one more entry, and nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import read_row
from madyn.curves.alignment import parameters
from madyn.curves.hypotheses import published_curves, rivals
from madyn.curves.hypotheses.reparametrisation import original_of_reparam
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.errors import UsageError

Array = NDArray[np.float64]
Bounds = tuple[float, float]

# Positive parameters are bounded below by this, in normalised units, so that logarithms stay defined at step 0.
SMALLEST = 1e-10


@dataclass(frozen=True)
class Penalty:
    r"""Keeps a fit off its degenerate directions, as extra residual rows in normalised units.

    The sum of squares that is minimised becomes

        RSS + noise^2 [ sum_j ((log theta_j - log theta_j0) / log_width)^2 + sum_k (a_k / amplitude_width)^2 ]

    over the positive parameters theta_j, theta_0 the start of the published search, and the amplitudes a_k. This is
    the maximum a posteriori fit for noise of standard deviation `noise` (a share of the series' range), a prior that
    each theta_j lies within a factor exp(log_width) of its start, and amplitudes within `amplitude_width` ranges of
    zero. The baseline K is left free: data determine it once the amplitudes are bounded.

    With the defaults, a parameter 100 times its start costs what a rise of the RSS by 0.002 squared ranges would (about
    0.0007 of R2 for a series of 37 points); and the directions lam -> 0 with A -> inf, tau0 -> inf, and A against gamma
    and t0, are no longer flat.

    Attributes:
        positive: indices of the theta_j, the nonlinear parameters.
        amplitudes: indices of the a_k, linear parameters.
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
class Published:
    """What the published single-start search needs to know of a curve, in normalised units.

    Attributes:
        function: `function(t, *params)` -> values; t and parameters broadcast. NaN where the curve is not defined.
        jacobian: `jacobian(t, *params)` -> the derivatives by the parameters, shape (..., n, p).
        start: `start(t, y)` -> (p,).
        lower: bounds below, (p,). Above, no parameter is bounded.
    """

    function: Callable[..., Array]
    jacobian: Callable[..., Array]
    start: Callable[[Array, Array], Array]
    lower: tuple[float, ...]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Hypothesis(SeparableModel):
    """A curve family that is built in. `nonlinear` is its box in normalised time.

    Attributes:
        formula: one line for documentation.
        powers: of T, by which each nonlinear parameter scales from normalised time to steps.
        combine: `combine(*nonlinear)` -> P + (k, k): the linear parameters from the coefficients of the basis, where
            the basis is another one than the formula's, for the sake of rounding.
        along: for a grid along the curve's valleys, not along its parameters: products of powers of the nonlinear
            parameters, each as its powers and its bounds. All of `nonlinear` are then searched on a log scale.
        limit: `limit(*params)` -> what the curve tends to as t grows, where that is not K.
        has_offset: values are normalised by range and minimum; if False by scale alone.
        rescaled: `rescaled(T, R)` -> (p, p), where the scaling back is not diagonal.
        published: for the published method, where it knows the curve.
        penalty: None unless the fit is regularised.
        same_as: the hypothesis of which this is another parametrisation: it is fitted, and mapped.
        starts_from: a hypothesis of which this is another parametrisation, with a penalty: its basins, mapped, are
            searched from too, because a grid may miss them.
        mapped: `mapped(popt)` of the other -> (popt (..., p), its derivative by the other's (..., p, p)).
    """

    formula: str
    powers: tuple[int, ...]
    combine: Callable[..., Array] | None = None
    along: tuple[tuple[tuple[int, ...], Bounds], ...] | None = None
    limit: Callable[..., Array] | None = None
    has_offset: bool = True
    rescaled: Callable[[float, float], Array] | None = None
    published: Published | None = None
    penalty: Penalty | None = None
    same_as: str | None = None
    starts_from: str | None = None
    mapped: Callable[[Array], tuple[Array, Array]] | None = None

    @property
    def start_grid(self) -> tuple[list[Array], Array]:
        """As `SeparableModel.start_grid`; its points may lie outside the box, where `along` is given."""
        if self.along is None:
            return super().start_grid
        axes = [np.geomspace(*bounds, m) for (_, bounds), m in zip(self.along, self.grid_points, strict=True)]
        axes = [np.log(axis) for axis in axes]
        return axes, np.linalg.inv([powers for powers, _ in self.along])

    def rescale(self, T: float, R: float) -> Array:
        """(p, p) matrix M: raw parameters are M @ normalised ones (plus the minimum, for K, if `has_offset`)."""
        if self.rescaled is not None:
            return self.rescaled(T, R)
        return np.diag([*(T ** float(power) for power in self.powers), *(R for _ in self.linear)])

    def combine_matrix(self, theta: Array) -> Array:
        """M (..., k, k): the formula's linear parameters are M @ coefficients of the basis."""
        if self.combine is None:
            return np.broadcast_to(np.eye(len(self.linear)), (*theta.shape[:-1], *2 * (len(self.linear),)))
        return self.combine(*np.moveaxis(theta, -1, 0))

    def values(self, x: ArrayLike, params: ArrayLike) -> Array:
        """The curve with parameters (..., p) at steps x (n,), in the units of both: shape (..., n)."""
        x, params = read_row(x, "steps"), parameters(params, self.param_names, self.name)[0]
        if self.published is not None:
            return self.published.function(x, *np.moveaxis(params, -1, 0)[..., np.newaxis])
        return super().values(x, params)


def _with_penalty(entry: dict, name: str, penalty: Penalty, **changes: object) -> Hypothesis:
    return Hypothesis(**{**entry, "name": name, "penalty": penalty, **changes})


_ORIGINAL = {
    "formula": "A exp(-lam x) log(x) + K, x = gamma t + t0",
    "basis": published_curves.original_basis,
    "derivative": published_curves.original_derivative,
    "nonlinear": {"lam": (1e-10, 1e10), "gamma": (1e-10, 1e10), "t0": (1e-10, 1e10)},
    "linear": ("A", "K"),
    "powers": (0, -1, 0),
    "published": Published(
        function=published_curves.original,
        jacobian=published_curves.original_jacobian,
        start=published_curves.original_start,
        lower=(SMALLEST, SMALLEST, SMALLEST, -np.inf, -np.inf),
    ),
}
_REPARAM = {
    "formula": "exp(-beta t) (A1 log(t + tau0) + A2) + K",
    "basis": published_curves.reparam_basis,
    "derivative": published_curves.reparam_derivative,
    "combine": published_curves.reparam_combine,
    "nonlinear": {"beta": (1e-4, 1e4), "tau0": (1e-7, 1e3)},
    "linear": ("A1", "A2", "K"),
    "points": (145, 61),
    "powers": (-1, 1),
    "rescaled": published_curves.reparam_rescale,
    "published": Published(
        function=published_curves.reparam,
        jacobian=published_curves.reparam_jacobian,
        start=published_curves.reparam_start,
        lower=(SMALLEST, SMALLEST, -np.inf, -np.inf, -np.inf),
    ),
}
_ENTRIES = (
    Hypothesis(name="original", same_as="reparam", mapped=original_of_reparam, **_ORIGINAL),
    Hypothesis(name="reparam", **_REPARAM),
    # The penalty holds each of the three within a few factors of e^3 of its start: the box needs no more.
    _with_penalty(
        _ORIGINAL,
        "original_regularized",
        Penalty(positive=(0, 1, 2), amplitudes=(3,)),
        nonlinear={"lam": (1e-5, 1e5), "gamma": (1e-5, 1e6), "t0": (1e-6, 1e4)},
        # lam gamma is reparam's beta and t0/gamma its tau0, which say most of a curve's shape.
        along=(((1, 1, 0), (1e-4, 1e4)), ((0, -1, 1), (1e-6, 1e3)), ((0, 1, 0), (1e-4, 1e5))),
        points=(25, 17, 9),
        starts_from="reparam",
        mapped=original_of_reparam,
    ),
    _with_penalty(_REPARAM, "reparam_regularized", Penalty(positive=(0, 1), amplitudes=(2, 3))),
    Hypothesis(
        name="step1",
        formula="K (1 - exp(-t / tau))",
        basis=published_curves.step1_basis,
        nonlinear={"tau": (1e-7, 1e3)},
        linear=("K",),
        points=(161,),
        powers=(1,),
        has_offset=False,
        published=Published(
            function=published_curves.step1,
            jacobian=published_curves.step1_jacobian,
            start=published_curves.step1_start,
            lower=(SMALLEST, -np.inf),
        ),
    ),
    Hypothesis(
        name="step2",
        formula="K s(omega_n t; zeta), s the unit step response of s'' + 2 zeta s' + s = 1",
        basis=published_curves.step2_basis,
        derivative=published_curves.step2_derivative,
        nonlinear={"zeta": (5e-2, 5e1), "omega_n": (1e-2, 1e4)},
        linear=("K",),
        points=(25, 481),
        powers=(0, -1),
        has_offset=False,
        published=Published(
            function=published_curves.step2,
            jacobian=published_curves.step2_jacobian,
            start=published_curves.step2_start,
            lower=(SMALLEST, SMALLEST, -np.inf),
        ),
    ),
    Hypothesis(
        name="power_law",
        formula="A ((1 + t/tau)^p - 1)/p + K",
        basis=rivals.power_law_basis,
        nonlinear={"tau": (1e-7, 1e3), "p": (-5.0, 3.0)},
        linear=("A", "K"),
        points=(97, 49),
        powers=(1, 0),
        limit=rivals.power_law_limit,
    ),
    Hypothesis(
        name="double_exponential",
        formula="A1 exp(-t/tau) + A2 exp(-t/(rho tau)) + K",
        basis=rivals.double_exponential_basis,
        nonlinear={"tau": (1e-6, 1e1), "rho": (1.1, 1e4)},
        along=(((1, 0), (1e-6, 1e1)), ((1, 1), (1e-5, 1e3))),
        linear=("A1", "A2", "K"),
        points=(97, 97),
        powers=(1, 0),
    ),
    Hypothesis(
        name="logistic_log",
        formula="A / (1 + (t_half/t)^k) + K",
        basis=rivals.logistic_log_basis,
        nonlinear={"t_half": (1e-7, 1e2), "k": (0.1, 20.0)},
        linear=("A", "K"),
        points=(61, 25),
        powers=(1, 0),
        limit=rivals.logistic_log_limit,
    ),
    Hypothesis(
        name="stretched_exponential",
        formula="A exp(-(t/tau)^b) + K",
        basis=rivals.stretched_exponential_basis,
        nonlinear={"tau": (1e-7, 1e2), "b": (0.1, 10.0)},
        linear=("A", "K"),
        points=(61, 25),
        powers=(1, 0),
    ),
)

HYPOTHESES: dict[str, Hypothesis] = {hypothesis.name: hypothesis for hypothesis in _ENTRIES}
"""Every hypothesis by name, in the order in which tables show them."""

PUBLISHED = tuple(name for name, hypothesis in HYPOTHESES.items() if hypothesis.published is not None)
"""The hypotheses of the published dataset, those that a dataset is fitted with unless others are asked for."""


def resolve(names: Iterable[str | SeparableModel]) -> list[SeparableModel]:
    """The hypotheses of these names, in the order given; a model stands for itself.

    Raises:
        UsageError: a name is not in `HYPOTHESES`.

    >>> [h.param_names for h in resolve(["step1"])]
    [('tau', 'K')]
    """
    names = [names] if isinstance(names, str | SeparableModel) else list(names)
    unknown = [str(name) for name in names if isinstance(name, str) and name not in HYPOTHESES]
    if unknown:
        raise UsageError(f"unknown hypothesis: {', '.join(unknown)}; known: {', '.join(HYPOTHESES)}")
    return [HYPOTHESES[name] if isinstance(name, str) else name for name in names]
