"""What is expected of models that are to be trained: a number of each, with an interval for a single run, and how well
such numbers were told before.

Where a family has one wiring, all of it comes from architectures left out. Where wirings vary, an architecture is a
shape and a wiring. Left out by itself, either it takes a wiring with it, of which nothing else tells what it does, so
that the interval is that of a wiring never seen; or its twins in the other wirings stay and tell of the shape. So there

- a wiring that few shapes have is known where it was trained: what is expected is the mean of its own runs, and the
  interval comes from leaving out one run at a time;
- all else is predicted, and the interval comes from leaving out shapes, each in all its wirings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from madyn.prediction.cautions import ENOUGH_ARCHITECTURES
from madyn.prediction.conformal import one_spread
from madyn.prediction.inputs import SHAPE, Subject
from madyn.prediction.left_out import predict_left_out
from madyn.prediction.losses import Evidence, fit_losses
from madyn.prediction.objectives import OBJECTIVES, Objective
from madyn.prediction.predictor import Predictor
from madyn.prediction.table import CurveTable
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd

_LAYERS_A_BATCH = 4_000  # predicted in one call, which bounds the memory


@dataclass(frozen=True)
class Expected:
    """One number of n models.

    Attributes:
        lower, median, upper: (n,) the 0.05, 0.5 and 0.95 quantiles for a single run; nan where nothing is known.
        evidence: what it rests on, by what was left out.
    """

    lower: Array
    median: Array
    upper: Array
    evidence: Mapping[str, Evidence]

    @property
    def ends(self) -> tuple[Array, Array, Array]:
        return self.lower, self.median, self.upper

    def take(self, which: NDArray[np.intp]) -> Expected:
        """Of these models only."""
        return Expected(self.lower[which], self.median[which], self.upper[which], self.evidence)


@dataclass(frozen=True)
class _LeftOut:
    """Curves (n, P) of a table's rows by fits without their group, (n,), and what the groups are."""

    predicted: Array
    uncalibrated: Array
    groups: NDArray[np.intp]
    what: str


class Expectations:
    """What a predictor, and the runs that it learned from, let one expect."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._table = predictor.state.table
        subjects = self._table.subjects
        self._wirings_vary = len({subject.wiring for subject in subjects.values()}) > 1
        self._runs = _known_by_runs(subjects) if self._wirings_vary else {}

    def measured(self, objective: Objective) -> dict[str, float]:
        """An objective of each run, as its logarithm."""
        table = self._table
        return {
            model: objective.of(table.curves[mine], table.positions, table.subjects[model].training.steps)
            for model, mine in rows_by_model(table).items()
        }

    def of(self, subjects: Sequence[Subject], objective: Objective, more: float = 0.0) -> Expected:
        """The logarithm of an objective; `more` is a standard deviation of it that no residual could show."""
        seen = self.measured(objective)
        cells = {subject: [seen[model] for model in models] for subject, models in self._runs.items()}
        return _joined(subjects, cells, lambda others: self._predicted(others, objective, more), more)

    def losses(self, subjects: Sequence[Subject]) -> Expected | None:
        """The held-out losses; None where none can be told."""
        known = self._table.losses
        cells = {subject: [known[m] for m in models if m in known] for subject, models in self._runs.items()}
        found = _joined(subjects, {s: values for s, values in cells.items() if len(values) > 1}, self._losses)
        return found if found.evidence else None

    def _losses(self, subjects: Sequence[Subject]) -> Expected:
        law = fit_losses(self._table, self._left_out.groups, self._left_out.what)
        if law is None:
            low, middle, high = np.full((3, len(subjects)), np.nan)
            return Expected(low, middle, high, {})
        return Expected(*law.interval(subjects), {law.evidence.left_out: law.evidence})

    def _predicted(self, subjects: Sequence[Subject], objective: Objective, more: float) -> Expected:
        values, uncalibrated = _predictions(self._predictor, subjects, objective)
        _, evidence = self.left_out(objective)
        return Expected(*evidence.interval(values, uncalibrated, more), {evidence.left_out: evidence})

    def left_out(self, objective: Objective) -> tuple[Expected, Evidence]:
        """The logarithm of an objective of each model of the table, predicted without what it was left out with, but
        with the calibration of all; and how good that is."""
        table, left = self._table, self._left_out
        spread = left.uncalibrated * self._predictor.state.calibration.scale
        said, uncalibrated, groups = [], [], []
        for model, mine in rows_by_model(table).items():
            last = table.subjects[model].training.steps
            said.append(objective.of(left.predicted[mine], table.positions, last))
            uncalibrated.append(one_spread(spread[mine][np.newaxis])[0])
            groups.append(left.groups[mine[0]])
        measured = np.array(list(self.measured(objective).values()))
        values, widths = np.array(said), np.array(uncalibrated)
        evidence = Evidence.of(measured, values, widths, np.array(groups), left.what)
        return Expected(*evidence.interval(values, widths), {left.what: evidence}), evidence

    @cached_property
    def _left_out(self) -> _LeftOut:
        state, table = self._predictor.state, self._table
        if self._wirings_vary:
            # The MLP's width may have been exchanged for what a wiring adds: it tells no shapes apart.
            sizes = [name for name in SHAPE if name != "MLP ratio"]
            groups = np.asarray(table.rows.groupby(sizes, dropna=False, sort=False).ngroup(), np.intp)
            if len(np.unique(groups)) > 1:
                approach, seed = self._predictor.approach, self._predictor.seed
                return _LeftOut(
                    *predict_left_out(table, groups, approach, seed, state.fitted.settings), groups, "shapes"
                )
        return _LeftOut(state.predicted, state.uncalibrated, table.groups, "architectures")


def left_out_numbers(predictor: Predictor, name: str = "max ratio") -> tuple[pd.DataFrame, Evidence]:
    """A number of each model beside what was predicted of it without its architecture, or where wirings vary without
    its shape.

    Args:
        name: of `OBJECTIVES`.

    Returns:
        a row a model: model, measured, predicted, lower and upper (the median and a 90 % interval); and how good they
        are.
    """
    import pandas as pd

    objective, last = Objective(name, OBJECTIVES[name]), predictor.training.steps
    expectations = Expectations(predictor)
    seen = expectations.measured(objective)
    predicted, evidence = expectations.left_out(objective)
    lower, middle, upper = (objective.in_units(end, last) for end in predicted.ends)
    measured = objective.in_units(np.array(list(seen.values())), last)
    columns = {"model": list(seen), "measured": measured, "predicted": middle, "lower": lower, "upper": upper}
    return pd.DataFrame(columns), evidence


def rows_by_model(table: CurveTable) -> Mapping[str, NDArray[np.intp]]:
    """The numbers of each model's rows."""
    names = table.rows["model"].to_numpy()
    return {str(model): np.flatnonzero(names == model) for model in dict.fromkeys(names)}


def _known_by_runs(subjects: Mapping[str, Subject]) -> dict[Subject, list[str]]:
    """The runs of each model that has several, where fewer shapes than tell of others have its wiring."""
    shapes: dict[object, set[object]] = {}
    runs: dict[Subject, list[str]] = {}
    for model, subject in subjects.items():
        shapes.setdefault(subject.wiring, set()).add(subject.architecture)
        runs.setdefault(subject, []).append(model)
    return {
        subject: models
        for subject, models in runs.items()
        if len(models) > 1 and len(shapes[subject.wiring]) < ENOUGH_ARCHITECTURES
    }


def _joined(
    subjects: Sequence[Subject],
    cells: Mapping[Subject, Sequence[float]],
    predict: Callable[[Sequence[Subject]], Expected],
    more: float = 0.0,
) -> Expected:
    """From the runs of those that `cells` holds, and for the others predicted."""
    own = np.array([subject in cells for subject in subjects], bool)
    ends, evidence = np.full((3, len(subjects)), np.nan), {}
    if own.any():
        runs = _runs_left_out(list(cells.values()))
        mine = [cells[subject] for subject in subjects if subject in cells]
        means, widths = (np.array([f(values) for values in mine]) for f in (np.mean, _width))
        ends[:, own], evidence[runs.left_out] = runs.interval(means, widths, more), runs
    if not own.all():
        predicted = predict([subject for subject in subjects if subject not in cells])
        ends[:, ~own] = predicted.ends
        evidence |= predicted.evidence
    low, middle, high = ends
    return Expected(low, middle, high, evidence)


def _width(values: Sequence[float]) -> float:
    """How far one more run lies from the mean of some, in standard deviations of a run."""
    return math.sqrt(1 + 1 / len(values))


def _runs_left_out(cells: Sequence[Sequence[float]]) -> Evidence:
    """What the other runs' mean says of each run."""
    observed, predicted, widths = [], [], []
    for values in cells:
        others = [[*values[:i], *values[i + 1 :]] for i in range(len(values))]
        observed += values
        predicted += [float(np.mean(rest)) for rest in others]
        widths += [_width(rest) for rest in others]
    return Evidence.of(np.array(observed), np.array(predicted), np.array(widths), np.arange(len(observed)), "runs")


def _predictions(predictor: Predictor, subjects: Sequence[Subject], objective: Objective) -> tuple[Array, Array]:
    """An objective of n models, (n,), and one standard deviation of each model's curves, (n,), before calibration, as
    `Evidence` wants it."""
    state, last = predictor.state, predictor.training.steps
    values, uncalibrated = np.empty(len(subjects)), np.empty(len(subjects))
    size = max(1, _LAYERS_A_BATCH // max(subject.architecture.num_hidden_layers for subject in subjects))
    for start in range(0, len(subjects), size):
        for i, (curves, spread) in enumerate(predictor.log_curves(subjects[start : start + size]), start):
            values[i] = objective.of(curves, state.table.positions, last)
            uncalibrated[i] = one_spread(spread[np.newaxis])[0]
    return values, uncalibrated
