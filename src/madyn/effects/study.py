"""`study_effects`: all that a family shows, in tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import Dataset
from madyn.effects.layers import class_counts, layer_table, location_table, mean_growth, rank_correlations
from madyn.effects.responses import RESPONSES, model_responses
from madyn.effects.sizes import effect_sizes, variance_shares
from madyn.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Study:
    """What a family shows. See the functions of `madyn.effects` for the columns of each table.

    Attributes:
        responses: a row a model.
        layers: a row a model and layer.
        sizes, shares: effect sizes and parts of the variance, by response.
        counts: classes of trajectories by the layer's place.
        growth: what ratio, top 1 and median grew by, by place.
        directions: the published directions, as rank correlations.
        over_training, locked: where the largest values sit, over the steps and at the last.
        missing: why a table is not there, by its name.
    """

    responses: pd.DataFrame
    layers: pd.DataFrame
    counts: pd.DataFrame
    growth: pd.DataFrame
    directions: pd.DataFrame
    sizes: dict[str, pd.DataFrame] = field(default_factory=dict)
    shares: dict[str, pd.DataFrame] = field(default_factory=dict)
    over_training: pd.DataFrame | None = None
    locked: pd.DataFrame | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table that is there, in a form that is one file each."""
        import pandas as pd

        found = {
            "responses": self.responses,
            "layers": self.layers,
            "classes": self.counts.rename_axis("place").reset_index(),
            "growth": self.growth.reset_index(),
            "directions": self.directions,
        }
        for name, by_response in (("sizes", self.sizes), ("variance", self.shares)):
            if by_response:
                parts = [frame.reset_index().assign(response=response) for response, frame in by_response.items()]
                found[name] = pd.concat(parts, ignore_index=True)
        if self.locked is not None:
            found["locations"] = self.locked
        return found


def study_effects(dataset: Dataset) -> Study:
    """Responses, effect sizes, variance components, classes, growth and locations of a family.

    Raises:
        DatasetError: the dataset holds one architecture only, or lacks what the tables are made from.
    """
    responses = model_responses(dataset)
    if len(np.unique(responses["architecture"].to_numpy())) < 2:
        raise DatasetError(f"{dataset.path}: one architecture only; effects need a family (see `madyn lab`)")
    layers = layer_table(dataset)
    numbers = dict(zip(responses["model"], responses["architecture"], strict=True))
    study = Study(
        responses, layers, class_counts(layers), mean_growth(layers, numbers), rank_correlations(layers, responses)
    )

    def attempt(name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except DatasetError as e:
            study.missing[name] = str(e)
            return None

    for response in RESPONSES:
        if not np.isfinite(responses[response].to_numpy(float)).any():
            study.missing[response] = "not known of any model"
            continue
        for name, table, make in (
            ("effect sizes", study.sizes, effect_sizes),
            ("variance", study.shares, variance_shares),
        ):
            made = attempt(name, lambda make=make, response=response: make(responses, response))
            if made is not None:
                table[response] = made
    located = attempt("locations", lambda: location_table(dataset))
    if located is not None:
        study.over_training, study.locked = located
    return study
