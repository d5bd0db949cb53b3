"""Shapley values: how much each input moves a prediction, of whichever predictor; and the package that finds them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.errors import missing_dependency

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Explanation:
    """Shapley values: how much each input moves the prediction of a layer away from that of the layers of the data.

    Attributes:
        quantity: what is predicted: a quantity of a curve, or a target of the published predictor.
        values: rows x features, on the scale of the prediction: natural logarithms of a quantity (of 1 + step for a
            step), or the units of the transformed target; a row's sum plus `base_value` is its prediction.
        base_value: the mean prediction of the layers that the values start from, on the same scale (for trees, over
            the rows as each tree's nodes counted them).
        features: rows x features, in people's units (64 for a hidden size).
    """

    quantity: str
    values: pd.DataFrame
    base_value: float
    features: pd.DataFrame

    @property
    def prediction(self) -> pd.Series:
        """The prediction for each row, on its scale."""
        return self.values.sum(axis=1) + self.base_value

    @property
    def factors(self) -> pd.DataFrame:
        """Of logarithms: what each input multiplies the quantity by, rows x features; their product leads from the
        geometric mean to the prediction."""
        return self.values.map(np.exp)


@contextmanager
def quiet_shap() -> Iterator[Any]:
    """The package shap. numba, under it, warns of its own deprecations while it is imported and while it compiles.

    Raises:
        MissingDependencyError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import shap
        except ModuleNotFoundError as e:
            raise missing_dependency(e) from e
        yield shap
