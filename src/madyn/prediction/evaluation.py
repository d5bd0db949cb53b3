"""How well curves are predicted of models that were not learned from, beside what is easy and what is possible.

Two questions. *Leave one architecture out*: all its layers and seeds are predicted from the other architectures.
*Leave a region out*: all architectures of the largest width (the greatest depth, the highest MLP ratio) are predicted
from the smaller ones, which is extrapolation. Everything is learned anew without what is left out: hyper-parameters,
principal components, and the residuals that intervals come from.

Beside the approaches stand what a user could do without them (the mean curve by depth; the nearest architecture's
curve; the curve drawn from the parameters that the regressors of Table 3 predict) and the ceiling: a single run departs
from its architecture's mean by its seed's chance, which no architecture tells. A predictor that knew the mean exactly
would score the ceiling, which is estimated from the architectures that were trained with several seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from madyn.errors import DatasetError, MadynError
from madyn.prediction.approaches import APPROACHES, MIXED, approach_named
from madyn.prediction.derived import quantity
from madyn.prediction.inputs import in_words
from madyn.prediction.predictor import (
    DEFAULT,
    ENOUGH_ARCHITECTURES,
    Calibrated,
    fit_calibrated,
    fitted_parameters,
)
from madyn.prediction.table import CurveTable, curve_table

if TYPE_CHECKING:
    import pandas as pd

    from madyn.dataset import Dataset

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEFT_OUT = "architecture left out"
CEILING = "ceiling"
TABLE_3 = "table_3"
LABELS = {
    **{name: approach.label for name, approach in APPROACHES.items()},
    TABLE_3: "Table 3's regressors",
    CEILING: "ceiling (seeds)",
}
"""What the rows of the table are called."""

INTERVAL = (0.05, 0.95)
PEAK_FACTOR = 1.5

_REGIONS = ("hidden size", "layers", "MLP ratio")
_INNER_FOLDS = 5


@dataclass(frozen=True)
class Predictions:
    """What an approach says of the rows that were left out, under one protocol.

    Attributes:
        middle, low, high: (n, P) log curves: the median and the ends of the 90 % interval for a single run; nan in rows
            that were not left out.
        peak: (n,) the median of log(1 + step) of the peak, if there is one.
    """

    middle: Floats
    low: Floats
    high: Floats
    peak: Floats

    @property
    def rows(self) -> Mask:
        """Which rows are predicted."""
        return np.isfinite(self.middle[:, 0])


@dataclass(frozen=True)
class Evaluation:
    """Scores of every approach, and what they were made from.

    Attributes:
        scores: a row a protocol and approach; see `score`. `way` is how much of the way from the nearest architecture
            to the ceiling an approach goes, by R2 against the means over seeds.
        parameters: scores of the five parameters, as `published.scores` gives them; with whole models left out also
            those of the parameters fitted to the predicted curves (regressor "predicted curve"). None where the dataset
            has no fits.
        table: the curves.
        predictions: by protocol and approach.
        notes: what a reader must know.
    """

    scores: pd.DataFrame
    parameters: pd.DataFrame | None
    table: CurveTable
    predictions: Mapping[str, Mapping[str, Predictions]]
    notes: list[str] = field(default_factory=list)


def evaluate(
    dataset: Dataset,
    *,
    approaches: Sequence[str] | None = None,
    jobs: int | None = None,
    on_start: Callable[[int], None] = lambda count: None,
    on_fold: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score approaches on architectures and regions left out, and the regressors of Table 3 under their protocol.

    Args:
        approaches: names among `approaches.APPROACHES`; all by default.
        jobs: folds at the same time, each in a process; as many as there are cores by default.
        on_start: called with the number of folds; `on_fold` as each ends.

    Raises:
        DatasetError: fewer than five architectures: no honest score exists.
        UsageError: an approach is unknown.
        MissingDependencyError: scikit-learn is not installed.
    """
    names = list(dict.fromkeys(approaches)) if approaches else list(APPROACHES)
    for name in names:
        approach_named(name)
    table = curve_table(dataset)
    if table.architectures < ENOUGH_ARCHITECTURES:
        raise DatasetError(
            f"{dataset.path}: an honest score needs {ENOUGH_ARCHITECTURES} architectures measured to their end, and it "
            f"has {table.architectures}; `madyn predict` still answers, and says so"
        )
    found = leave_out(table, names, jobs, on_start, on_fold)
    notes = [f"{model} is left out: {reason}." for model, reason in table.left_out.items()]
    parameters = None
    try:
        parameters, by_protocol = _table_3(dataset, table, protocols_of(table), found)
        for protocol, predictions in by_protocol.items():
            found[protocol][TABLE_3] = predictions
    except MadynError as e:
        notes.append(f"The regressors of Table 3 are not scored: {e}.")
    return Evaluation(score_all(table, found), parameters, table, found, notes)


def leave_out(
    table: CurveTable,
    names: Sequence[str],
    jobs: int | None = None,
    on_start: Callable[[int], None] = lambda count: None,
    on_fold: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Predictions]]:
    """What approaches predict of the rows of a table without them, by protocol and approach."""
    protocols = protocols_of(table)
    folds = [(protocol, mask) for protocol, masks in protocols.items() for mask in masks]
    on_start(len(folds))
    found = {protocol: {name: _nothing(table) for name in names} for protocol in protocols}
    for number, by_name in _in_processes(table, [mask for _, mask in folds], list(names), jobs):
        protocol, mask = folds[number]
        for name, part in by_name.items():
            held = found[protocol][name]
            held.middle[mask], held.low[mask], held.high[mask] = part.middle, part.low, part.high
            held.peak[mask] = part.peak
        on_fold()
    return found


def _nothing(table: CurveTable) -> Predictions:
    curves = [np.full(table.curves.shape, np.nan) for _ in range(3)]
    return Predictions(*curves, peak=np.full(len(table.curves), np.nan))


def protocols_of(table: CurveTable) -> dict[str, list[Mask]]:
    """Which rows are left out together, by protocol."""
    import pandas as pd

    protocols = {LEFT_OUT: [table.groups == group for group in np.unique(table.groups)]}
    for feature in _REGIONS:
        values = table.rows[feature].to_numpy(float)
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            continue
        top = values == values.max()
        if len(pd.unique(table.groups[~top])) >= ENOUGH_ARCHITECTURES - 1:
            protocols[f"{feature} {in_words(feature, values.max())} left out"] = [top]
    return protocols


def _in_processes(
    table: CurveTable, masks: list[Mask], names: list[str], jobs: int | None
) -> Iterator[tuple[int, dict[str, Predictions]]]:
    from joblib import Parallel, delayed

    tasks = (delayed(_fold)(number, table, mask, names) for number, mask in enumerate(masks))
    # Trees and small matrices leave cores idle: whole folds side by side do not.
    yield from Parallel(n_jobs=jobs or -1, return_as="generator_unordered")(tasks)  # type: ignore[misc]


def _fold(number: int, table: CurveTable, test: Mask, names: Sequence[str]) -> tuple[int, dict[str, Predictions]]:
    train, rows = table.take(~test), table.rows.loc[test]
    found, settings = {}, {}
    for name in names:
        state = fit_calibrated(train, name, folds=_INNER_FOLDS, settings=_known(name, settings))
        settings[name] = state.fitted.settings
        found[name] = predict_rows(state, rows)
    return number, found


def _known(name: str, settings: Mapping[str, Any]) -> Any:
    """A mixture takes over what its parts have found already."""
    if name != "mixture" or any(part not in settings for part in MIXED):
        return None
    return {str(i): settings[part] for i, part in enumerate(MIXED)}


def predict_rows(state: Calibrated, rows: pd.DataFrame) -> Predictions:
    """What a fitted approach says of n rows with the table's features."""
    calibration, at = state.calibration, state.table.positions
    curves, claimed = state.fitted.predict(rows)
    spread = claimed * calibration.scale
    middle, low, high = (curves + spread * calibration.quantile(p) for p in (0.5, *INTERVAL))
    last = 2 ** rows["training steps"].to_numpy(float)
    peak = [
        calibration.quantile_of(quantity("peak step")(calibration.possible(curve, width), at, float(steps)), 0.5)
        for curve, width, steps in zip(curves, spread, last, strict=True)
    ]
    return Predictions(middle, low, high, np.array(peak))


# scores ------------------------------------------------------------------------------------------------------------


def score(table: CurveTable, rows: Mask, predictions: Predictions) -> dict[str, float]:
    """How close predictions come to the single runs of these rows, and to the means over their seeds.

    Returns:
        r2: of the log ratio, over layers and steps.
        median_error: the median of |predicted / measured - 1|.
        final_r2, largest_r2: of the logarithms of the final and the largest ratio, over layers.
        peak_within: among layers that have a peak, the share whose predicted peak is at a step within a factor of 1.5;
            nan where none has.
        coverage: the share of layers and steps inside their 90 % interval, each architecture counting once.
        width: the median ratio of the interval's upper end to its lower.
        r2_means, final_r2_means, largest_r2_means: against the means over an architecture's seeds.
        layers, architectures: how many were scored.
    """
    y, p = table.curves[rows], predictions.middle[rows]
    low, high = predictions.low[rows], predictions.high[rows]
    groups = table.groups[rows]
    inside = ((y >= low) & (y <= high)).mean(axis=1)
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / (len(counts) * counts[number])
    means, their = _means(table, rows), p
    known = np.isfinite(high).all()
    return {
        **_closeness(table, rows, y, p, predictions.peak[rows]),
        "coverage": float(weights @ inside) if known else np.nan,
        "width": float(np.exp(np.median(high - low))) if known else np.nan,
        **{f"{name}_means": value for name, value in _r2s(means, their, table.positions).items()},
        "layers": len(y),
        "architectures": len(counts),
    }


def _closeness(table: CurveTable, rows: Mask, y: Floats, p: Floats, peak: Floats) -> dict[str, float]:
    observed = _peaks(table, rows, y)
    off = np.abs(observed - peak)[np.isfinite(observed)]
    return {
        **_r2s(y, p, table.positions),
        "median_error": float(np.median(np.abs(np.expm1(p - y)))),
        # Where none is predicted, it is missed.
        "peak_within": float((off <= np.log(PEAK_FACTOR) + 1e-9).mean()) if len(off) else np.nan,
        "peaks": len(off),
    }


def _peaks(table: CurveTable, rows: Mask, curves: Floats) -> Floats:
    """log(1 + step) of the peak of each of these rows' curves, nan where there is none."""
    last = np.array([table.subjects[model].training.steps for model in table.rows["model"].to_numpy()[rows]], float)
    found = np.empty(len(curves))
    for steps in np.unique(last):
        found[last == steps] = quantity("peak step")(curves[last == steps], table.positions, float(steps))
    return found


def _r2s(y: Floats, p: Floats, at: Floats) -> dict[str, float]:
    largest, final = quantity("largest ratio"), quantity("final ratio")
    return {
        "r2": _r2(y, p),
        "final_r2": _r2(final(y, at, 0), final(p, at, 0)),
        "largest_r2": _r2(largest(y, at, 0), largest(p, at, 0)),
    }


def _r2(y: Floats, p: Floats) -> float:
    spread = np.square(y - y.mean()).sum()
    return float(1 - np.square(y - p).sum() / spread) if spread > 0 else np.nan


def _means(table: CurveTable, rows: Mask) -> Floats:
    """For each row the mean over the seeds of its architecture and layer, (n, P)."""
    _, number, counts = np.unique(table.keys[rows], return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), table.curves.shape[1]))
    np.add.at(sums, number, table.curves[rows])
    return (sums / counts[:, np.newaxis])[number]


def ceiling(table: CurveTable, rows: Mask) -> dict[str, float]:
    """The scores of a predictor that knew each architecture's mean exactly, from those trained with several seeds.

    The departure of a run from the mean over its n seeds is smaller than that from the true mean by the square root of
    (n - 1) / n; it is put right by that. Empty where no architecture was trained with several seeds.
    """
    _, number, counts = np.unique(table.keys[rows], return_inverse=True, return_counts=True)
    n = counts[number][:, np.newaxis].astype(float)
    y, means = table.curves[rows], _means(table, rows)
    repeated = n[:, 0] > 1
    if not repeated.any():
        return {}
    departure = (y - means)[repeated] * np.sqrt(n / np.maximum(n - 1, 1))[repeated]
    known = y[repeated] - departure
    mine = np.flatnonzero(rows)[repeated]
    mask = np.zeros(len(rows), bool)
    mask[mine] = True
    close = _closeness(table, mask, y[repeated], known, _peaks(table, mask, known))
    # One variance for all rows, so that the ceiling and the scores are shares of the same spread.
    at, found = table.positions, {}
    for name, of in (("r2", lambda c: c), *((f"{q}_r2", _quantity_of(q, at)) for q in ("final", "largest"))):
        noise = np.square(of(y[repeated]) - of(known))
        found[name] = 1 - float(noise.mean()) / float(np.var(of(y)))
        shares = n[repeated] if noise.ndim == 2 else n[repeated][:, 0]
        found[f"{name}_means"] = 1 - float((noise / shares).mean()) / float(np.var(of(means)))
    return {
        **close,
        **found,
        "layers": int(repeated.sum()),
        "architectures": len(np.unique(table.groups[mask])),
    }


def _quantity_of(name: str, at: Floats) -> Callable[[Floats], Floats]:
    of = quantity(f"{name} ratio")
    return lambda curves: of(curves, at, 0.0)


def score_all(table: CurveTable, found: Mapping[str, Mapping[str, Predictions]]) -> pd.DataFrame:
    """The scores of every approach and the ceiling, a row a protocol and approach; see `Evaluation`."""
    import pandas as pd

    lines = []
    for protocol, by_name in found.items():
        rows = next(iter(by_name.values())).rows
        scored = {name: score(table, rows & p.rows, p) for name, p in by_name.items() if (rows & p.rows).any()}
        possible = ceiling(table, rows)
        if possible:
            scored[CEILING] = possible
        floor = scored.get("nearest", {}).get("r2_means", np.nan)
        top = possible.get("r2_means", np.nan)
        for name, values in scored.items():
            way = (values["r2_means"] - floor) / (top - floor)
            lines.append({"protocol": protocol, "approach": name, **values, "way": way})
    return pd.DataFrame(lines)


# Table 3 -----------------------------------------------------------------------------------------------------------


def _table_3(
    dataset: Dataset,
    table: CurveTable,
    protocols: Mapping[str, list[Mask]],
    found: Mapping[str, Mapping[str, Predictions]],
) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """The published scores, and the curves drawn from the parameters that the best regressor of each target gives.

    Which regressor is best is told by the scores with whole models left out, which flatters these curves a little.
    """
    import pandas as pd

    from madyn.prediction.published import protocols as published
    from madyn.prediction.published.targets import targets_of

    parameters = dataset.parameters
    parameters = parameters.loc[parameters["model"].isin(list(table.subjects))].reset_index(drop=True)
    usable = published.usable_rows(parameters)
    place = {key: i for i, key in enumerate(zip(table.rows["model"], table.rows["layer"], strict=True))}
    where = np.array([place[key] for key in zip(usable["model"], usable["layer_index"], strict=True)])
    parts = {
        published.RANDOM_LAYERS: published.out_of_fold(parameters, published.RANDOM_LAYERS),
        LEFT_OUT: published.out_of_fold(parameters, published.WHOLE_MODELS),
    }
    for protocol, masks in protocols.items():
        test = masks[0][where]
        if protocol != LEFT_OUT and test.any() and not test.all():
            split = [(np.flatnonzero(~test), np.flatnonzero(test))]
            parts[protocol] = published.out_of_fold(parameters, protocol, splits=split)
    scores = published.score_predictions(pd.concat(parts.values(), ignore_index=True))
    best = published.best_regressors(scores)
    by_protocol = {
        protocol: _drawn(part, best, table, place)
        for protocol, part in parts.items()
        if protocol != published.RANDOM_LAYERS
    }
    for protocol, by_name in found.items():
        own = by_name.get(DEFAULT)
        mine = protocols[protocol][0][where] if protocol != LEFT_OUT else np.ones(len(where), bool)
        if own is not None and mine.any():
            name = published.WHOLE_MODELS if protocol == LEFT_OUT else protocol
            fitted = _own_parameters(usable.loc[mine], own.middle[where[mine]], table, name, targets_of(usable))
            scores = pd.concat([scores, fitted], ignore_index=True)
    return scores, by_protocol


def _drawn(
    predictions: pd.DataFrame, best: Mapping[str, str], table: CurveTable, place: Mapping[tuple[Any, Any], int]
) -> Predictions:
    """Curves from predicted parameters, nan for layers without."""
    from madyn.curves.hypotheses import HYPOTHESES
    from madyn.prediction.derived import steps_of
    from madyn.prediction.published.targets import TARGETS

    curve = HYPOTHESES["reparam"]
    chosen = predictions.loc[
        [best[t] == r for t, r in zip(predictions["target"], predictions["regressor"], strict=True)]
    ]
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
    return Predictions(drawn, empty, empty, _peaks(table, np.ones(len(drawn), bool), drawn))


def _own_parameters(
    rows: pd.DataFrame, curves: Floats, table: CurveTable, protocol: str, all_targets: pd.DataFrame
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
