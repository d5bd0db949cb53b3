"""How well the regressors do, asked twice: of layers left out, and of whole models left out.

The first question is the published one (Table 3 of Gallego-Feliciano et al., arXiv 2508.03616): a random fifth of the
rows is kept for the test, and layers of one model stand on both sides. A regressor can then answer by recognising the
model. The second is the one a user has, who wants a model that nobody trained: every row of an architecture is
predicted by regressors that saw none of it. The two are always given together, and beside them the mean of the
training rows, so that a reader sees what knowing nothing gives.

R2, MAE and RMSE are in the transformed target, as in Table 3: signed log1p, and for K Yeo-Johnson in standard
deviations. The regressors fit that transform to their training rows; for the scores the predictions are taken back to
the target's own units and all put on one scale, the transform fitted to the whole table, since folds that each have a
scale of their own could not be pooled. No regressor sees that scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from madyn.errors import DatasetError, UsageError
from madyn.prediction.published.features import architecture_groups, features_of
from madyn.prediction.published.regressors import (
    BASELINE,
    REGRESSORS,
    available_regressors,
    fit_regressor,
    missing_regressors,
    training_rows,
)
from madyn.prediction.published.targets import TARGETS, targets_of

RANDOM_LAYERS = "random layers"
WHOLE_MODELS = "whole models left out"
PROTOCOLS = (RANDOM_LAYERS, WHOLE_MODELS)

FITTED = "predicted curve"
"""The parameters of curves that were predicted as curves, scored beside the regressors where a caller has them."""

FEWEST_ROWS = 10
FEWEST_ARCHITECTURES = 2
ENOUGH_ARCHITECTURES = 10
"""Below this many architectures `caution` says that the scores prove nothing."""

_FEWEST_TRAINING_ROWS = 5  # one for each inner fold
_TEST_SHARE = 0.2
_MOST_OUTER_FOLDS = 20

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def usable_rows(parameters: pd.DataFrame) -> pd.DataFrame:
    """The rows whose fit succeeded, numbered from 0: a failed fit stands in the table with empty parameters.

    Raises:
        DatasetError: too few rows, or too few architectures, to train on.
    """
    fitted = np.isfinite(targets_of(parameters).to_numpy()).all(axis=1)
    table = parameters.loc[fitted].reset_index(drop=True)
    if len(table) < FEWEST_ROWS:
        raise DatasetError(
            f"{len(table)} of the {len(parameters)} rows of the parameter table have a fit, and predicting needs "
            f"{FEWEST_ROWS}; trace and fit more models"
        )
    sizes = architecture_groups(table).value_counts()
    if len(sizes) < FEWEST_ARCHITECTURES:
        raise DatasetError(
            "the parameter table holds one architecture, and predicting another one needs at least "
            f"{FEWEST_ARCHITECTURES}; add models of other shapes"
        )
    if len(table) - sizes.max() < _FEWEST_TRAINING_ROWS:
        raise DatasetError(
            f"all but {len(table) - sizes.max()} of the usable rows are of one architecture, so nothing can be learned "
            "with that one left out; add models of other shapes"
        )
    return table


def out_of_fold(
    parameters: pd.DataFrame,
    protocol: str = WHOLE_MODELS,
    seed: int = 0,
    regressors: Sequence[str] | None = None,
    splits: Sequence[Split] | None = None,
) -> pd.DataFrame:
    """What each regressor predicts for the rows it did not see.

    Args:
        protocol: `"random layers"`, a random fifth of the rows, or `"whole models left out"`, every row, each predicted
            with its architecture left out (with more than 20 architectures, several are left out together).
        regressors: names among `REGRESSORS`; all by default.
        splits: rows of `usable_rows` to train on and to test, for another protocol, in which architectures are whole.

    Returns:
        A row for each target, regressor (the baseline `"mean"` among them) and row tested: target, regressor, protocol,
        model, layer_index, observed, predicted (both in the transformed target's units), value (what is predicted, in
        the target's own units), cv_r2 and n_train of the regressor that predicted it.

    Raises:
        DatasetError: the table cannot be learned from (see `usable_rows`).
        UsageError: an unknown protocol or regressor.
        MissingDependencyError: scikit-learn is not installed.
    """
    names = [*available_regressors(regressors), BASELINE]
    table = usable_rows(parameters)
    features, targets = features_of(table), targets_of(table)
    groups = architecture_groups(table).to_numpy()
    splits = splits or _splits(protocol, groups, seed)
    inner_groups = None if protocol == RANDOM_LAYERS else groups
    parts: list[pd.DataFrame] = []
    for target in TARGETS:
        values = targets[target].to_numpy()
        common = TARGETS[target].transform().fit(values)
        for train, test in splits:
            rows = training_rows(
                target,
                features.iloc[train],
                values[train],
                groups=None if inner_groups is None else inner_groups[train],
                seed=seed,
            )
            for name in names:
                fitted = fit_regressor(name, rows)
                value = fitted.predict(features.iloc[test])
                part = {
                    "target": target,
                    "regressor": name,
                    "protocol": protocol,
                    "model": table["model"].to_numpy()[test],
                    "layer_index": table["layer_index"].to_numpy()[test],
                    "observed": common.forward(values[test]),
                    "predicted": common.forward(value),
                    "value": value,
                    "cv_r2": fitted.cv_r2,
                    "n_train": len(train),
                }
                parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _splits(protocol: str, groups: NDArray[np.intp], seed: int) -> list[Split]:
    from sklearn.model_selection import GroupKFold, train_test_split

    rows = np.arange(len(groups))
    if protocol == RANDOM_LAYERS:
        train, test = train_test_split(rows, test_size=_TEST_SHARE, random_state=seed)
        return [(np.sort(train), np.sort(test))]
    if protocol == WHOLE_MODELS:
        # With as many folds as groups, each fold is one group.
        folds = min(len(np.unique(groups)), _MOST_OUTER_FOLDS)
        return list(GroupKFold(folds).split(rows, groups=groups))
    raise UsageError(f"there is no protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}")


def score_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """The scores of what `out_of_fold` gives, pooled over its folds.

    Returns:
        A row for each target, regressor and protocol: target, regressor, protocol, r2, mae, rmse, cv_r2 (of the
        cross-validation that chose the hyper-parameters), n_train (both means over the folds) and n_test. R2 is nan
        where all that was observed is one value.
    """
    keys = ["target", "regressor", "protocol"]
    rows = []
    for _, part in predictions.groupby(keys, sort=False):
        observed, predicted = part["observed"].to_numpy(float), part["predicted"].to_numpy(float)
        error = predicted - observed
        spread = np.square(observed - observed.mean()).sum()
        folds = part[["cv_r2", "n_train"]].drop_duplicates().to_numpy(float).mean(axis=0)
        rows.append(
            {
                **part[keys].iloc[0].to_dict(),
                "r2": 1 - np.square(error).sum() / spread if spread > 0 else np.nan,
                "mae": np.abs(error).mean(),
                "rmse": np.square(error).mean() ** 0.5,
                "cv_r2": folds[0],
                "n_train": round(folds[1]),
                "n_test": len(part),
            }
        )
    return pd.DataFrame(rows)


def best_regressors(scores: pd.DataFrame) -> dict[str, str]:
    """The regressor that does best for each target with whole models left out; the baseline is none of them."""
    honest = scores.loc[(scores["protocol"] == WHOLE_MODELS) & (scores["regressor"] != BASELINE)]
    # A target that never varies has no R2, which counts as the worst.
    best = honest.assign(r2=honest["r2"].fillna(-np.inf)).groupby("target", sort=False)["r2"].idxmax()
    return {str(honest.loc[i, "target"]): str(honest.loc[i, "regressor"]) for i in best}


def scores(
    parameters: pd.DataFrame,
    seed: int = 0,
    regressors: Sequence[str] | None = None,
    protocols: Sequence[str] = PROTOCOLS,
) -> pd.DataFrame:
    """The scores by each protocol: as in Table 3, trained on a random four fifths of the rows and tested on the others,
    and with whole models left out, every row predicted by regressors that saw nothing of its architecture.

    Columns as in `score_predictions`, arguments and errors as in `out_of_fold`.
    """
    each = [score_predictions(out_of_fold(parameters, protocol, seed, regressors)) for protocol in protocols]
    return pd.concat(each, ignore_index=True)


def score_table(scores: pd.DataFrame, score: str = "r2") -> dict[str, pd.DataFrame]:
    """A table to print for each protocol: a row a target, a column a regressor, as Table 3 has them.

    Args:
        score: the column of the scores to show.
    """
    labels = {name: regressor.label for name, regressor in REGRESSORS.items()} | {BASELINE: BASELINE, FITTED: FITTED}
    tables = {}
    for protocol, part in scores.groupby("protocol", sort=False):
        table = part.pivot(index="target", columns="regressor", values=score)
        columns = [name for name in labels if name in table]
        table = table.reindex(index=[t for t in TARGETS if t in table.index], columns=columns)
        tables[str(protocol)] = table.rename(columns=labels).rename_axis(columns=None)
    return tables


def caution(parameters: pd.DataFrame) -> str:
    """What a reader of the scores must know of the table behind them; empty when there is nothing."""
    table = usable_rows(parameters)
    said = []
    architectures = architecture_groups(table).nunique()
    if architectures < ENOUGH_ARCHITECTURES:
        said.append(f"These scores rest on {architectures} architectures: they illustrate and do not prove.")
    failed = len(parameters) - len(table)
    if failed:
        said.append(f"{failed} of {len(parameters)} layers have no fit and are left out.")
    if missing_regressors():
        said.append(f"{missing_regressors()}.")
    return " ".join(said)
