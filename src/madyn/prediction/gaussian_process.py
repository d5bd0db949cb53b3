"""The Gaussian process over shapes and depths that predicts by default.

Layers of one model are no independent witnesses: what a seed, or the shape beyond what the features say, does to a
model it does to all its layers. A process that is not told takes that for a wiggle of the law and chases it. So the
covariance of two layers has four parts:

- a straight line in all features (sizes are logarithms, so this is a power law);
- a smooth departure from it, with a length scale for each feature;
- what a model has of its own, shared among its layers by a smooth function of depth, and with no other model, not even
  the next of its shape;
- noise of the single layer.

It is the mixed model of statistics (Laird & Ware 1982) with Gaussian process priors (Rasmussen & Williams 2006). The
coordinates are standardised and share the hyper-parameters, which maximise the marginal likelihood.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Hyperparameter, Kernel, WhiteKernel

from madyn.prediction.approach import Inputs, Settings
from madyn.prediction.principal_components import Coordinates
from madyn.prediction.table import CurveTable
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


_UNTYPED: Any = (DotProduct, RBF, ConstantKernel, WhiteKernel)
_OF_LAYER = 3  # inputs that say where a layer stands, the last ones
_VARIANCE = (1e-3, 1e2)
_SHORTEST, _LONGEST = 1.5, 100.0  # length scales, in standard deviations of a feature


class OnColumns(Kernel):
    """Another kernel, of some columns only. scikit-learn's own kernels take all."""

    def __init__(self, kernel: Kernel, columns: slice) -> None:
        self.kernel = kernel
        self.columns = columns

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        settings: dict[str, Any] = {"kernel": self.kernel, "columns": self.columns}
        if deep:
            settings |= {f"kernel__{name}": value for name, value in self.kernel.get_params().items()}
        return settings

    @property
    def hyperparameters(self) -> list[Any]:
        return [
            Hyperparameter(f"kernel__{h.name}", h.value_type, h.bounds, h.n_elements, h.fixed)
            for h in self.kernel.hyperparameters
        ]

    @property
    def theta(self) -> Array:
        return self.kernel.theta

    @theta.setter
    def theta(self, theta: Array) -> None:
        self.kernel.theta = theta

    @property
    def bounds(self) -> Array:
        return self.kernel.bounds

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        other = None if Y is None else Y[:, self.columns]
        if eval_gradient:
            return self.kernel(X[:, self.columns], other, eval_gradient=True)
        return self.kernel(X[:, self.columns], other)

    def diag(self, X: Array) -> Any:
        return self.kernel.diag(X[:, self.columns])

    def is_stationary(self) -> Any:
        return self.kernel.is_stationary()

    def __repr__(self) -> str:
        return f"OnColumns({self.kernel!r}, {self.columns})"


@dataclass(frozen=True)
class _Process:
    inputs: Inputs
    coordinates: Coordinates
    regressor: GaussianProcessRegressor
    settings: Settings

    def predict(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        """Of models yet to be trained, also where the shape is one that was: what a trained model has of its own is not
        carried over to the next of its shape, since most of it is its seed's chance."""
        x = self.inputs(rows)
        fitted: Any = self.regressor
        across = _shared(fitted.kernel_)(x, fitted.X_train_)
        solved = solve_triangular(fitted.L_, across.T, lower=True)
        sd = np.sqrt(np.maximum(fitted.kernel_.diag(x) - np.square(solved).sum(axis=0), 1e-12))
        # The coordinates share their hyper-parameters and, being standardised, their uncertainty.
        z = (across @ fitted.alpha_).reshape(len(x), -1)
        return self.coordinates.back(z), self.coordinates.spread(np.repeat(sd[:, np.newaxis], z.shape[1], axis=1))


def fit_process(table: CurveTable, inputs: Inputs, settings: Settings | None) -> _Process:
    """Fit to curves that are averaged over seeds; with settings, the hyper-parameters are taken over."""
    coordinates = Coordinates.of(table.curves)
    kernel = _kernel(len(inputs.of_model))
    if settings is not None:
        theta = np.asarray(settings["theta"], float)
        if theta.shape != kernel.theta.shape or (np.abs(theta - np.clip(theta, *kernel.bounds.T)) > 1e-6).any():
            raise ValueError("hyper-parameters outside the bounds of this version of madyn")
        kernel = kernel.clone_with_theta(theta)
    optimizer: Any = None if settings else "fmin_l_bfgs_b"
    regressor = GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=optimizer)
    with warnings.catch_warnings():
        # A length scale on its bound says that a feature does nothing, which is an answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regressor.fit(inputs(table.rows), coordinates.forward(table.curves))
    fitted: Any = regressor.kernel_
    return _Process(inputs, coordinates, regressor, {"theta": [float(value) for value in fitted.theta]})


def _shared(kernel: Any) -> Any:
    """The part of `_kernel` that one model shares with another: the line and the smooth departure."""
    without_noise = kernel.k1
    return without_noise if isinstance(without_noise.k1, DotProduct) else without_noise.k1


def _kernel(of_model: int) -> Any:
    # scikit-learn's annotations know no length scale for each feature, and no fixed one.
    dot_product, rbf, constant, white = _UNTYPED
    scales = (_SHORTEST, _LONGEST)
    # The line's slopes are left almost free: shrunk, they would draw what lies outside the data to the mean.
    line = dot_product(1.0, "fixed")
    smooth = constant(0.5, _VARIANCE) * rbf(np.full(of_model + _OF_LAYER, 2.0), scales)
    noise = white(0.1, (1e-4, 1.0))
    if not of_model:
        return line + smooth + noise
    same_model = OnColumns(rbf(1e-3, "fixed"), slice(0, of_model))
    over_depth = OnColumns(rbf(np.ones(_OF_LAYER), (0.3, _LONGEST)), slice(of_model, of_model + _OF_LAYER))
    return line + smooth + constant(0.2, _VARIANCE) * same_model * over_depth + noise
