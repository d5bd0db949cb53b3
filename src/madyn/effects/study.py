"""`study_effects`: all that a family shows, in tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.architecture import FIELDS, Shape, stand_in
from madyn.dataset import Dataset, open_dataset
from madyn.effects.departures import departure_effects
from madyn.effects.layers import class_counts, layer_table, location_table, mean_growth, rank_correlations
from madyn.effects.responses import HELD_OUT, RESPONSES, model_responses, whole_family
from madyn.effects.sizes import effect_sizes, variance_shares
from madyn.errors import DatasetError, one_of
from madyn.features import features_of
from madyn.notebook import Shown
from madyn.terminal import few

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(repr=False)
class Study(Shown):
    """What a family shows. See the functions of `madyn.effects` for the columns of each table.

    Attributes:
        responses: a row a model.
        layers: a row a model and layer.
        sizes, shares: effect sizes and parts of the variance, by response.
        departures: what models that depart in wiring or recipe do against those they are paired with, by response, the
            held-out loss among them.
        counts: classes of trajectories by the layer's place.
        growth: what ratio, top 1 and median grew by, by place.
        directions: the published directions, as rank correlations.
        over_training, locked: where the largest values sit, over the steps and at the last.
        missing: why a table is not there, or a model is left out, by its name.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> study = madyn.effects.study_effects(data.select(data.models[:36]))
    >>> list(study.tables())
    ['responses', 'layers', 'classes', 'growth', 'directions', 'sizes', 'locations']
    >>> len(study.plot().axes) > 0
    True
    >>> study.to_dataframe("responses").shape[0] == len(data.models[:36])
    True
    """

    responses: pd.DataFrame
    layers: pd.DataFrame
    counts: pd.DataFrame
    growth: pd.DataFrame
    directions: pd.DataFrame
    sizes: dict[str, pd.DataFrame] = field(default_factory=dict)
    shares: dict[str, pd.DataFrame] = field(default_factory=dict)
    departures: dict[str, pd.DataFrame] = field(default_factory=dict)
    over_training: pd.DataFrame | None = None
    locked: pd.DataFrame | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        count = len(np.unique(self.responses["architecture"].to_numpy()))
        return (
            f"<madyn Study of {len(self.responses)} models of {count} architectures\n {few(self.sizes)}\n "
            "tables(), responses, layers, sizes, shares, missing, ...>"
        )

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        tables = self.tables()
        table = tables["sizes"].set_index("response").reset_index() if "sizes" in tables else self.responses
        return table.head(most), len(table)

    def to_dataframe(self, table: str = "responses") -> pd.DataFrame:
        """One of `tables()`, by its name: responses (a row a model), layers, classes, growth, directions, and, where
        they could be made, sizes, variance, departures and locations.

        Raises:
            UsageError: there is no such table.
        """
        tables = self.tables()
        return tables[one_of("table", table, list(tables))].copy()

    def plot(self) -> Figure:
        """What each response is multiplied by when a factor doubles.

        Raises:
            UsageError: there are no effect sizes.
        """
        return self._drawn()

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
        for name, by_response in (("sizes", self.sizes), ("variance", self.shares), ("departures", self.departures)):
            if by_response:
                parts = [frame.reset_index().assign(response=response) for response, frame in by_response.items()]
                found[name] = pd.concat(parts, ignore_index=True)
        if self.locked is not None:
            found["locations"] = self.locked
        return found


def by_response(responses: pd.DataFrame, make: Callable[[pd.DataFrame, str], pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """A table of each response that one can be made of.

    Raises:
        DatasetError: it can be made of none; the reason of the first.
    """
    made: dict[str, pd.DataFrame] = {}
    reasons = []
    for response in RESPONSES:
        if np.isfinite(responses[response].to_numpy(float)).any():
            try:
                made[response] = make(responses, response)
            except DatasetError as e:
                reasons.append(e)
    if not made and reasons:
        raise reasons[0]
    return made


def _else(dataset: Dataset, model: str) -> dict[str, object]:
    """What a model is that is no factor: its kind, the rest of its shape, and the wiring where the lab built it."""
    record, shape = dataset.training(model), dataset.architecture(model)
    plan = record.plan.get("blueprint", {}) if record else {}
    rest = {one.words: one.of(shape) for name, one in features_of(Shape).items() if not _is_studied(name)}
    wiring = {name: value for name, value in plan.items() if name not in FIELDS}
    return {"model type": shape.model_type, **rest, **wiring}


def _is_studied(name: str) -> bool:
    """A field is a factor, or what stands in for it is one."""
    return bool((stand_in(name) or FIELDS[name]).factor)


def study_effects(dataset: str | Path | Dataset) -> Study:
    """Responses, effect sizes, variance components, classes, growth and locations of a family.

    Args:
        dataset: a dataset, or its folder, or its name.

    Raises:
        DatasetError: the dataset holds one architecture only, or lacks what the tables are made from.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> madyn.effects.study_effects(data.select(data.models[:6])).responses.shape[0]
    6
    """
    dataset, left_out = whole_family(open_dataset(dataset))
    responses = model_responses(dataset)
    if len(np.unique(responses["architecture"].to_numpy())) < 2:
        raise DatasetError(f"{dataset.path}: one architecture only; effects need a family (see `madyn lab`)")
    layers = layer_table(dataset)
    numbers = dict(zip(responses["model"], responses["architecture"], strict=True))
    study = Study(
        responses, layers, class_counts(layers), mean_growth(layers, numbers), rank_correlations(layers, responses)
    )
    study.missing.update(left_out)
    if any(responses["base"]):
        study.departures = {
            response: found
            for response in (*RESPONSES, HELD_OUT)
            if len(found := departure_effects(responses, response))
        }
    usual = responses.loc[responses["departure"] == "", "model"]
    others = [_else(dataset, model) for model in usual]
    differ = [
        name
        for name in dict.fromkeys(name for one in others for name in one)
        if len({str(one.get(name)) for one in others}) > 1
    ]
    if differ:
        study.missing["effects of wiring"] = (
            f"{', '.join(differ)} differ between models; only the factors named have effects here, and the rest counts "
            "as other architecture"
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
    study.sizes = attempt("effect sizes", lambda: by_response(responses, effect_sizes)) or {}
    study.shares = attempt("variance", lambda: by_response(responses, variance_shares)) or {}
    located = attempt("locations", lambda: location_table(dataset))
    if located is not None:
        study.over_training, study.locked = located
    return study
