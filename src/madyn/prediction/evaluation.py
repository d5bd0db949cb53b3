"""How well curves are predicted of models that were not learned from, beside what is easy and what is possible.

Two questions. *Leave one architecture out*: all its layers and seeds are predicted from the other architectures.
*Leave a region out*: all architectures of the largest width (the greatest depth, the highest MLP ratio) are predicted
from the smaller ones, which is extrapolation. Everything is learned anew without what is left out: hyper-parameters,
principal components, and the residuals that intervals come from.

Beside the approaches stand what a user could do without them (the mean curve by depth; the nearest architecture's
curve; the curve drawn from the parameters that the regressors of Table 3 predict) and the ceiling that chance sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import Dataset, open_dataset
from madyn.errors import MOST_WORKERS, DatasetError, MadynError, check_range
from madyn.notebook import Shown
from madyn.prediction.approaches import APPROACHES, MIXED, approach_named
from madyn.prediction.cautions import ENOUGH_ARCHITECTURES
from madyn.prediction.derived import last_steps, quantity
from madyn.prediction.inputs import in_words
from madyn.prediction.left_out import Calibrated, fit_calibrated
from madyn.prediction.parameters import table_3
from madyn.prediction.predictor import QUANTILES
from madyn.prediction.scoring import CEILING, LEFT_OUT, Predictions, ceiling_interval, score_all
from madyn.prediction.table import CurveTable, curve_table
from madyn.processes import in_order
from madyn.typing import Mask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


TABLE_3 = "table_3"
LABELS = {
    **{name: approach.label for name, approach in APPROACHES.items()},
    TABLE_3: "Table 3's regressors",
    CEILING: "ceiling (seeds)",
}
"""What the rows of the table are called."""

_REGIONS = ("hidden size", "layers", "MLP ratio")
_INNER_FOLDS = 5


@dataclass(frozen=True)
class Evaluation(Shown):
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

    def __repr__(self) -> str:
        protocols, approaches = (dict.fromkeys(self.scores[name]) for name in ("protocol", "approach"))
        return (
            f"<madyn Evaluation of {len(approaches)} approaches on {self.table.architectures} architectures\n "
            f"{'; '.join(map(str, protocols))}\n scores, parameters: tables; predictions, notes>"
        )

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        columns = ["protocol", "approach", "r2", "median_error", "final_r2", "largest_r2", "coverage", "way"]
        return self.scores.loc[:, columns].head(most), len(self.scores)

    def to_dataframe(self) -> pd.DataFrame:
        """The scores: a row a protocol and approach. The frame is the caller's own."""
        return self.scores.copy()

    def plot(self) -> Figure:
        """R2, typical error and coverage of every approach, a mark a protocol."""
        return self._drawn()


def evaluate(
    dataset: str | Path | Dataset,
    *,
    approaches: Sequence[str] | None = None,
    jobs: int | None = None,
    on_start: Callable[[int], None] = lambda count: None,
    on_fold: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score approaches on architectures and regions left out, and the regressors of Table 3 under their protocol.

    Args:
        dataset: a dataset, or its folder, or its name.
        approaches: names among `approaches.APPROACHES`, and `"table_3"`; all by default.
        jobs: folds at the same time, each in a process; as many as there are cores by default.
        on_start: called with the number of folds; `on_fold` as each ends.

    Raises:
        DatasetError: fewer than five architectures: no honest score exists.
        UsageError: an approach is unknown.
        MissingDependencyError: scikit-learn is not installed.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> scores = madyn.evaluate(few, approaches=["nearest"], jobs=1)
    >>> scores.to_dataframe()["approach"].iloc[0], scores.plot().axes[0].get_title() is not None
    ('nearest', True)
    """
    names = list(dict.fromkeys(approaches)) if approaches else [*APPROACHES, TABLE_3]
    for name in names:
        if name != TABLE_3:
            approach_named(name)
    dataset = open_dataset(dataset)
    table = curve_table(dataset)
    if table.architectures < ENOUGH_ARCHITECTURES:
        raise DatasetError(
            f"{dataset.path}: an honest score needs {ENOUGH_ARCHITECTURES} architectures measured to their end, and it "
            f"has {table.architectures}; `madyn predict` still answers, and says so"
        )
    notes = [f"{model} is left out: {reason}." for model, reason in table.left_out.items()]
    protocols = protocols_of(table)
    folds = sum(map(len, protocols.values()))
    on_start(folds * (1 + (TABLE_3 in names)) + (TABLE_3 in names))
    held_out = leave_out(table, [name for name in names if name != TABLE_3], jobs, on_fold)
    parameters = None
    if TABLE_3 in names:
        try:
            parameters, by_protocol = table_3(dataset, table, protocols, held_out, jobs, on_fold)
            for protocol, predictions in by_protocol.items():
                held_out[protocol][TABLE_3] = predictions
        except MadynError as e:
            notes.append(f"The regressors of Table 3 are not scored: {e}.")
    low, high = ceiling_interval(table)
    if np.isfinite(low):
        notes.append(
            f"The ceiling's R2 against single runs is {low:.3f} to {high:.3f}: 90 %, drawing its architectures again."
        )
    return Evaluation(score_all(table, held_out), parameters, table, held_out, notes)


def leave_out(
    table: CurveTable,
    names: Sequence[str],
    jobs: int | None = None,
    on_fold: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Predictions]]:
    """What approaches predict of the rows of a table without them, by protocol and approach."""
    protocols = protocols_of(table)
    folds = [(protocol, mask) for protocol, masks in protocols.items() for mask in masks]
    predictions = {protocol: {name: _nothing(table) for name in names} for protocol in protocols}
    if jobs is not None:
        check_range("jobs", jobs, 1, MOST_WORKERS)
    done = in_order(_fold, ((table, mask, names) for _, mask in folds), jobs)
    for (protocol, mask), by_name in zip(folds, done, strict=True):
        for name, part in by_name.items():
            held = predictions[protocol][name]
            held.middle[mask], held.low[mask], held.high[mask] = part.middle, part.low, part.high
            held.peak[mask] = part.peak
        on_fold()
    return predictions


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


def _fold(table: CurveTable, test: Mask, names: Sequence[str]) -> dict[str, Predictions]:
    train, rows = table.take(~test), table.rows.loc[test]
    predictions, settings = {}, {}
    for name in names:
        state = fit_calibrated(train, name, folds=_INNER_FOLDS, settings=_known(name, settings))
        settings[name] = state.fitted.settings
        predictions[name] = predict_rows(state, rows)
    return predictions


def _known(name: str, settings: Mapping[str, Any]) -> Any:
    """A mixture takes over what its parts have found already."""
    if name != "mixture" or any(part not in settings for part in MIXED):
        return None
    return {str(i): settings[part] for i, part in enumerate(MIXED)}


def predict_rows(state: Calibrated, rows: pd.DataFrame) -> Predictions:
    """What a fitted approach says of n rows with the table's features."""
    calibration, at = state.calibration, state.table.positions
    curves, uncalibrated = state.fitted.predict(rows)
    spread = uncalibrated * calibration.scale
    low, middle, high = (curves + spread * calibration.quantile(p) for p in QUANTILES)
    peak = [
        calibration.quantile_of(quantity("peak step")(calibration.possible(curve, width), at, float(steps)), 0.5)
        for curve, width, steps in zip(curves, spread, last_steps(rows), strict=True)
    ]
    return Predictions(middle, low, high, np.array(peak))
