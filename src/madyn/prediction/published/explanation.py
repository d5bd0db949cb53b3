"""Why a predictor says what it says: importances, SHAP values, partial dependence and residuals.

Everything here is data for a figure or a table, in the transformed target's units (those of the scores), with features
in their own. All of it explains the regressor, not training: the features are few shapes' worth of correlated numbers
(l/L stands there with three of its powers), so that credit is shared among neighbours by accident as much as by merit.
Look at the scores with whole models left out before reading anything into an explanation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from madyn.architecture import Architecture
from madyn.errors import UsageError
from madyn.prediction.published.features import feature_table, features_of
from madyn.prediction.published.predictor import ParameterPredictor
from madyn.prediction.published.regressors import FittedRegressor
from madyn.prediction.shapley import Explanation, quiet_shap

_PERMUTATIONS = 20
_GRID_POINTS = 20
_BAND = (0.1, 0.9)


def importances(predictor: ParameterPredictor, target: str) -> pd.Series:
    """How much the regressor of a target relies on each feature, the most important first.

    For trees it is their built-in importance, which sums to 1: for forests and gradient boosting the share of the
    squared error that splits on the feature remove, for XGBoost the mean gain of its splits. For linear regressors it
    is the permutation importance: how far R2 with the regressor's own predictions falls when the feature is shuffled
    among the training rows, the mean of 20 shuffles. The name of the series says which.

    Raises:
        UsageError: the target is unknown, or the predictor is not fitted.
    """
    fitted = predictor.regressor(target)
    if fitted.trees:
        values, kind = fitted.pipeline[-1].feature_importances_, "built-in importance"
    else:
        values, kind = _permutation_importances(predictor, fitted), "permutation importance (drop of R2)"
    series = pd.Series(np.asarray(values, float), index=list(predictor.features.columns), name=kind)
    return series.sort_values(ascending=False, kind="stable")


def _permutation_importances(predictor: ParameterPredictor, fitted: FittedRegressor) -> np.ndarray:
    from sklearn.inspection import permutation_importance

    X = predictor.features.to_numpy()
    # Against the regressor's own predictions on intact features: what is asked is what it relies on.
    result: Any = permutation_importance(
        fitted.pipeline,
        X,
        fitted.pipeline.predict(X),
        scoring="r2",
        n_repeats=_PERMUTATIONS,
        random_state=predictor.seed,
    )
    return result.importances_mean


def shap_values(predictor: ParameterPredictor, target: str) -> Explanation:
    """The SHAP values of every training row (Lundberg & Lee 2017): exact for trees and for linear regressors alike.

    Trees are explained along their own paths (`shap.TreeExplainer` without a background sample), linear regressors
    against the mean of the training rows, as if features were independent (`shap.LinearExplainer`).

    Raises:
        MissingDependencyError: shap is not installed.
        UsageError: the target is unknown, or the predictor is not fitted.
    """
    fitted = predictor.regressor(target)
    features = predictor.features
    X = fitted.pipeline[:-1].transform(features.to_numpy())
    with quiet_shap() as shap:
        explainer: Any
        if fitted.trees:
            explainer = shap.TreeExplainer(fitted.pipeline[-1])
        else:
            explainer = shap.LinearExplainer(fitted.pipeline[-1], X)
        values = np.asarray(explainer.shap_values(X), float)
    base = float(np.ravel(explainer.expected_value)[0])
    return Explanation(
        quantity=target,
        values=pd.DataFrame(values * fitted.scale, index=features.index, columns=features.columns),
        base_value=fitted.centre + fitted.scale * base,
        features=features,
    )


def partial_dependence(predictor: ParameterPredictor, target: str, feature: str) -> pd.DataFrame:
    """What becomes of the predictions when one feature is set to each of its values in turn, all others left alone.

    Returns:
        A row a value (those that occur, or 20 from the least to the largest if more do): value, in the feature's own
        units; prediction, the mean over the training rows; lower and upper, their 10 % and 90 % quantiles. Predictions
        are in the transformed target's units. A feature's powers and ratios are not moved along with it; for the
        depth see `depth_dependence`.

    Raises:
        UsageError: the target or the feature is unknown, or the predictor is not fitted.
    """
    fitted = predictor.regressor(target)
    features = predictor.features
    if feature not in features:
        raise UsageError(f"there is no feature {feature!r}; the features are {', '.join(features.columns)}")
    return _over(
        features[feature].to_numpy(float), lambda value: fitted.transformed(features.assign(**{feature: value}))
    )


def of_depth() -> list[str]:
    """The features that change with the layer's depth in its model, and so with one another: l/L, its powers, l*L."""
    one = feature_table(Architecture(num_hidden_layers=4, hidden_size=64, num_attention_heads=4))
    return [str(name) for name in one if len(np.unique(one[name].to_numpy())) > 1]


def depth_dependence(predictor: ParameterPredictor, target: str) -> pd.DataFrame:
    """What becomes of the predictions when every layer is put at each depth l/L in turn, its model left as it is.

    All features of the depth move together, which none of them can do alone.

    Returns:
        As `partial_dependence`; value is l/L.

    Raises:
        UsageError: the target is unknown, or the predictor is not fitted.
    """
    table, layers = predictor.table, predictor.features["layers"].to_numpy(float)
    regressor = predictor.regressor(target)

    def predictions(depth: float) -> np.ndarray:
        return regressor.transformed(features_of(table.assign(layer_index=depth * layers)))

    return _over(predictor.features["l/L"].to_numpy(float), predictions)


def _over(column: np.ndarray, predictions: Callable[[float], np.ndarray]) -> pd.DataFrame:
    """Mean and band of the predictions at the values of a feature that occur, or at 20 if more do."""
    values = np.unique(column[np.isfinite(column)])
    if len(values) > _GRID_POINTS:
        values = np.linspace(values[0], values[-1], _GRID_POINTS)
    curves = [predictions(float(value)) for value in values]
    rows = [(float(v), c.mean(), *np.quantile(c, _BAND)) for v, c in zip(values, curves, strict=True)]
    return pd.DataFrame(rows, columns=["value", "prediction", "lower", "upper"])


def residuals(predictor: ParameterPredictor) -> pd.DataFrame:
    """What was observed and what the chosen regressors predicted for it with its whole architecture left out.

    Returns:
        A row for each target and training row: model, layer_index, target, observed, predicted, both in the transformed
        target's units, so that their R2 is the score with whole models left out.

    Raises:
        UsageError: the predictor is not fitted.
    """
    return predictor.residuals
