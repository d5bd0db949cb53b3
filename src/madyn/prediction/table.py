"""The curves that a predictor learns from: the logarithm of each layer's ratio, on one grid of positions in a run.

Runs of different length are laid over one another by the position log(1 + step) / log(1 + last step): a run's start
is 0 and its end 1, as the learning rate's schedule has it, and the early steps, in which most happens, have room.
The length itself is a feature. Where all runs were measured at the same steps, the grid is those steps, and nothing
is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.errors import ArchitectureError, DatasetError, UsageError
from madyn.prediction.inputs import BUILT, DEPTH, OF_MODEL, Subject, depths, of_model, training_of, untold_of, wiring_of
from madyn.typing import Array
from madyn.wirings import in_words

if TYPE_CHECKING:
    import pandas as pd

    from madyn.dataset import Dataset


_TO_THE_END = 0.995  # of a run's position: a model measured less far has not shown its end
_GAP = 2.0  # a model may leave gaps so many times the widest of the grid; in a wider one, nothing is known


def positions(steps: ArrayLike, last_step: float) -> Array:
    """Where steps lie in a run of so many: 0 at the start, 1 at the end, more beyond it."""
    return np.log1p(np.asarray(steps, float)) / np.log1p(last_step)


@dataclass(frozen=True)
class CurveTable:
    """n layers' curves at P positions.

    Attributes:
        rows: n rows: model, layer, group (a number for each architecture, whatever its training and seed), cell (for
            each architecture and training), the features of `inputs.OF_MODEL` and the relative depth.
        curves: (n, P) natural logarithm of the ratio.
        positions: (P,) ascending, from 0 to 1.
        features: those of `inputs.OF_MODEL` that are learned from: they vary between the models, and are known of all.
        subjects: the shape and training of each model.
        losses: the held-out loss at the end, for those models whose loss is known.
        left_out: models that are not in the rows, with the reason.
    """

    rows: pd.DataFrame
    curves: Array
    positions: Array
    features: tuple[str, ...]
    subjects: Mapping[str, Subject]
    losses: Mapping[str, float]
    left_out: Mapping[str, str]

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        return self.rows["group"].to_numpy()

    @cached_property
    def keys(self) -> NDArray[np.intp]:
        """(n,) a number for each architecture, training and layer: rows that differ by their seed alone share it."""
        layer = self.rows["layer"].to_numpy()
        return self.rows["cell"].to_numpy() * (1 + layer.max()) + layer

    @property
    def architectures(self) -> int:
        return len(np.unique(self.groups))

    def take(self, mask: NDArray[np.bool_]) -> CurveTable:
        """These rows only."""
        rows = self.rows.loc[mask].reset_index(drop=True)
        names = set(rows["model"])
        return replace(
            self,
            rows=rows,
            curves=self.curves[mask],
            subjects={name: subject for name, subject in self.subjects.items() if name in names},
            losses={name: loss for name, loss in self.losses.items() if name in names},
        )

    def averaged(self) -> CurveTable:
        """One row for each architecture, training and layer: the mean over its seeds, under its first model's name."""
        first, _, means = means_by(self.keys, self.curves)
        return replace(self, rows=self.rows.iloc[first].reset_index(drop=True), curves=means)


def means_by(keys: NDArray[np.intp], curves: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Means of curves (n, P) over rows that share a key, (n,): the first row of each of m keys, (m,), the number of
    each row's key, (n,), and the means, (m, P)."""
    _, first, number, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(first), curves.shape[1]))
    np.add.at(sums, number, curves)
    return first, number, sums / counts[:, np.newaxis]


def curve_table(dataset: Dataset) -> CurveTable:
    """The curves of every model of a dataset that was measured to its end.

    Raises:
        DatasetError: there is none.
    """
    dataset = dataset.sound()
    subjects, measured, losses, left_out = {}, {}, {}, {}
    for model in dataset.models:
        try:
            subject = Subject(dataset.architecture(model), training_of(dataset, model), wiring_of(dataset, model))
        except (ArchitectureError, UsageError) as e:
            left_out[model] = str(e)
            continue
        steps = np.asarray(dataset.steps(model), float)
        at = positions(steps, subject.training.steps)
        if len(steps) < 2 or at[-1] < _TO_THE_END:
            left_out[model] = f"measured to step {steps[-1]:g} of {subject.training.steps}"
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.log(dataset.trajectories(model, "ratio").transpose("layer", "step").values)
        if len(log) != subject.architecture.num_hidden_layers:
            left_out[model] = f"{len(log)} layers were measured, and it has {subject.architecture.num_hidden_layers}"
            continue
        if not np.isfinite(log).all():
            left_out[model] = "a ratio is not finite, or is 0"
            continue
        subjects[model], measured[model] = subject, (at, log)
        record = dataset.training(model)
        loss = record.losses[max(record.losses)].get("held_out") if record and record.losses else None
        if loss is not None and np.isfinite(loss):
            losses[model] = float(loss)
    grid = max((at for at, _ in measured.values()), key=len, default=np.empty(0))
    for model, reason in _gaps({name: at for name, (at, _) in measured.items()}, grid).items():
        left_out[model] = reason
        del subjects[model], measured[model]
        losses.pop(model, None)
    for model, reason in _other_recipes({model: untold_of(dataset, model) for model in subjects}).items():
        left_out[model] = reason
        del subjects[model], measured[model]
        losses.pop(model, None)
    if not subjects:
        raise DatasetError(
            f"{dataset.path}: no model can be learned from: "
            + "; ".join(f"{model}: {reason}" for model, reason in list(left_out.items())[:3])
        )
    curves = [np.array([np.interp(grid, at, row) for row in log]) for at, log in measured.values()]
    return table_of(subjects, np.concatenate(curves), grid, losses, left_out)


def table_of(
    subjects: Mapping[str, Subject],
    curves: Array,
    at: Array,
    losses: Mapping[str, float],
    left_out: Mapping[str, str],
) -> CurveTable:
    """A table from its parts: log curves (n, P) at P positions, of the models' layers one after the other.

    Raises:
        ValueError: the shapes do not fit one another.
    """
    rows = _rows(subjects)
    if curves.shape != (len(rows), len(at)):
        raise ValueError(f"{curves.shape} curves for {len(rows)} layers at {len(at)} positions")
    values = {name: rows[name].to_numpy(float) for name in OF_MODEL}
    features = tuple(name for name, v in values.items() if np.isfinite(v).all() and np.ptp(v) > 0)
    return CurveTable(rows, curves, at, features, dict(subjects), dict(losses), dict(left_out))


def _gaps(measured: Mapping[str, Array], grid: Array) -> dict[str, str]:
    """Which models were measured so seldom that a curve between their steps would be made up, and why."""
    reasons = {}
    for model, at in measured.items():
        widest = float(np.diff(at, prepend=0.0).max())
        if widest > _GAP * float(np.diff(grid).max()) + 1e-9:
            reasons[model] = f"measured at {len(at)} steps only, with gaps in which nothing is known of it"
    return reasons


def _other_recipes(untold: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    """Which models were trained in another way than most are, in what no feature tells, and in what. Learned from, they
    would count as runs of the usual way."""
    known = {model: dict(recipe) for model, recipe in untold.items() if recipe is not None}
    usual = max(known.values(), key=list(known.values()).count, default={})
    reasons = {}
    for model, recipe in known.items():
        names = dict.fromkeys([*recipe, *usual])
        differ = {name: recipe.get(name, "as usual") for name in names if recipe.get(name) != usual.get(name)}
        if differ:
            reasons[model] = f"another recipe than most have: {in_words(differ)}"
    return reasons


def _rows(subjects: Mapping[str, Subject]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for model, subject in subjects.items():
        depth = depths(subject.architecture.num_hidden_layers)
        parts.append(pd.DataFrame({"model": model, "layer": np.arange(len(depth)), **of_model(subject), DEPTH: depth}))
    rows = pd.concat(parts, ignore_index=True)
    group = rows.groupby(list(BUILT), dropna=False, sort=False).ngroup()
    cell = rows.groupby(list(OF_MODEL), dropna=False, sort=False).ngroup()
    return rows.assign(group=group, cell=cell)


def rows_of(subjects: Sequence[Subject]) -> pd.DataFrame:
    """The rows of models that are not in a table, named by their number: model, layer, features and depth."""
    return _rows({str(i): subject for i, subject in enumerate(subjects)})


def fold_numbers(groups: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """A fold for each row, (n,), that keeps architectures whole: as many folds as architectures, at most `most`."""
    distinct = np.unique(groups)
    # Neighbours in the numbering tend to be alike; every `most`-th one is put in a fold.
    return np.searchsorted(distinct, groups) % min(most, len(distinct))


def nearest_models(table: CurveTable, subject: Subject) -> Mapping[str, float]:
    """The models of a table by their distance in shape and training, the nearest first: root mean square of the
    differences of the features that vary, each in standard deviations over the models."""
    rows = table.rows.drop_duplicates("model")
    values = {name: rows[name].to_numpy(float) for name in OF_MODEL}
    asked = of_model(subject)
    differences = [
        (v - asked[name]) / v.std()
        for name, v in values.items()
        if np.isfinite(v).all() and np.ptp(v) > 0 and np.isfinite(asked[name])
    ]
    distance = np.sqrt(np.mean(np.square(differences), axis=0)) if differences else np.zeros(len(rows))
    order = np.argsort(distance, kind="stable")
    names = rows["model"].to_numpy()
    return {str(names[i]): float(distance[i]) for i in order}
