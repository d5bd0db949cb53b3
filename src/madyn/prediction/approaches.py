"""Ways to predict a curve from features: five that learn, and two baselines that a learner must beat.

All learn the same coordinates (principal components of the log curves, means over seeds) from the same features, and
all give a curve and its relative uncertainty, which calibration then scales. `madyn evaluate` scores them side by side
on architectures that none of them has seen. Adding one is one entry of `APPROACHES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from madyn.errors import UsageError, missing_dependency
from madyn.prediction.approach import Approach, Fitted, Inputs, Settings
from madyn.prediction.inputs import DEPTH
from madyn.prediction.principal_components import LEAST_SPREAD, Coordinates
from madyn.prediction.table import CurveTable
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


def approach_named(name: str) -> Approach:
    """Raises UsageError where there is none of this name."""
    if name not in APPROACHES:
        raise UsageError(f"there is no approach {name!r}; there are {', '.join(APPROACHES)}")
    return APPROACHES[name]


@dataclass(frozen=True)
class _Regression:
    """A regressor of coordinates. Its uncertainty is the spread of all curves, (P,), more of it with the
    leverage of a row in a linear regression; calibration does the rest."""

    inputs: Inputs
    coordinates: Coordinates
    estimator: Any
    precision: Array
    spread: Array
    settings: Settings

    def predict(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        x = self.inputs(rows)
        z = np.asarray(self.estimator.predict(x)).reshape(len(x), -1)
        x1 = np.column_stack([np.ones(len(x)), x])
        leverage = np.einsum("ij,jk,ik->i", x1, self.precision, x1)
        return self.coordinates.back(z), np.sqrt(1 + leverage)[:, np.newaxis] * self.spread


def _regression(make: Callable[[int], Any]) -> Callable[[CurveTable, int, Settings | None], Fitted]:
    def fit(table: CurveTable, seed: int, settings: Settings | None) -> Fitted:
        inputs, coordinates = Inputs(table), Coordinates.of(table.curves)
        x, z = inputs(table.rows), coordinates.forward(table.curves)
        estimator = make(seed).fit(x, z)
        x1 = np.column_stack([np.ones(len(x)), x])
        precision = np.asarray(np.linalg.pinv(x1.T @ x1 + np.eye(x1.shape[1])), float)
        spread = np.maximum(table.curves.std(axis=0), LEAST_SPREAD)
        return _Regression(inputs, coordinates, estimator, precision, spread, {})

    return fit


def _ridge(seed: int) -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    alphas = np.logspace(-1, 3, 9)
    return make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), RidgeCV(alphas))


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=seed)


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.multioutput import MultiOutputRegressor

    one = GradientBoostingRegressor(
        n_estimators=60, learning_rate=0.1, max_depth=3, subsample=0.7, max_features=0.7, random_state=seed
    )
    return MultiOutputRegressor(one)


@dataclass(frozen=True)
class _Mixture:
    """The mean of several, with the uncertainty of the first."""

    parts: list[Fitted]

    @property
    def settings(self) -> Settings:
        return {str(i): part.settings for i, part in enumerate(self.parts)}

    def predict(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        curves, spreads = zip(*(part.predict(rows) for part in self.parts), strict=True)
        return np.mean(curves, axis=0), spreads[0]


MIXED = ("gaussian_process", "ridge", "random_forest")
"""What the mixture is of."""


def _mixture(table: CurveTable, seed: int, settings: Settings | None) -> Fitted:
    fits = (
        APPROACHES[name].fit(table, seed, None if settings is None else settings[str(i)])
        for i, name in enumerate(MIXED)
    )
    return _Mixture(list(fits))


@dataclass(frozen=True)
class _Baseline:
    """Curves of known architectures, taken over: all of them, or those that are nearest in shape."""

    table: CurveTable
    inputs: Inputs
    nearest: bool
    settings: Settings

    def predict(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        curves = np.empty((len(rows), len(self.table.positions)))
        cells = self.table.rows["cell"].to_numpy()
        first = np.unique(cells, return_index=True)[1]
        known = self.inputs.shape(self.table.rows.iloc[first])
        depth = self.table.rows[DEPTH].to_numpy(float)
        for i, (shape, at) in enumerate(zip(self.inputs.shape(rows), rows[DEPTH].to_numpy(float), strict=True)):
            distance = np.square(known - shape).sum(axis=1)
            chosen = cells[first] if not self.nearest else cells[first[[int(distance.argmin())]]]
            curves[i] = np.mean([self._at(cells == cell, depth, at) for cell in chosen], axis=0)
        return curves, np.ones_like(curves)

    def _at(self, mask: NDArray[np.bool_], depth: Array, at: float) -> Array:
        """A model's curve at a relative depth: between its layers, a mean of the two."""
        depths, curves = depth[mask], self.table.curves[mask]
        above = min(int(np.searchsorted(depths, at)), len(depths) - 1)
        below = max(0, above - 1) if depths[above] > at else above
        gap = depths[above] - depths[below]
        share = (at - depths[below]) / gap if gap else 0.0
        return (1 - share) * curves[below] + share * curves[above]


def _mean_curve(table: CurveTable, seed: int, settings: Settings | None) -> Fitted:
    return _Baseline(table, Inputs(table), nearest=False, settings={})


def _nearest(table: CurveTable, seed: int, settings: Settings | None) -> Fitted:
    return _Baseline(table, Inputs(table), nearest=True, settings={})


def _gaussian_process(table: CurveTable, seed: int, settings: Settings | None) -> Fitted:
    try:
        from madyn.prediction.gaussian_process import fit_process
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    return fit_process(table, Inputs(table), settings)


APPROACHES: Mapping[str, Approach] = {
    "gaussian_process": Approach("Gaussian process", _gaussian_process),
    "ridge": Approach("ridge, quadratic", _regression(_ridge)),
    "random_forest": Approach("random forest", _regression(_forest)),
    "gradient_boosting": Approach("gradient boosting", _regression(_boosting)),
    "mixture": Approach("mixture of the first three", _mixture),
    "mean_curve": Approach("mean curve by depth", _mean_curve),
    "nearest": Approach("nearest architecture", _nearest),
}
"""The approaches by name."""
