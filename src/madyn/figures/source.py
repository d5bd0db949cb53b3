"""A dataset as the pictures read it, and what a picture may be drawn for: the dataset, its models, steps or layers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from madyn.dataset.layout import FITTED_QUANTITIES
from madyn.errors import ArchitectureError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from madyn.control import Control
    from madyn.dataset import Dataset
    from madyn.prediction import Predictor
    from madyn.prediction.published import ParameterPredictor

Case = dict[str, Any]
"""What one file of a picture is drawn for: {"model": "pythia_14m", "step": 512}, say."""

DEPTHS = {"shallow": 1 / 6, "middle": 1 / 2, "deep": 5 / 6}
"""The layers that stand for a model in the example fits, by relative depth."""


class Source:
    """A dataset as the pictures read it: what several of them need is read once, and models come small to large."""

    def __init__(self, dataset: Dataset, predictor: ParameterPredictor | None = None) -> None:
        self.dataset = dataset
        self.models = sorted(dataset.models, key=lambda model: (self._size(model), model))
        self._fits: dict[tuple[str, str], xr.Dataset] = {}
        self.given_predictor = predictor

    def _size(self, model: str) -> float:
        try:
            return self.dataset.parameter_count(model)
        except ArchitectureError:
            return float("inf")  # the order is a courtesy: a model of unknown size stands last

    def fits(self, model: str, quantity: str) -> xr.Dataset:
        if (model, quantity) not in self._fits:
            self._fits[model, quantity] = self.dataset.fits(model, quantity)
        return self._fits[model, quantity]

    @functools.cached_property
    def parameters(self) -> pd.DataFrame:
        """The parameter table, the models small to large and each one's layers in order."""
        table = self.dataset.parameters
        order = [self.models.index(model) for model in table["model"]]
        return table.assign(_order=order).sort_values(["_order", "layer_index"]).drop(columns="_order")

    @functools.cached_property
    def curve_predictor(self) -> Predictor:
        """A predictor of curves fitted to this dataset."""
        from madyn.prediction import Predictor

        return Predictor().fit(self.dataset)

    @functools.cached_property
    def control(self) -> Control:
        """What the remedies in this dataset do."""
        from madyn.control import study_control

        return study_control(self.dataset)

    @functools.cached_property
    def predictor(self) -> ParameterPredictor:
        """The published predictor fitted to this dataset, unless one was given: it takes minutes and serves many
        pictures."""
        if self.given_predictor is not None:
            return self.given_predictor
        from madyn.prediction.published import ParameterPredictor

        return ParameterPredictor().fit(self.dataset)


def the_dataset(_: Source) -> list[Case]:
    return [{}]


def each_model(source: Source) -> list[Case]:
    return [{"model": model} for model in source.models]


def each_step(source: Source) -> list[Case]:
    return [{"model": model, "step": step} for model in source.models for step in source.dataset.steps(model)]


def each_fitted_quantity(source: Source) -> list[Case]:
    return [{"model": model, "quantity": q} for model in source.models for q in FITTED_QUANTITIES]


def each_depth(source: Source) -> list[Case]:
    return [{**case, "depth": depth} for case in each_fitted_quantity(source) for depth in DEPTHS]
