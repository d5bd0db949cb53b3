"""One number of a whole model, predicted with an interval: its held-out loss by a regression of its own.

The curves come from the predictor; how well a model will have learned its text is not among them, and a design with
small activations that learns nothing is no design. The loss of small families is smooth in the logarithms of the
sizes: a quadratic with a penalty that each fit chooses for itself. On the shipped suite a Gaussian process does no
better when its hyper-parameters, too, are chosen without the architecture that is left out, and takes far longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from madyn.errors import missing_dependency
from madyn.prediction.approach import Inputs
from madyn.prediction.cautions import ENOUGH_ARCHITECTURES
from madyn.prediction.conformal import Calibration
from madyn.prediction.inputs import DEPTH, Subject, of_model
from madyn.prediction.predictor import QUANTILES
from madyn.prediction.scoring import r_squared
from madyn.prediction.table import CurveTable
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


_PENALTIES = np.logspace(-2, 3, 11)


@dataclass(frozen=True)
class Evidence:
    """How one number of a model was predicted for what was left out.

    Attributes:
        left_out: what that was: "architectures", or where wirings vary "shapes" (each in all its wirings) or "runs"
            (each from the other seeds of its shape and wiring). What is said of architectures is said of these.
        calibration: from their residuals.
        r2: of the calibrated medians, over architectures' means; each is calibrated without its own residuals. nan
            where there is one architecture only, or all have the same number.
        coverage: share of the left-out runs within their 90 % interval, each architecture counting for one. nan where
            there is one architecture only.
    """

    calibration: Calibration
    r2: float
    coverage: float
    left_out: str = "architectures"

    @classmethod
    def of(
        cls,
        observed: Array,
        predicted: Array,
        uncalibrated: Array,
        groups: NDArray[np.intp],
        left_out: str = "architectures",
    ) -> Self:
        """From single runs and their predictions by a fit without their architecture, all (n,)."""
        calibration = _calibration(observed, predicted, uncalibrated, groups)
        distinct, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if len(distinct) < 2:
            return cls(calibration, np.nan, np.nan, left_out)
        bounds = np.empty((3, len(observed)))
        for group in distinct:
            mine = groups == group
            others = _calibration(observed[~mine], predicted[~mine], uncalibrated[~mine], groups[~mine])
            bounds[:, mine] = _interval(others, predicted[mine], uncalibrated[mine])
        low, middle, high = bounds
        inside = (observed >= low) & (observed <= high)
        coverage = float(np.mean(np.bincount(number, inside) / counts))
        seen, said = (np.bincount(number, values) / counts for values in (observed, middle))
        return cls(calibration, r_squared(seen, said), coverage, left_out)

    def interval(self, value: Array, uncalibrated: Array, more: float = 0.0) -> tuple[Array, Array, Array]:
        """The 0.05, 0.5 and 0.95 quantiles for a single run, each (n,).

        Args:
            value: predictions before calibration, (n,).
            uncalibrated: their standard deviations before calibration, (n,).
            more: a standard deviation that no residual could show, in the unit of the value.
        """
        return _interval(self.calibration, value, uncalibrated, more)


def _calibration(observed: Array, predicted: Array, uncalibrated: Array, groups: NDArray[np.intp]) -> Calibration:
    return Calibration.of((observed - predicted)[:, np.newaxis], uncalibrated[:, np.newaxis], groups)


def _interval(
    calibration: Calibration, value: Array, uncalibrated: Array, more: float = 0.0
) -> tuple[Array, Array, Array]:
    width = np.hypot(uncalibrated * calibration.scale[0], more)
    low, middle, high = (value + calibration.quantile(p) * width for p in QUANTILES)
    return low, middle, high


@dataclass(frozen=True)
class LossLaw:
    """Held-out losses at the end of training, in nats a token, from shapes and training.

    Attributes:
        evidence: what it did on architectures left out in turn.
    """

    fitted: _Quadratic
    evidence: Evidence

    def interval(self, subjects: Sequence[Subject]) -> tuple[Array, Array, Array]:
        """The 0.05, 0.5 and 0.95 quantiles of the loss of a single run of each of n models, each (n,)."""
        import pandas as pd

        rows = pd.DataFrame([of_model(subject) for subject in subjects]).assign(**{DEPTH: 0.0})
        return self.evidence.interval(*self.fitted.predict(rows))


def fit_losses(
    table: CurveTable, groups: NDArray[np.intp] | None = None, left_out: str = "architectures"
) -> LossLaw | None:
    """Learn the losses of a table; None where fewer than five architectures have one, or nothing varies among them.

    Args:
        groups: a number for each of the table's rows, of what is left out in turn; by default its architectures.
        left_out: what these are, in a word.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    own = table.groups if groups is None else groups
    rows = table.rows.assign(left_out=own).drop_duplicates("model")
    rows = rows.loc[rows["model"].isin(list(table.losses))].reset_index(drop=True)
    groups = np.asarray(rows["left_out"], np.intp)
    distinct = np.unique(groups)
    if rows["group"].nunique() < ENOUGH_ARCHITECTURES or len(distinct) < 2 or not table.features:
        return None
    losses = np.array([table.losses[model] for model in rows["model"]])
    predicted, uncalibrated = np.empty_like(losses), np.empty_like(losses)
    for group in distinct:
        mine = groups == group
        part = _quadratic(table, rows.loc[~mine], losses[~mine])
        predicted[mine], uncalibrated[mine] = part.predict(rows.loc[mine])
    return LossLaw(_quadratic(table, rows, losses), Evidence.of(losses, predicted, uncalibrated, groups, left_out))


@dataclass(frozen=True)
class _Quadratic:
    """A penalised quadratic; its uncertainty, in units of the residual, grows with the leverage of a row."""

    inputs: Inputs
    terms: Any
    regressor: Any
    precision: Array

    def predict(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        q = self.terms.transform(self.inputs.shape(rows))
        leverage = np.einsum("ij,jk,ik->i", q, self.precision, q)
        return np.asarray(self.regressor.predict(q)), np.sqrt(1 + leverage)


def _quadratic(table: CurveTable, rows: pd.DataFrame, losses: Array) -> _Quadratic:
    """Fit to the mean over the seeds of each architecture and training; a row a run. The table tells what varies."""
    try:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures, StandardScaler
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    _, first, cell = np.unique(rows["cell"].to_numpy(), return_index=True, return_inverse=True)
    means = np.bincount(cell, losses) / np.bincount(cell)
    inputs = Inputs(replace(table, rows=rows))
    terms = make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler())
    q = np.asarray(terms.fit_transform(inputs.shape(rows.iloc[first])))
    regressor: Any = RidgeCV(_PENALTIES).fit(q, means)
    precision = np.linalg.inv(q.T @ q + regressor.alpha_ * np.eye(q.shape[1]))
    return _Quadratic(inputs, terms, regressor, np.asarray(precision, float))
