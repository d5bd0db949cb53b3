"""An approach fitted to a table of curves, and what it did on architectures that were left out of it in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    fit = approach_named(approach).fit
    fitted = fit(table.averaged(), seed, settings)
    predicted, uncalibrated = np.empty_like(table.curves), np.empty_like(table.curves)
    if table.architectures == 1:
        predicted[:], uncalibrated[:] = table.curves.mean(axis=0), fitted.predict(table.rows)[1]
    else:
        numbers = fold_numbers(table.groups, folds)
        for number in np.unique(numbers):
            test = numbers == number
            train = table.take(~test).averaged()
            # Of a single layer nothing can be learned but its curve.
            learn = fit if len(train.rows) > 1 else approach_named("mean_curve").fit
            part = learn(train, seed, fitted.settings)
            predicted[test], uncalibrated[test] = part.predict(table.rows.loc[test])
    return calibrated(table, fitted, predicted, uncalibrated)


def calibrated(table: CurveTable, fitted: Fitted, predicted: Array, uncalibrated: Array) -> Calibrated:
    """From what an approach did on architectures left out."""
    calibration = Calibration.of(table.curves - predicted, uncalibrated, table.groups)
    return Calibrated(table, fitted, predicted, uncalibrated, calibration)
