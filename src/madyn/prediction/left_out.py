"""An approach fitted to a table of curves, and what it did on architectures that were left out of it in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from madyn.errors import DatasetError
from madyn.prediction.approach import Fitted, Settings
from madyn.prediction.approaches import approach_named
from madyn.prediction.conformal import Calibration
from madyn.prediction.table import CurveTable, fold_numbers
from madyn.typing import Array

_FOLDS = 10


@dataclass(frozen=True)
class Calibrated:
    """An approach fitted to a table, and what it did on architectures left out of it in turn.

    Attributes:
        table: single runs.
        fitted: to all of them.
        predicted, uncalibrated: (n, P) log curves, and their standard deviations as the approach gives them, for the
            table's rows, each from a fit without its architecture, though with hyper-parameters that were chosen with
            it (`evaluation` chooses them without); of a table with one architecture, its mean curve.
        calibration: from their residuals.
    """

    table: CurveTable
    fitted: Fitted
    predicted: Array
    uncalibrated: Array
    calibration: Calibration


def fit_calibrated(
    table: CurveTable, approach: str, seed: int = 0, folds: int = _FOLDS, settings: Settings | None = None
) -> Calibrated:
    """Fit an approach to all of a table, and calibrate it on architectures left out, several at a time where there are
    more of them than folds. Hyper-parameters are chosen once, from the whole table, or are those of `settings`.

    Raises:
        DatasetError: the table holds a single layer.
    """
    if len(table.averaged().rows) < 2:
        raise DatasetError("the data hold a single layer: with nothing to compare it with, nothing can be learned")
    fitted = approach_named(approach).fit(table.averaged(), seed, settings)
    if table.architectures == 1:
        predicted, uncalibrated = np.empty_like(table.curves), fitted.predict(table.rows)[1]
        predicted[:] = table.curves.mean(axis=0)
    else:
        predicted, uncalibrated = predict_left_out(table, table.groups, approach, seed, fitted.settings, folds)
    return calibrated(table, fitted, predicted, uncalibrated)


def predict_left_out(
    table: CurveTable, groups: NDArray[np.intp], approach: str, seed: int, settings: Settings, folds: int = _FOLDS
) -> tuple[Array, Array]:
    """Log curves and their uncalibrated standard deviations, (n, P), each from a fit without the row's group; there are
    two groups or more."""
    fit = approach_named(approach).fit
    predicted, uncalibrated = np.empty_like(table.curves), np.empty_like(table.curves)
    numbers = fold_numbers(groups, folds)
    for number in np.unique(numbers):
        test = numbers == number
        train = table.take(~test).averaged()
        # Of a single layer nothing can be learned but its curve.
        learn = fit if len(train.rows) > 1 else approach_named("mean_curve").fit
        part = learn(train, seed, settings)
        predicted[test], uncalibrated[test] = part.predict(table.rows.loc[test])
    return predicted, uncalibrated


def calibrated(table: CurveTable, fitted: Fitted, predicted: Array, uncalibrated: Array) -> Calibrated:
    """From what an approach did on architectures left out."""
    calibration = Calibration.of(table.curves - predicted, uncalibrated, table.groups)
    return Calibrated(table, fitted, predicted, uncalibrated, calibration)
