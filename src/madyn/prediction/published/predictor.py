"""The predictor: from a table of fitted layers to the curve of a layer that was never trained.

For each target it takes the regressor that does best with whole models left out, since that is the question it will be
asked, and fits it again to all rows. The scores stay with it, the published ones beside the honest ones, and so do
its warnings: what it says of a shape outside those it has seen is extrapolation, and it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from madyn.architecture import Architecture
from madyn.errors import UsageError, check_range
from madyn.labels import describe
from madyn.prediction.inputs import as_steps
from madyn.prediction.published.features import SHAPE_FIELDS, architecture_groups, feature_table, features_of
from madyn.prediction.published.protocols import (
    RANDOM_LAYERS,
    WHOLE_MODELS,
    best_regressors,
    caution,
    out_of_fold,
    score_predictions,
    usable_rows,
)
from madyn.prediction.published.regressors import BASELINE, FittedRegressor, fit_regressor, training_rows
from madyn.prediction.published.targets import TARGETS, target_named, targets_of

_RANGED_FIELDS = (*SHAPE_FIELDS, "vocab_size", "max_position_embeddings")


class HasParameters(Protocol):
    """A dataset, as far as a predictor needs it."""

    @property
    def parameters(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class _Fit:
    """All that fitting leaves behind."""

    table: pd.DataFrame
    features: pd.DataFrame
    scores: pd.DataFrame
    regressors: dict[str, FittedRegressor]
    residuals: pd.DataFrame
    least_positive: dict[str, float]
    caution: str


class ParameterPredictor:
    """Predicts the ratio's reparam parameters, and so its curve, for every layer of an architecture.

    Args:
        seed: of splits, folds and estimators; the same seed and table give the same predictor.
        regressors: which of the five of Table 3 to choose among; all by default.

    The score of a chosen regressor flatters a little, having been used to choose it among five.
    """

    def __init__(self, seed: int = 0, regressors: Sequence[str] | None = None) -> None:
        self.seed = check_range("seed", seed, 0, 2**32 - 1)  # as scikit-learn takes them
        self._names = None if regressors is None else tuple(regressors)
        self._fit: _Fit | None = None

    def fit(self, source: HasParameters | pd.DataFrame | str | Path) -> Self:
        """Score the regressors under both protocols, choose one for each target, and fit it to all rows.

        Args:
            source: a dataset, its parameter table, or where the dataset is.

        Raises:
            DatasetError: fewer than two architectures or ten usable rows, or a table without the columns needed.
            MissingDependencyError: scikit-learn is not installed.
            UsageError: an unknown regressor, or something that is no dataset.
        """
        parameters = _table(source)
        predictions = [out_of_fold(parameters, p, self.seed, self._names) for p in (RANDOM_LAYERS, WHOLE_MODELS)]
        scores = score_predictions(pd.concat(predictions, ignore_index=True))
        table = usable_rows(parameters)
        features, targets = features_of(table), targets_of(table)
        groups = architecture_groups(table).to_numpy()
        chosen = best_regressors(scores)
        self._fit = _Fit(
            table=table,
            features=features,
            scores=scores,
            regressors={
                target: fit_regressor(
                    name, training_rows(target, features, targets[target], groups=groups, seed=self.seed)
                )
                for target, name in chosen.items()
            },
            residuals=_residuals(predictions[1], chosen),
            least_positive={target: _least_positive(targets[target]) for target in TARGETS},
            caution=caution(parameters),
        )
        return self

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of every regressor and of the mean, under both protocols; see `score_predictions`."""
        return self._fitted().scores.copy()

    @property
    def chosen(self) -> dict[str, str]:
        """The regressor chosen for each target."""
        return {target: regressor.name for target, regressor in self._fitted().regressors.items()}

    @property
    def table(self) -> pd.DataFrame:
        """The usable rows of the parameter table, which the predictor was fitted to."""
        return self._fitted().table.copy()

    @property
    def features(self) -> pd.DataFrame:
        """The features of those rows."""
        return self._fitted().features.copy()

    @property
    def residuals(self) -> pd.DataFrame:
        """Observed and predicted with whole models left out, by the chosen regressors; see `explanation.residuals`."""
        return self._fitted().residuals.copy()

    def regressor(self, target: str) -> FittedRegressor:
        """The fitted regressor of a target.

        Raises:
            UsageError: the target is unknown, or the predictor is not fitted.
        """
        target_named(target)
        return self._fitted().regressors[target]

    def parameters(self, architecture: Architecture) -> pd.DataFrame:
        """The reparam parameters of every layer of an architecture.

        beta and tau0 are kept positive, as the curve needs them: at least the least value trained on.

        Returns:
            A row a layer, with columns layer_index, beta, tau0, A1, A2, K, in raw steps and units of the ratio.

        Raises:
            UsageError: the predictor is not fitted.
        """
        fit = self._fitted()
        features = feature_table(architecture)
        predicted: dict[str, np.ndarray] = {"layer_index": np.arange(len(features))}
        for name in ("gamma", "t0", "A", "lam", "K"):
            values = fit.regressors[name].predict(features)
            if TARGETS[name].positive:
                values = np.maximum(values, fit.least_positive[name])
            predicted[TARGETS[name].parameter] = values
        return pd.DataFrame(predicted)

    def predict(self, architecture: Architecture, steps: ArrayLike) -> xr.DataArray:
        """The predicted ratio (top1 / median) of every layer at these training steps.

        Returns:
            An array called "ratio" with dimensions (layer, step) and both as coordinates: the reparam curve with the
            parameters that `parameters` gives, and 1 where it falls below, since no largest value is under the median.

        Raises:
            UsageError: the steps are not a list of numbers from 0 upward, or the predictor is not fitted.
        """
        from madyn.curves.hypotheses.registry import HYPOTHESES

        t = as_steps(steps)
        curve = HYPOTHESES["reparam"]
        table = self.parameters(architecture)
        rows = curve.values(t, table[list(curve.param_names)].to_numpy())
        coords = {"layer": table["layer_index"].to_numpy(), "step": t}
        return describe(xr.DataArray(np.maximum(rows, 1.0), coords, ("layer", "step"), "ratio"))

    def caution(self, architecture: Architecture | None = None) -> str:
        """What to know before believing a score or a prediction; empty when there is nothing.

        Args:
            architecture: one to be predicted; each of its sizes that lies outside those trained on is named.

        Raises:
            UsageError: the predictor is not fitted.
        """
        fit = self._fitted()
        said = [fit.caution, _hopeless(fit.scores, self.chosen)]
        if architecture is not None:
            said.append(_outside(fit.table, architecture))
        return " ".join(sentence for sentence in said if sentence)

    def _fitted(self) -> _Fit:
        if self._fit is None:
            raise UsageError("this predictor is not fitted; call its fit method with a dataset first")
        return self._fit


def _table(source: HasParameters | pd.DataFrame | str | Path) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, (str, Path)):
        from madyn.dataset import open_dataset

        return open_dataset(source).parameters
    table = getattr(source, "parameters", None)
    if not isinstance(table, pd.DataFrame):
        raise UsageError(f"a predictor is fitted to a dataset, its path or its parameter table, not to {source!r:.80}")
    return table


def _honest_r2(scores: pd.DataFrame, target: str) -> dict[str, float]:
    """R2 with whole models left out, by regressor; nan (a target that never varies) counts as worst."""
    mine = (scores["protocol"] == WHOLE_MODELS) & (scores["target"] == target)
    r2 = scores.loc[mine, "r2"].fillna(-np.inf).to_numpy(float)
    return dict(zip(scores.loc[mine, "regressor"], r2, strict=True))


def _hopeless(scores: pd.DataFrame, chosen: dict[str, str]) -> str:
    """Which targets no regressor predicts better than their mean does."""
    honest = {target: _honest_r2(scores, target) for target in chosen}
    names = [target for target, r2 in honest.items() if r2[chosen[target]] <= r2[BASELINE]]
    if not names:
        return ""
    return f"With whole models left out, no regressor does better than the mean for {', '.join(names)}."


def _residuals(predictions: pd.DataFrame, chosen: dict[str, str]) -> pd.DataFrame:
    mine = predictions["regressor"].to_numpy() == [chosen[target] for target in predictions["target"]]
    columns = ["model", "layer_index", "target", "observed", "predicted"]
    return predictions.loc[mine, columns].reset_index(drop=True)


def _least_positive(values: ArrayLike) -> float:
    v = np.asarray(values, float)
    return float(v[v > 0].min()) if (v > 0).any() else float(np.finfo(float).eps)


def _outside(table: pd.DataFrame, architecture: Architecture) -> str:
    """Each field in which an architecture lies outside what was trained on."""
    said = []
    for name in _RANGED_FIELDS:
        if name not in table:
            continue
        column = np.asarray(pd.to_numeric(table[name], errors="coerce"), float)
        seen, value = column[np.isfinite(column)], getattr(architecture, name)
        if value is None:
            if len(seen) == len(column):
                said.append(f"{name} is none, where every model had one")
        elif not len(seen):
            said.append(f"{name} is {value:g}, where no model had one")
        elif not seen.min() <= value <= seen.max():
            said.append(f"{name} is {value:g}, outside {seen.min():g}..{seen.max():g}")
    if not said:
        return ""
    return f"This architecture lies outside those trained on, so its curve is extrapolated: {'; '.join(said)}."
