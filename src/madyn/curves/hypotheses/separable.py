"""A curve that is linear in some of its parameters: `SeparableModel`, the form in which every curve is fitted.

A curve f(x) = sum_j c_j phi_j(x; theta) is given by its basis functions phi alone. For any theta the best c is a linear
least-squares problem, so that a search only has to find theta, in a box; nothing has to be guessed to start it.

Derivatives by theta are taken by complex step (Squire and Trapp 1998): imag(phi(theta + ih))/h has no cancellation and
is exact to rounding, where differences would cost half of the digits. A basis that does not pass complex numbers
through (one with an absolute value in it, say) is noticed, and differentiated by an eighth-order difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import read, read_row
from madyn.curves.alignment import parameters
from madyn.curves.hypotheses.parts import Penalty, Published
from madyn.errors import UsageError, check_range, listed, quoted
from madyn.typing import Array

# The box is searched on a grid, whose size grows with the power of their number.
MOST_NONLINEAR = 3
_MOST_POINTS = 10**6  # of a grid along one parameter

_TINY = 1e-100
# f' = sum_m weight_m (f(x + mh) - f(x - mh)) / h, of order 8.
_DIFFERENCES = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
_STEP = 1e-2


def complex_step(theta: Array, j: int) -> tuple[Any, Array]:
    """theta (..., q), its j-th parameter moved by ih, and h (...): imag(f(theta + ih))/h is the derivative."""
    h = _TINY * np.maximum(np.abs(theta[..., j]), _TINY)
    shifted = theta.astype(complex)
    shifted[..., j] += 1j * h
    return shifted, h


@dataclass(frozen=True, eq=False)
class SeparableModel:
    """A curve that is linear in the parameters `linear` and not in `nonlinear`.

    Attributes:
        basis: `basis(x, *nonlinear)`, x of shape (n,), each nonlinear parameter of any one shape P -> P + (n, k), one
            column for each linear parameter. Where it is not finite, the parameters count as impossible.
        nonlinear: the bounds of each nonlinear parameter, in the units of x; at most three parameters. A pair of
            positive bounds is searched on a log scale.
        linear: the names of the linear parameters.
        name: what the curve is called in tables and files.
        linear_scale: the nonlinear parameters to search on a linear scale although their bounds are positive.
        points: how fine the grid is that the search starts from, one number for each nonlinear parameter; by default
            512, 96 x 96 or 32 x 32 x 32.
        derivative: `derivative(x, *nonlinear)` -> P + (n, k, q), if it is known in closed form.
        formula: one line for documentation.
        normalised: whether the curve is fitted in units of the run: steps, which count from 0, are divided by the last
            one, T; values are divided by their range R after their minimum is subtracted (`has_offset`) or, where the
            curve has no free offset and so cannot follow a shift, only divided by R = max |y|. `nonlinear` is then the
            box in normalised time. All that follows is for such curves.
        powers: of T, by which each nonlinear parameter scales from normalised time to steps.
        combine: `combine(*nonlinear)` -> P + (k, k): the linear parameters from the coefficients of the basis, where
            the basis is another one than the formula's, for the sake of rounding.
        along: for a grid along the curve's valleys, not along its parameters: products of powers of the nonlinear
            parameters, each as its powers and its bounds. All of `nonlinear` are then searched on a log scale.
        limit: `limit(*params)` -> what the curve tends to as t grows, where that is not K.
        peak: `peak(*params)` -> (step, height) of its maximum, nan where there is none, if known in closed form.
        has_offset: values are normalised by range and minimum; if False by scale alone.
        rescaled: `rescaled(T, R)` -> (p, p), where the scaling back is not diagonal.
        published: for the published method, where it knows the curve.
        penalty: None unless the fit is regularised.
        same_as: the hypothesis of which this is another parametrisation: it is fitted, and mapped.
        starts_from: a hypothesis of which this is another parametrisation, with a penalty: its basins, mapped, are
            searched from too, because a grid may miss them.
        mapped: `mapped(popt)` of the other -> (popt (..., p), its derivative by the other's (..., p, p)).

    Raises:
        UsageError: a name is used twice, bounds are not two finite numbers in ascending order, or there is no linear
            parameter, or no nonlinear one, or more than three.

    >>> decay = SeparableModel(
    ...     lambda x, rate: np.exp(-np.multiply.outer(rate, x))[..., np.newaxis],
    ...     nonlinear={"rate": (1e-3, 10.0)},
    ...     linear=("height",),
    ... )
    >>> decay.param_names, decay.num_params
    (('rate', 'height'), 2)
    >>> decay.values([0.0, 1.0], [0.5, 2.0]).round(2).tolist()
    [2.0, 1.21]
    >>> decay.gradient(np.array([1.0]), np.array([0.5])).shape  # points, linear, nonlinear parameters
    (1, 1, 1)
    >>> decay.has_limit
    False
    """

    basis: Callable[..., Any]
    nonlinear: Mapping[str, tuple[float, float]]
    linear: Sequence[str]
    name: str = "custom"
    linear_scale: Sequence[str] = ()
    points: Sequence[int] = ()
    derivative: Callable[..., Any] | None = field(default=None, repr=False)
    _: KW_ONLY
    formula: str = ""
    normalised: bool = False
    powers: tuple[int, ...] = ()
    combine: Callable[..., Array] | None = None
    along: tuple[tuple[tuple[int, ...], tuple[float, float]], ...] | None = None
    limit: Callable[..., Array] | None = None
    peak: Callable[..., tuple[Array, Array]] | None = None
    has_offset: bool = True
    rescaled: Callable[[float, float], Array] | None = None
    published: Published | None = None
    penalty: Penalty | None = None
    same_as: str | None = None
    starts_from: str | None = None
    mapped: Callable[[Array], tuple[Array, Array]] | None = None

    def __repr__(self) -> str:
        box = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in self.nonlinear.items())
        return f"<madyn {type(self).__name__} {self.name}: {box}; {', '.join(self.linear)} linear>"

    def __post_init__(self) -> None:
        if not isinstance(self.nonlinear, Mapping):
            raise UsageError(f"{self.name}: nonlinear is {quoted(self.nonlinear)}; it is a mapping of names to bounds")
        for what in ("linear", "linear_scale"):
            given = getattr(self, what)
            if isinstance(given, str) or not all(isinstance(one, str) for one in listed(f"{self.name}: {what}", given)):
                raise UsageError(f"{self.name}: {what} is {quoted(given)}; it is a tuple of names")
            object.__setattr__(self, what, tuple(given))
        points = listed(f"{self.name}: points", self.points)
        object.__setattr__(
            self, "points", tuple(check_range(f"{self.name}: points", n, 3, _MOST_POINTS) for n in points)
        )
        names = [*self.nonlinear, *self.linear]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UsageError(f"{self.name}: two parameters are called {', '.join(sorted(twice))}")
        if not self.linear:
            raise UsageError(f"{self.name}: linear is {self.linear!r}; it is a tuple of at least one name")
        if not 1 <= len(self.nonlinear) <= MOST_NONLINEAR:
            raise UsageError(
                f"{self.name} has {len(self.nonlinear)} nonlinear parameters; a search over a grid takes 1 to "
                f"{MOST_NONLINEAR}"
            )
        for name, pair in self.nonlinear.items():
            bounds = read(pair, f"{self.name}: the bounds of {name}").values
            if bounds.shape != (2,) or not np.all(np.isfinite(bounds)) or not bounds[0] < bounds[1]:
                raise UsageError(
                    f"{self.name}: the bounds of {name} are {quoted(pair)}; expected two numbers, low < high"
                )
        unknown = set(self.linear_scale) - set(self.nonlinear)
        if unknown:
            raise UsageError(f"{self.name}: linear_scale names {', '.join(sorted(unknown))}, no nonlinear parameter")
        if self.points and len(self.points) != len(self.nonlinear):
            raise UsageError(f"{self.name}: points is {self.points}; one number, 3 or more, a nonlinear parameter")

    @property
    def param_names(self) -> tuple[str, ...]:
        """All parameters in the order of popt: nonlinear first."""
        return (*self.nonlinear, *self.linear)

    @property
    def num_params(self) -> int:
        """p, the number of parameters."""
        return len(self.param_names)

    @property
    def num_nonlinear(self) -> int:
        """q, the number of nonlinear parameters."""
        return len(self.nonlinear)

    @cached_property
    def log_scale(self) -> NDArray[np.bool_]:
        """(q,), whether a nonlinear parameter is searched on a log scale."""
        return np.array([low > 0 and name not in self.linear_scale for name, (low, _) in self.nonlinear.items()])

    @cached_property
    def search_box(self) -> Array:
        """(q, 2), the bounds in search coordinates: logarithms where the scale is."""
        box = np.array(list(self.nonlinear.values()), dtype=float)
        box[self.log_scale] = np.log(box[self.log_scale])
        return box

    @cached_property
    def grid_points(self) -> tuple[int, ...]:
        """The number of grid points by nonlinear parameter."""
        return tuple(self.points) or {1: (512,), 2: (96, 96), 3: (32, 32, 32)}[self.num_nonlinear]

    @property
    def start_grid(self) -> tuple[list[Array], Array]:
        """(axes, turn): the grid's axes, and the matrix that takes its points to search coordinates, turn @ point.

        Its points may lie outside the box, where `along` is given.
        """
        if self.along is not None:
            axes = [np.geomspace(*bounds, m) for (_, bounds), m in zip(self.along, self.grid_points, strict=True)]
            return [np.log(axis) for axis in axes], np.linalg.inv([powers for powers, _ in self.along])
        axes = [np.linspace(low, high, m) for (low, high), m in zip(self.search_box, self.grid_points, strict=True)]
        return axes, np.eye(self.num_nonlinear)

    def nonlinear_at(self, u: Array) -> Array:
        """Nonlinear parameters of search coordinates u, (..., q) -> (..., q)."""
        return np.where(self.log_scale, np.exp(np.where(self.log_scale, u, 0.0)), u)

    def columns(self, x: Array, theta: Array) -> Array:
        """The basis at nonlinear parameters theta (..., q): shape (..., n, k).

        Raises:
            UsageError: the basis does not give that shape.
        """
        return self._checked(self.basis(x, *np.moveaxis(theta, -1, 0)), x, theta)

    def values(self, x: ArrayLike, params: ArrayLike) -> Array:
        """The curve with parameters (..., p) at x (n,): shape (..., n); nan where a parameter is nan.

        Labelled parameters, as `Fits.to_dataset` and `Dataset.fits` give them, are taken by name.
        """
        x, params = read_row(x, "steps"), parameters(params, self.param_names, self.name)[0]
        if self.published is not None:
            return self.published.function(x, *np.moveaxis(params, -1, 0)[..., np.newaxis])
        theta, linear = params[..., : self.num_nonlinear], params[..., self.num_nonlinear :]
        with np.errstate(all="ignore"):
            return np.einsum("...nk,...k->...n", self.columns(x, theta), linear)

    @property
    def moves(self) -> bool:
        """Whether a shift of the values is in its K: it then takes the minimum that was subtracted."""
        return self.normalised and self.has_offset

    def rescale(self, T: float, R: float) -> Array:
        """(p, p) matrix M: raw parameters are M @ normalised ones (plus the minimum, for K, if `moves`)."""
        if self.rescaled is not None:
            return self.rescaled(T, R)
        powers = self.powers or (0,) * self.num_nonlinear
        return np.diag([*(T ** float(power) for power in powers), *(R for _ in self.linear)])

    def combine_matrix(self, theta: Array) -> Array:
        """M (..., k, k): the formula's linear parameters are M @ coefficients of the basis."""
        if self.combine is None:
            return np.broadcast_to(np.eye(len(self.linear)), (*theta.shape[:-1], *2 * (len(self.linear),)))
        return self.combine(*np.moveaxis(theta, -1, 0))

    @property
    def has_limit(self) -> bool:
        """Whether it is known what the curve tends to."""
        return self.limit is not None or (self.normalised and "K" in self.linear)

    def limit_of(self, params: Array) -> Array:
        """(...), what curves with parameters (..., p) tend to; nan where a parameter is, or where that is not known."""
        if self.limit is not None:
            with np.errstate(all="ignore"):
                limit = np.asarray(self.limit(*np.moveaxis(params, -1, 0)), float)
            return np.where(np.any(np.isnan(params), axis=-1), np.nan, limit)
        if self.has_limit:
            return params[..., self.param_names.index("K")]
        return np.full(params.shape[:-1], np.nan)

    def gradient(self, x: Array, theta: Array) -> Array:
        """Derivatives of the basis by the nonlinear parameters (not by search coordinates), (..., n, k, q)."""
        if self.derivative is not None:
            return np.asarray(self.derivative(x, *np.moveaxis(theta, -1, 0)), float)
        by = [self._by_one(x, theta, j) for j in range(self.num_nonlinear)]
        return np.stack(by, axis=-1)

    def _by_one(self, x: Array, theta: Array, j: int) -> Array:
        if not self._passes_complex(x):
            return self._difference(x, theta, j, _STEP)
        return self._complex_step(x, theta, j)

    def _complex_step(self, x: Array, theta: Array, j: int) -> Array:
        shifted, h = complex_step(theta, j)
        return self._checked(self.basis(x, *np.moveaxis(shifted, -1, 0)), x, theta).imag / h[..., None, None]

    def _difference(self, x: Array, theta: Array, j: int, share: float) -> Array:
        width = np.ptp(np.array(list(self.nonlinear.values())[j]))
        h = share * (np.abs(theta[..., j]) if self.log_scale[j] else np.full(theta.shape[:-1], width / 10))
        total = np.zeros(1)
        for m, weight in _DIFFERENCES.items():
            for sign in (1, -1):
                shifted = theta.copy()
                shifted[..., j] += sign * m * h
                total = total + sign * weight * self.columns(x, shifted)
        return total / h[..., None, None]

    def _passes_complex(self, x: Array) -> bool:
        """Whether complex steps give the derivatives: tried once, at points where differences are reliable."""
        if "_complex" not in self.__dict__:
            try:
                with np.errstate(all="ignore"):
                    self.__dict__["_complex"] = self._complex_agrees(x)
            except (TypeError, ValueError, IndexError):
                self.__dict__["_complex"] = False
        return self.__dict__["_complex"]

    def _complex_agrees(self, x: Array) -> bool:
        low, high = self.search_box.T
        theta = self.nonlinear_at(low + (high - low) * np.linspace(0.1, 0.9, 9)[:, np.newaxis])
        for j in range(self.num_nonlinear):
            exact = self._complex_step(x, theta, j)
            coarse, fine = self._difference(x, theta, j, _STEP), self._difference(x, theta, j, _STEP / 4)
            size = np.max(np.abs(np.where(np.isfinite(fine), fine, 0)), axis=(-2, -1), keepdims=True)
            level = np.max(np.abs(self.columns(x, theta)), axis=(-2, -1), keepdims=True)
            change = size * np.maximum(np.abs(theta[:, j]), 1e-3)[:, np.newaxis, np.newaxis]
            reliable = (np.abs(coarse - fine) <= 1e-4 * size) & (change > 1e-6 * level)
            if np.any(reliable & ~(np.abs(exact - fine) <= 1e-3 * size)):
                return False
        return True

    def _checked(self, columns: Any, x: Array, theta: Array) -> Any:
        columns = np.asarray(columns)
        expected = (*theta.shape[:-1], x.size, len(self.linear))
        if columns.shape != expected:
            raise UsageError(
                f"the basis of {self.name} gives shape {columns.shape} for parameters of shape {theta.shape[:-1]} and "
                f"{x.size} points; expected {expected}: (..., n, k), one column for each of {', '.join(self.linear)}"
            )
        return columns
