"""A curve that is linear in some of its parameters: `SeparableModel`, the form in which every curve is fitted.

A curve f(x) = sum_j c_j phi_j(x; theta) is given by its basis functions phi alone. For any theta the best c is a linear
least-squares problem, so that a search only has to find theta, in a box; nothing has to be guessed to start it.

Derivatives by theta are taken by complex step (Squire and Trapp 1998): imag(phi(theta + ih))/h has no cancellation and
is exact to rounding, where differences would cost half of the digits. A basis that does not pass complex numbers
through (one with an absolute value in it, say) is noticed, and differentiated by an eighth-order difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import read, read_row
from madyn.curves.alignment import parameters
from madyn.errors import UsageError

Array = NDArray[np.float64]

# The box is searched on a grid, whose size grows with the power of their number.
MOST_NONLINEAR = 3

_TINY = 1e-100
# f' = sum_m weight_m (f(x + mh) - f(x - mh)) / h, of order 8.
_DIFFERENCES = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
_STEP = 1e-2


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

    Raises:
        UsageError: a name is used twice, bounds are not two finite numbers in ascending order, or there is no linear
            parameter, or no nonlinear one, or more than three.

    >>> decay = SeparableModel(
    ...     lambda x, rate: np.exp(-np.multiply.outer(rate, x))[..., np.newaxis],
    ...     nonlinear={"rate": (1e-3, 10.0)},
    ...     linear=("height",),
    ... )
    >>> decay.param_names
    ('rate', 'height')
    """

    basis: Callable[..., Any]
    nonlinear: Mapping[str, tuple[float, float]]
    linear: Sequence[str]
    name: str = "custom"
    linear_scale: Sequence[str] = ()
    points: Sequence[int] = ()
    derivative: Callable[..., Any] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        box = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in self.nonlinear.items())
        return f"<madyn {type(self).__name__} {self.name}: {box}; {', '.join(self.linear)} linear>"

    def __post_init__(self) -> None:
        names = [*self.nonlinear, *self.linear]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UsageError(f"{self.name}: two parameters are called {', '.join(sorted(twice))}")
        if not self.linear or isinstance(self.linear, str):
            raise UsageError(f"{self.name}: linear is {self.linear!r}; it is a tuple of at least one name")
        if not 1 <= len(self.nonlinear) <= MOST_NONLINEAR:
            raise UsageError(
                f"{self.name} has {len(self.nonlinear)} nonlinear parameters; a search over a grid takes 1 to "
                f"{MOST_NONLINEAR}"
            )
        for name, pair in self.nonlinear.items():
            bounds = read(pair, f"{self.name}: the bounds of {name}").values
            if bounds.shape != (2,) or not np.all(np.isfinite(bounds)) or not bounds[0] < bounds[1]:
                raise UsageError(f"{self.name}: the bounds of {name} are {pair}; expected two numbers, low < high")
        unknown = set(self.linear_scale) - set(self.nonlinear)
        if unknown:
            raise UsageError(f"{self.name}: linear_scale names {', '.join(sorted(unknown))}, no nonlinear parameter")
        if self.points and (len(self.points) != len(self.nonlinear) or min(self.points) < 3):
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
        """(axes, turn): the grid's axes, and the matrix that takes its points to search coordinates, turn @ point."""
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
        theta, linear = params[..., : self.num_nonlinear], params[..., self.num_nonlinear :]
        with np.errstate(all="ignore"):
            return np.einsum("...nk,...k->...n", self.columns(x, theta), linear)

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
        h = _TINY * np.maximum(np.abs(theta[..., j]), _TINY)
        shifted = theta.astype(complex)
        shifted[..., j] += 1j * h
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
