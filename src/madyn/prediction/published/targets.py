"""What is predicted: the five parameters of the reparam curve, each on a scale where its values spread evenly.

The published table keeps the reparam curve exp(-beta t) (A1 log(t + tau0) + A2) + K under the names of the original
one, and so do the targets here: A is A1, lam is A2, gamma is beta, t0 is tau0. A2 is no decay rate and may have either
sign, as A1 may; that is why "log1p" (Table 3 of Gallego-Feliciano et al., arXiv 2508.03616) means its signed form.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from madyn.errors import DatasetError, UsageError
from madyn.typing import Array


class Transform(Protocol):
    """A monotone change of scale, fitted to the training rows' values."""

    def fit(self, values: ArrayLike) -> Self: ...

    def forward(self, values: ArrayLike) -> Array: ...

    def inverse(self, values: ArrayLike) -> Array: ...


class SignedLog1p:
    """z = sign(x) log(1 + |x|). There is nothing to fit.

    >>> SignedLog1p().inverse(SignedLog1p().forward([-3.0, 0.0, 1e6])).round(6).tolist()
    [-3.0, 0.0, 1000000.0]
    """

    def fit(self, values: ArrayLike) -> Self:
        return self

    def forward(self, values: ArrayLike) -> Array:
        x = np.asarray(values, float)
        return np.sign(x) * np.log1p(np.abs(x))

    def inverse(self, values: ArrayLike) -> Array:
        z = np.asarray(values, float)
        return np.sign(z) * np.expm1(np.abs(z))


class YeoJohnson:
    """The power transform of Yeo & Johnson (2000), its power by maximum likelihood, then standardised.

    Its image is bounded on one side for powers below 0 or above 2; `inverse` is nan beyond it.
    """

    def __init__(self) -> None:
        from sklearn.preprocessing import PowerTransformer

        self._power = PowerTransformer(method="yeo-johnson", standardize=True)

    def fit(self, values: ArrayLike) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # powers tried on the way may overflow
            self._power.fit(np.asarray(values, float)[:, None])
        return self

    def forward(self, values: ArrayLike) -> Array:
        return np.asarray(self._power.transform(np.asarray(values, float).reshape(-1, 1))).reshape(np.shape(values))

    def inverse(self, values: ArrayLike) -> Array:
        column = np.asarray(values, float).reshape(-1, 1)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(self._power.inverse_transform(column)).reshape(np.shape(values))


@dataclass(frozen=True)
class Target:
    """One parameter to predict.

    Attributes:
        column: its name in the published table.
        parameter: its name in the reparam curve.
        transform: makes the transform that it is learned and scored in.
        unit: what that transform is called, for labels.
        positive: whether the curve is defined for positive values only.
    """

    column: str
    parameter: str
    transform: Callable[[], Transform] = SignedLog1p
    unit: str = "signed log1p"
    positive: bool = False


TARGETS: Mapping[str, Target] = {
    "A": Target("param_A", "A1"),
    "lam": Target("param_λ", "A2"),
    "gamma": Target("param_γ", "beta", positive=True),
    "t0": Target("param_t0", "tau0", positive=True),
    "K": Target("param_K", "K", YeoJohnson, "Yeo-Johnson"),
}
"""The five targets of Table 3, by the names of the table."""


def target_named(name: str) -> Target:
    """The target of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in TARGETS:
        raise UsageError(f"there is no target {name!r}; the targets are {', '.join(TARGETS)}")
    return TARGETS[name]


def targets_of(parameters: pd.DataFrame) -> pd.DataFrame:
    """The five targets of every row of a parameter table, in their own units; nan or infinite where a fit failed.

    Raises:
        DatasetError: a column is missing.
    """
    missing = [t.column for t in TARGETS.values() if t.column not in parameters]
    if missing:
        raise DatasetError(
            f"the parameter table has no column {', '.join(missing)}; "
            "it needs those of fitted_param_dataset_reparam.csv"
        )
    columns = {name: pd.to_numeric(parameters[t.column], errors="coerce") for name, t in TARGETS.items()}
    return pd.DataFrame(columns, dtype=float)
