"""What was measured of every layer beside what was predicted for it with its architecture left out, model by model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from madyn.prediction import derived
from madyn.prediction.conformal import Calibration
from madyn.prediction.left_out import Calibrated
from madyn.prediction.predictor import QUANTILES, Predictor

if TYPE_CHECKING:
    import pandas as pd


def residuals(predictor: Predictor, quantity: str) -> pd.DataFrame:
    """What was measured of every layer of every run, and what was predicted for it with its architecture left out.

    Returns:
        A row a model and layer: model, layer, architecture (a number), observed, predicted (the median for a single
        run), lower and upper (its 90 % interval), all in the quantity's own unit. The intervals, too, are made from
        the residuals of the other architectures. Of a step: observed is nan where the curve has no peak, the others
        are those of a peak if there is one. Of a dataset with one architecture, the predictions are its mean.

    Raises:
        UsageError: there is no such quantity, or the predictor is not fitted.
    """
    import pandas as pd

    derived.quantity(quantity)
    table = predictor.state.table
    last = derived.last_steps(table.rows)
    ends = np.full((len(table.rows), len(QUANTILES)), np.nan)
    for group in np.unique(table.groups):
        mine = np.flatnonzero(table.groups == group)
        calibration = _without(predictor.state, group)
        for i in mine:
            spread = predictor.state.uncalibrated[i] * calibration.scale
            possible = calibration.possible(predictor.state.predicted[i], spread)
            values = derived.quantity(quantity)(possible, table.positions, float(last[i]))
            ends[i] = [calibration.quantile_of(values, p) for p in QUANTILES]
    # No largest value lies under the median, as in `Predictor.predict`.
    low, middle, high = derived.in_units(quantity, np.maximum(ends, 0.0)).T
    observed = derived.read_quantity(quantity, table.curves, table.positions, table.rows)
    return pd.DataFrame(
        {
            "model": table.rows["model"],
            "layer": table.rows["layer"],
            "architecture": table.groups,
            "observed": derived.in_units(quantity, observed),
            "predicted": middle,
            "lower": low,
            "upper": high,
        }
    )


def _without(state: Calibrated, group: int) -> Calibration:
    """The calibration from the residuals of the other architectures, where there are any."""
    others = state.table.groups != group
    if not others.any():
        return state.calibration
    return Calibration.of(
        state.table.curves[others] - state.predicted[others], state.uncalibrated[others], state.table.groups[others]
    )
