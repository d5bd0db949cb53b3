"""Parameters in place of curves: what the regressors of Table 3 would have said of the same models.

The published scores, the same with architectures and regions left out, and the curves that predicted parameters draw:
both ways of predicting are held against the same measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.prediction.derived import steps_of
from madyn.prediction.predictor import DEFAULT, fitted_parameters
from madyn.prediction.scoring import LEFT_OUT, Predictions, peaks_of
from madyn.prediction.table import CurveTable
from madyn.processes import in_order
from madyn.typing import Array, Mask

if TYPE_CHECKING:
    import pandas as pd

    from madyn.dataset import Dataset


def table_3(
    dataset: Dataset,
    table: CurveTable,
    protocols: Mapping[str, list[Mask]],
    predictions: Mapping[str, Mapping[str, Predictions]],
    jobs: int | None = None,
    on_fold: Callable[[], None] = lambda: None,
) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """The published scores, the same for what `protocols` leave out, and the curves that predicted parameters draw.

    For each target and fold the curve takes the regressor that did best in the cross-validation on what was not left
    out.

    Args:
        predictions: predicted curves, whose fitted parameters are scored beside the regressors'.
        jobs, on_fold: as in `evaluation.evaluate`.

    Raises:
        DatasetError: the dataset has no fits, or too few to learn from.
    """
    import pandas as pd

    from madyn.prediction.published import protocols as published
    from madyn.prediction.published.targets import targets_of

    parameters = dataset.parameters
    parameters = parameters.loc[parameters["model"].isin(list(table.subjects))].reset_index(drop=True)
    usable = published.usable_rows(parameters)
    place = {key: i for i, key in enumerate(zip(table.rows["model"], table.rows["layer"], strict=True))}
    where = np.array([place[key] for key in zip(usable["model"], usable["layer_index"], strict=True)])
    tasks: list[tuple[str, Mask | None]] = [(published.RANDOM_LAYERS, None)]
    for protocol, masks in protocols.items():
        tests = [mask[where] for mask in masks]
        tasks += [(_published_name(protocol), test) for test in tests if test.any() and not test.all()]
    parts: dict[str, list[pd.DataFrame]] = {}
    done = in_order(_fold, ((parameters, *task) for task in tasks), jobs)
    for (protocol, _), part in zip(tasks, done, strict=True):
        parts.setdefault(protocol, []).append(part)
        on_fold()
    whole = {protocol: pd.concat(folds, ignore_index=True) for protocol, folds in parts.items()}
    scores = [published.score_predictions(part) for part in whole.values()]
    drawn = {p: _drawn(whole[_published_name(p)], table, place) for p in protocols if _published_name(p) in whole}
    for protocol, by_name in predictions.items():
        mine = np.any([mask[where] for mask in protocols[protocol]], axis=0)
        if DEFAULT in by_name and mine.any():
            curves = by_name[DEFAULT].middle[where[mine]]
            name = _published_name(protocol)
            scores.append(_own_parameters(usable.loc[mine], curves, table, name, targets_of(usable)))
    return pd.concat(scores, ignore_index=True), drawn


def _published_name(protocol: str) -> str:
    from madyn.prediction.published.protocols import WHOLE_MODELS

    return WHOLE_MODELS if protocol == LEFT_OUT else protocol


def _fold(parameters: pd.DataFrame, protocol: str, test: Mask | None) -> pd.DataFrame:
    from madyn.prediction.published.protocols import out_of_fold

    split = None if test is None else [(np.flatnonzero(~test), np.flatnonzero(test))]
    return out_of_fold(parameters, protocol, splits=split)


def _drawn(predictions: pd.DataFrame, table: CurveTable, place: Mapping[tuple[Any, Any], int]) -> Predictions:
    """Curves from predicted parameters, nan for layers without."""
    from madyn.curves.hypotheses.registry import HYPOTHESES
    from madyn.prediction.published.regressors import BASELINE
    from madyn.prediction.published.targets import TARGETS

    curve = HYPOTHESES["reparam"]
    learned = predictions.loc[predictions["regressor"] != BASELINE].reset_index(drop=True)
    by_row = learned.assign(cv_r2=learned["cv_r2"].fillna(-np.inf)).groupby(["target", "model", "layer_index"])
    chosen = learned.loc[by_row["cv_r2"].idxmax().to_numpy()]
    wide = chosen.pivot_table(index=["model", "layer_index"], columns="target", values="value")
    by_name = {target.parameter: wide[name].to_numpy(float) for name, target in TARGETS.items()}
    floor = np.finfo(float).tiny
    for target in TARGETS.values():
        if target.positive:
            by_name[target.parameter] = np.maximum(by_name[target.parameter], floor)
    popt = np.column_stack([by_name[name] for name in curve.param_names])
    drawn = np.full(table.curves.shape, np.nan)
    for row, key in zip(popt, wide.index, strict=True):
        steps = steps_of(table.positions, table.subjects[key[0]].training.steps)
        drawn[place[key]] = np.log(np.maximum(curve.values(steps, row[np.newaxis])[0], 1.0))
    empty = np.full(drawn.shape, np.nan)
    return Predictions(drawn, empty, empty, peaks_of(table, np.ones(len(drawn), bool), drawn))


def _own_parameters(
    rows: pd.DataFrame, curves: Array, table: CurveTable, protocol: str, all_targets: pd.DataFrame
) -> pd.DataFrame:
    """How close the parameters of predicted curves come to those of the measured ones, scored as Table 3 is: on scales
    that are fitted to the targets of the whole table."""
    import pandas as pd

    from madyn.prediction.published import protocols as published
    from madyn.prediction.published.targets import TARGETS, targets_of

    observed = targets_of(rows)
    last = np.array([table.subjects[model].training.steps for model in rows["model"]])
    fits = pd.concat(
        [
            fitted_parameters(curves[last == steps], table.positions, float(steps)).set_axis(
                np.flatnonzero(last == steps), axis=0
            )
            for steps in np.unique(last)
        ]
    ).sort_index()
    parts = []
    for name, target in TARGETS.items():
        scale = target.transform().fit(all_targets[name].to_numpy())
        part = {
            "target": name,
            "regressor": published.FITTED,
            "protocol": protocol,
            "model": rows["model"].to_numpy(),
            "layer_index": rows["layer_index"].to_numpy(),
            "observed": scale.forward(observed[name].to_numpy()),
            "predicted": scale.forward(fits[target.parameter].to_numpy()),
            "cv_r2": np.nan,
            # One architecture at a time, where all rows were left out in turn.
            "n_train": len(all_targets) - len(rows) or round(len(rows) * (1 - 1 / table.architectures)),
        }
        parts.append(pd.DataFrame(part))
    return published.score_predictions(pd.concat(parts, ignore_index=True))
