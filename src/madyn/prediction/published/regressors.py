"""The five regressors of Table 3, each with the few hyper-parameters worth choosing, and how one is fitted.

A parameter table has tens to hundreds of rows, so the grids are small and the ensembles modest: what is uncertain is
what another architecture does, not the third digit of a learning rate. Hyper-parameters are chosen by 5-fold
cross-validation on the training rows alone. Where whole architectures are going to be left out, the inner folds leave
whole architectures out too: a hyper-parameter chosen on layers of a known model is chosen for another question.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import read_row
from madyn.errors import MissingDependencyError, UsageError
from madyn.prediction.published.targets import Transform, target_named
from madyn.typing import Array

INNER_FOLDS = 5
INSTALL = 'pip install "madyn[predict]"'


@dataclass(frozen=True)
class Regressor:
    """A family of regressors.

    Attributes:
        label: its name in tables.
        make: an estimator for a seed.
        grid: the hyper-parameters to choose among.
        trees: whether it is an ensemble of trees; otherwise it is linear in the standardised features.
        search: settings that hold while hyper-parameters are chosen and not in the final fit.
    """

    label: str
    make: Callable[[int], Any]
    grid: Mapping[str, Sequence[Any]]
    trees: bool = False
    search: Mapping[str, Any] = field(default_factory=dict)


def _ridge(seed: int) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(random_state=seed)


def _lasso(seed: int) -> Any:
    from sklearn.linear_model import Lasso

    # Features and their powers are nearly collinear: coordinate descent needs many sweeps and a looser end.
    return Lasso(random_state=seed, max_iter=100_000, tol=1e-3)


def _random_forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(n_estimators=50, random_state=seed, n_jobs=1)


def _gradient_boosting(seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=25, learning_rate=0.2, random_state=seed)


def _xgboost(seed: int) -> Any:
    from xgboost import XGBRegressor

    # The exact split search is the fastest on tables this small.
    return XGBRegressor(n_estimators=40, learning_rate=0.15, tree_method="exact", random_state=seed, n_jobs=1)


def _mean(seed: int) -> Any:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


# Targets are standardised, so a Lasso penalty of 1 leaves nothing but the mean: predicting nothing is in reach. More
# trees in a forest only average better and never overfit, so a few of them can tell which split rule is better.
REGRESSORS: Mapping[str, Regressor] = {
    "ridge": Regressor("Ridge", _ridge, {"alpha": (0.1, 3.0, 100.0)}),
    "lasso": Regressor("Lasso", _lasso, {"alpha": (0.01, 0.1, 1.0)}),
    "random_forest": Regressor(
        "random forest", _random_forest, {"max_features": (1 / 3, 1.0)}, trees=True, search={"n_estimators": 8}
    ),
    "gradient_boosting": Regressor("gradient boosting", _gradient_boosting, {"max_depth": (1, 3)}, trees=True),
    "xgboost": Regressor("XGBoost", _xgboost, {"max_depth": (2, 4)}, trees=True),
}
"""The regressors of Table 3, by name."""

BASELINE = "mean"
"""What knowing nothing of a layer gives: the mean of the training rows. Scored beside the others, never chosen."""

_ALL = {**REGRESSORS, BASELINE: Regressor("mean", _mean, {})}


def available_regressors(names: Sequence[str] | None = None) -> list[str]:
    """Those of the named regressors (all of them by default) that this machine can fit, in the order of Table 3.

    Raises:
        UsageError: a name is unknown.
        MissingDependencyError: scikit-learn is not installed, or nothing of what was named can be fitted.
    """
    unknown = sorted(set(names or ()) - set(REGRESSORS))
    if unknown:
        raise UsageError(f"there is no regressor {', '.join(unknown)}; the regressors are {', '.join(REGRESSORS)}")
    if not _imports("sklearn"):
        raise MissingDependencyError(f"predicting needs scikit-learn: {INSTALL}")
    available = [n for n in REGRESSORS if (names is None or n in names) and (n != "xgboost" or _imports("xgboost"))]
    if not available:
        raise MissingDependencyError(f"no regressor left to fit without XGBoost: {INSTALL}")
    return available


def missing_regressors() -> str:
    """A sentence that says which regressors are left out for want of a package; empty when none is."""
    absent = "" if _imports("xgboost") else "XGBoost is not installed and its scores are left out"
    return f"{absent}: {INSTALL}" if absent else ""


def _imports(package: str) -> bool:
    try:
        importlib.import_module(package)
    except (ImportError, OSError, ValueError):  # XGBoost raises its own ValueError where the OpenMP runtime is missing
        return False
    return True


@dataclass(frozen=True)
class FittedRegressor:
    """A regressor fitted to one target.

    Attributes:
        name: which of `REGRESSORS`.
        target: which of `TARGETS`.
        pipeline: imputation, standardisation and estimator, predicting the standardised transformed target.
        transform: the target's transform, fitted to the training rows.
        centre, scale: the transformed target's mean and standard deviation over the training rows.
        limits: the least and largest transformed value that a prediction may take (see `predict`).
        hyperparameters: those chosen.
        cv_r2: R2 in the cross-validation that chose them, pooled over its folds.
    """

    name: str
    target: str
    pipeline: Any
    transform: Transform
    centre: float
    scale: float
    limits: tuple[float, float]
    hyperparameters: Mapping[str, Any]
    cv_r2: float

    @property
    def trees(self) -> bool:
        """Whether the estimator is an ensemble of trees."""
        return _ALL[self.name].trees

    def transformed(self, features: pd.DataFrame) -> Array:
        """The prediction for each row in the transformed target's units."""
        return self.centre + self.scale * np.asarray(self.pipeline.predict(features.to_numpy()), float)

    def predict(self, features: pd.DataFrame) -> Array:
        """The prediction for each row in the target's own units.

        It stays within one breadth of the training rows' range on either side. A linear regressor far outside the
        shapes it was trained on would otherwise be exponentiated to anything, and Yeo-Johnson has no inverse there.
        """
        return self.transform.inverse(np.clip(self.transformed(features), *self.limits))


@dataclass(frozen=True)
class TrainingRows:
    """What every regressor of a target needs of its training rows, worked out once; see `training_rows`."""

    target: str
    preparation: Any
    X: Array
    transform: Transform
    z: Array
    centre: float
    scale: float
    limits: tuple[float, float]
    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    seed: int


def training_rows(
    target: str, features: pd.DataFrame, values: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> TrainingRows:
    """Make n rows ready to train on. Whatever is fitted on the way is fitted to these rows and to no others.

    Args:
        target: one of `TARGETS`.
        features: n rows, as `features_of` gives them.
        values: the target in its own units, shape (n,); a Series has the rows' labels, in their order.
        groups: the architecture of each row, shape (n,); the inner folds then keep each architecture whole, as long as
            there are two of them.
        seed: of folds and estimators.

    Raises:
        UsageError: not one finite number for each row.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    if isinstance(values, pd.Series) and not values.index.equals(features.index):
        raise UsageError(f"the values of {target} and the features are rows of other labels; align them first")
    y = read_row(values, f"values of {target}")
    if len(y) != len(features) or not np.isfinite(y).all():
        raise UsageError(f"values of {target}: {np.sum(np.isfinite(y))} finite ones for {len(features)} rows")
    transform = target_named(target).transform().fit(y)
    z = transform.forward(y)
    centre, scale = float(z.mean()), float(z.std()) or 1.0
    breadth = y.max() - y.min()
    low, high = transform.forward([y.min() - breadth, y.max() + breadth])
    preparation = Pipeline(
        [("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("standardise", StandardScaler())]
    )
    return TrainingRows(
        target=target,
        preparation=preparation,
        X=preparation.fit_transform(features.to_numpy()),
        transform=transform,
        z=(z - centre) / scale,
        centre=centre,
        scale=scale,
        limits=(float(low), float(high)),
        folds=_folds(len(y), groups, seed),
        seed=seed,
    )


def fit_regressor(name: str, rows: TrainingRows) -> FittedRegressor:
    """Choose the hyper-parameters of a regressor by cross-validation on these rows, then fit it to all of them.

    Args:
        name: one of `REGRESSORS`, or `BASELINE`.
    """
    import sklearn
    from sklearn.model_selection import ParameterGrid
    from sklearn.pipeline import Pipeline

    family = _ALL[name]
    # On tables this small a third of the time would go to validating the same parameters in every tree. For the same
    # reason the search is this loop: GridSearchCV takes longer to arrange a fit than the fit takes.
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        candidates = list(ParameterGrid(dict(family.grid)))
        squares = [_squares_out_of_fold(family, candidate, rows) for candidate in candidates]
        best = int(np.argmin(squares))
        estimator = family.make(rows.seed).set_params(**candidates[best]).fit(rows.X, rows.z)
    spread = float(np.square(rows.z).sum())
    return FittedRegressor(
        name=name,
        target=rows.target,
        pipeline=Pipeline([*rows.preparation.steps, ("regress", estimator)]),
        transform=rows.transform,
        centre=rows.centre,
        scale=rows.scale,
        limits=rows.limits,
        hyperparameters=candidates[best],
        cv_r2=1 - squares[best] / spread if spread > 0 else float("nan"),
    )


def _squares_out_of_fold(family: Regressor, hyperparameters: Mapping[str, Any], rows: TrainingRows) -> float:
    """The sum of squared errors over all folds: pooled, it is right for folds of any size, one row included."""
    total = 0.0
    for train, test in rows.folds:
        estimator = family.make(rows.seed).set_params(**{**hyperparameters, **family.search})
        predicted = estimator.fit(rows.X[train], rows.z[train]).predict(rows.X[test])
        total += float(np.square(predicted - rows.z[test]).sum())
    return total


def _folds(n: int, groups: ArrayLike | None, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    from sklearn.model_selection import GroupKFold, KFold

    distinct = 0 if groups is None else len(np.unique(groups))
    if distinct >= 2:
        return list(GroupKFold(min(INNER_FOLDS, distinct)).split(np.zeros(n), groups=groups))
    return list(KFold(min(INNER_FOLDS, n), shuffle=True, random_state=seed).split(np.zeros(n)))
