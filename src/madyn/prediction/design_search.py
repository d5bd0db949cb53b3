"""The inverse of prediction: architectures, within limits, whose activations will do what is wanted.

All shapes on a grid within the limits are predicted, which takes seconds, so that no optimiser is needed. Those are
kept that no other shape beats both in what is wanted and in the held-out loss, since a model may have small
activations because it learns little. What is wanted is one number of a whole model, the largest over layers and steps,
say, and is calibrated as such: the largest of many noisy values lies above the largest of their medians.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from madyn.architecture import SEARCHED, Architecture
from madyn.errors import UsageError
from madyn.prediction.candidates import TO_EXTRAPOLATE, VARIED, Limits, bounds_of, candidates, none_left, span
from madyn.prediction.conformal import one_spread
from madyn.prediction.derived import LARGEST_LOG, in_units, quantity
from madyn.prediction.inputs import Subject
from madyn.prediction.losses import Evidence, LossLaw, fit_losses
from madyn.prediction.predictor import Predictor
from madyn.prediction.table import CurveTable, nearest_models
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


_LAYERS_A_BATCH = 4_000  # predicted in one call, which bounds the memory


@dataclass(frozen=True)
class Designs:
    """Designs none of which is beaten by another in both respects, the best in what is wanted first.

    Attributes:
        objective: what is wanted, in words: "lowest max ratio".
        against: "held-out loss", or "parameters" where no losses are known; less is better.
        table: a row a design: the fields of its architecture that were varied, head_size, mlp_ratio, parameters;
            objective_lower, objective, objective_upper and loss_lower, loss, loss_upper (the median and a 90 % interval
            for a single run; nan where no losses are known); nearest (a trained model), distance (in standard
            deviations of the features; 0 is the same shape), nearest_objective and nearest_loss (means over its seeds;
            nan where it was not measured), and outside (in words, what of it lies outside the data; empty if nothing
            does).
        architectures: of the rows.
        searched: how many shapes were predicted.
        evidence: how well two numbers were predicted for architectures left out: "objective", as its logarithm, and
            "loss", where losses are known.
        notes: what to know before believing it.
    """

    objective: str
    against: str
    table: pd.DataFrame
    architectures: list[Architecture]
    searched: int
    evidence: Mapping[str, Evidence]
    notes: list[str]

    def __repr__(self) -> str:
        return (
            f"<madyn Designs: {self.objective} against {self.against}\n {len(self.table)} of {self.searched:,} shapes "
            "are beaten by no other\n table, architectures, evidence, notes>"
        )


class _Objective(NamedTuple):
    """One number of a model: `of` takes log curves (layers, P), their positions (P,) and the last step, and gives the
    natural logarithm of a ratio, or of 1 + a step."""

    name: str
    of: Callable[[Array, Array, float], float]

    @property
    def is_step(self) -> bool:
        return self.name == "peak step"

    def in_units(self, values: Array, last_step: float) -> Array:
        """The ratio, at least 1, or the step, within the run."""
        if self.is_step:
            return np.clip(in_units("peak step", values), 0.0, last_step)
        return in_units("ratio", np.clip(values, 0.0, LARGEST_LOG))


def _peak_of_model(curves: Array, at: Array, last: float) -> float:
    """Where the largest ratio over layers peaks; the last step where it never falls by a tenth."""
    step = float(quantity("peak step")(curves.max(axis=0), at, last))
    return step if math.isfinite(step) else math.log1p(last)


def _largest_over_layers(name: str) -> Callable[[Array, Array, float], float]:
    of_layer = quantity(name)
    return lambda curves, at, last: float(of_layer(curves, at, last).max())


OBJECTIVES: Mapping[str, Callable[[Array, Array, float], float]] = {
    "max ratio": _largest_over_layers("largest ratio"),
    "final ratio": _largest_over_layers("final ratio"),
    "peak step": _peak_of_model,
}
"""What can be wanted, by name: the largest ratio over all layers and steps, that over all layers at the last step, and
the step at which the largest ratio over the layers is reached."""

_LARGEST = _Objective("max ratio", OBJECTIVES["max ratio"])


def design(
    predictor: Predictor,
    limits: Limits | None = None,
    *,
    minimize: str | None = None,
    maximize: str | None = None,
    at: int | None = None,
    extrapolate: bool = False,
) -> Designs:
    """Search architectures for the lowest or highest value of an objective, against the held-out loss.

    Args:
        predictor: a fitted one. What is not searched (vocabulary, rotary share, training, ...) is as most of its models
            have it.
        limits: what a design may be; by default anything within the range of the trained models.
        minimize, maximize: one of them, the name of an objective in `OBJECTIVES`.
        at: with "max ratio", the step at which the largest ratio over layers is wanted.
        extrapolate: allow what lies outside the range of the trained models. Otherwise it is refused.

    Returns:
        the designs that no other beats in both, with 90 % intervals, and how well such numbers were predicted before.

    Raises:
        UsageError: an unknown objective, limits outside the data, or no design within the limits.
    """
    limits = limits or Limits()
    objective, training, table = _objective(minimize, maximize, at), predictor.training, predictor.state.table
    family = [subject.architecture for subject in table.subjects.values()]
    bounds = bounds_of(limits, family, extrapolate)
    beyond = _beyond(at, training.steps, extrapolate)
    architectures, notes = candidates(predictor, limits, bounds, family)
    subjects = [Subject(architecture, training, predictor.wiring) for architecture in architectures]

    law = fit_losses(table)
    losses = law.interval(subjects) if law else (np.full(len(subjects), np.nan),) * 3
    (values, peaks), uncalibrated = _predicted(predictor, subjects, (objective, _LARGEST))
    evidence, seen = _evidence(predictor, objective)
    more = _drift(table, at, training.steps) if beyond else 0.0
    # Bounded before they are compared: what lies beyond a bound is worth the bound and no more.
    wanted = [objective.in_units(v, training.steps) for v in evidence.interval(values, uncalibrated, more)]

    allowed = np.flatnonzero(_allowed(limits, law, losses[1], _upper(predictor, peaks, uncalibrated)))
    first = wanted[1] if minimize is not None else -wanted[1]
    second = losses[1] if law else np.array([float(a.num_parameters) for a in architectures])
    costs = np.column_stack([first, second])
    front = allowed[pareto_front(costs[allowed])]
    front = front[np.lexsort((second[front], first[front]))]

    table = _table(predictor, [subjects[i] for i in front], objective, seen, beyond)
    columns = {f"objective{end}": value[front] for end, value in zip(_ENDS, wanted, strict=True)}
    columns |= {f"loss{end}": value[front] for end, value in zip(_ENDS, losses, strict=True)}
    table = table.assign(**columns).reindex(columns=list(_COLUMNS))
    shown = {"objective": evidence, **({"loss": law.evidence} if law else {})}
    caution = predictor.caution()
    return Designs(
        objective=f"{'lowest' if minimize is not None else 'highest'} {objective.name}",
        against="held-out loss" if law else "parameters",
        table=table,
        architectures=[architectures[i] for i in front],
        searched=len(subjects),
        evidence=shown,
        notes=[
            *([caution] if caution else []),
            *notes,
            *([_AFTER_THE_END] if beyond else []),
            *_remarks(objective, shown, table, len(subjects), training.steps),
        ],
    )


_ENDS = ("_lower", "", "_upper")
_DERIVED = tuple(name for name, one in SEARCHED.items() if one.formula is not None)
_COLUMNS = (
    *VARIED,
    *_DERIVED,
    "parameters",
    *(f"objective{end}" for end in _ENDS),
    *(f"loss{end}" for end in _ENDS),
    *("nearest", "distance", "nearest_objective", "nearest_loss", "outside"),
)


def pareto_front(costs: Array) -> NDArray[np.bool_]:
    """Which of n points with two costs, (n, 2), no other point beats: none is as low in both and lower in one."""
    distinct, which = np.unique(costs, axis=0, return_inverse=True)  # by the first cost, then by the second
    lowest_before = np.minimum.accumulate(np.concatenate([[np.inf], distinct[:-1, 1]]))[: len(distinct)]
    return (distinct[:, 1] < lowest_before)[which.reshape(-1)]


def _objective(minimize: str | None, maximize: str | None, at: int | None) -> _Objective:
    known = ", ".join(f"'{name}'" for name in OBJECTIVES)
    if (minimize is None) == (maximize is None):
        raise UsageError(f"say what is wanted, by either minimize or maximize; there are {known}")
    name = (minimize or maximize or "").strip().lower()
    if name not in OBJECTIVES:
        raise UsageError(f"there is no objective {name!r}; there are {known}")
    if at is None:
        return _Objective(name, OBJECTIVES[name])
    if name != "max ratio":
        raise UsageError(f"a step goes with 'max ratio', not with {name!r}")
    if at < 0:
        raise UsageError(f"at is {at}; steps count from 0")
    return _Objective(f"max ratio at {at}", _largest_over_layers(f"ratio at {at}"))


_AFTER_THE_END = (
    "Nothing was measured after the end of training: there the last value is held, with an interval that widens as the "
    "models moved over the last doubling of steps, and what is said of architectures left out is of the last step."
)


def _beyond(at: int | None, last: int, extrapolate: bool) -> str:
    """That a step lies after the end of training, in words; empty if it does not."""
    if at is None or at <= last:
        return ""
    said = f"step {at:,} is after the last one, {last:,}"
    if not extrapolate:
        raise UsageError(f"outside what was learned from: {said}; {TO_EXTRAPOLATE}")
    return said


def _predicted(
    predictor: Predictor, subjects: Sequence[Subject], objectives: Sequence[_Objective]
) -> tuple[Array, Array]:
    """Each objective of n models, (objectives, n), and one standard deviation of each model's curves, (n,), before
    calibration, as `Evidence` wants it.
    """
    state, last = predictor.state, predictor.training.steps
    values, uncalibrated = np.empty((len(objectives), len(subjects))), np.empty(len(subjects))
    size = max(1, _LAYERS_A_BATCH // max(subject.architecture.num_hidden_layers for subject in subjects))
    for start in range(0, len(subjects), size):
        batch = subjects[start : start + size]
        for i, (curves, spread) in enumerate(predictor.log_curves(batch), start):
            values[:, i] = [objective.of(curves, state.table.positions, last) for objective in objectives]
            uncalibrated[i] = one_spread(spread[np.newaxis])[0]
    return values, uncalibrated


def _upper(predictor: Predictor, values: Array, uncalibrated: Array) -> Array:
    """The 0.95 quantile of the logarithm of the largest ratio, (n,)."""
    return _evidence(predictor, _LARGEST)[0].interval(values, uncalibrated)[2]


def _evidence(predictor: Predictor, objective: _Objective) -> tuple[Evidence, Mapping[str, float]]:
    """What left-out architectures say of an objective, and its measured value, a logarithm, of each model."""
    state, seen, said, uncalibrated, groups = predictor.state, {}, [], [], []
    table, spread = state.table, state.uncalibrated * state.calibration.scale
    for model, mine in _rows_by_model(table).items():
        last = table.subjects[model].training.steps
        seen[model] = objective.of(table.curves[mine], table.positions, last)
        said.append(objective.of(state.predicted[mine], table.positions, last))
        uncalibrated.append(one_spread(spread[mine][np.newaxis])[0])
        groups.append(table.groups[mine[0]])
    measured = np.array(list(seen.values()))
    return Evidence.of(measured, np.array(said), np.array(uncalibrated), np.array(groups)), seen


def _rows_by_model(table: CurveTable) -> Mapping[str, NDArray[np.intp]]:
    names = table.rows["model"].to_numpy()
    return {str(model): np.flatnonzero(names == model) for model in dict.fromkeys(names)}


def _drift(table: CurveTable, at: int | None, last: int) -> float:
    """How far the largest ratio over layers may wander after the end of training, as a standard deviation of its
    logarithm: in each doubling of steps as far as it moved over the last one."""
    moved = []
    for model, mine in _rows_by_model(table).items():
        steps, curves = table.subjects[model].training.steps, table.curves[mine]
        half = _largest_over_layers(f"ratio at {steps // 2}")(curves, table.positions, steps)
        moved.append(OBJECTIVES["final ratio"](curves, table.positions, steps) - half)
    doublings = math.log2((1 + (at or last)) / (1 + last))
    return float(np.sqrt(np.mean(np.square(moved)) * max(doublings, 0.0)))


def _allowed(limits: Limits, law: LossLaw | None, losses: Array, peaks: Array) -> NDArray[np.bool_]:
    """Which of n shapes keep those limits that need a prediction, of their loss or of the logarithm of their peak."""
    if limits.max_loss is not None and law is None:
        raise UsageError("max_loss: the data hold too few held-out losses to predict one")
    tests = {}
    if limits.max_loss is not None:
        tests[f"max loss {limits.max_loss:g}"] = (
            losses <= limits.max_loss,
            f"the lowest predicted is {losses.min():.4g}",
        )
    if limits.below is not None:
        lowest = math.exp(min(float(peaks.min()), LARGEST_LOG))
        tests[f"below {limits.below:g}"] = (
            peaks < math.log(limits.below),
            f"the lowest upper end of a max ratio is {lowest:.4g}",
        )
    allowed = np.ones(len(losses), bool)
    for kept, _ in tests.values():
        allowed &= kept
    if not allowed.any():
        ruled = Counter({name: int((~kept).sum()) for name, (kept, _) in tests.items()})
        raise none_left(len(losses), ruled, {name: hint for name, (_, hint) in tests.items()})
    return allowed


def _table(
    predictor: Predictor,
    subjects: Sequence[Subject],
    objective: _Objective,
    seen: Mapping[str, float],
    beyond: str,
) -> pd.DataFrame:
    """What is known of each design besides the predictions."""
    import pandas as pd

    table, last = predictor.state.table, predictor.training.steps
    cells = dict(zip(table.rows["model"].to_numpy(), table.rows["cell"].to_numpy(), strict=True))
    heads = [subject.architecture.head_size for subject in table.subjects.values()]
    rows = []
    for subject in subjects:
        shape = subject.architecture
        nearest, distance = next(iter(nearest_models(table, subject).items()))
        seeds = [model for model, cell in cells.items() if cell == cells[nearest]]
        losses = [table.losses[model] for model in seeds if model in table.losses]
        outside = predictor.outside(subject) + predictor.unvaried(subject)
        head = shape.head_size
        if not min(heads) <= head <= max(heads):
            outside.append(f"head size is {head}, outside {span(min(heads), max(heads))}")
        values = objective.in_units(np.array([seen[model] for model in seeds]), last)
        rows.append(
            {
                **{name: getattr(shape, name) for name in (*VARIED, *_DERIVED)},
                "parameters": shape.num_parameters,
                "nearest": nearest,
                "distance": distance,
                "nearest_objective": np.nan if beyond else float(values.mean()),
                "nearest_loss": float(np.mean(losses)) if losses else np.nan,
                "outside": "; ".join(outside + ([beyond] if beyond else [])),
            }
        )
    return pd.DataFrame(rows)


def _remarks(
    objective: _Objective, evidence: Mapping[str, Evidence], table: pd.DataFrame, searched: int, last: int
) -> Iterable[str]:
    """What to know of the result."""
    loss = evidence.get("loss")
    if loss is None:
        yield (
            "Fewer than five architectures have a held-out loss: designs are weighed against their number of "
            "parameters instead."
        )
    for name, one in ((objective.name, evidence["objective"]), ("held-out loss", loss)):
        if one is not None and one.r2 <= 0:
            yield (
                f"The {name} of an architecture that was left out is predicted no better than by the mean of all "
                f"(R2 {one.r2:.2f}): the order of the designs by it is not to be believed."
            )
    for name, column in ((objective.name, "objective"), ("held-out loss", "loss")):
        low, high = (table[f"{column}{end}"].to_numpy(float) for end in ("_lower", "_upper"))
        if len(table) > 1 and low.max() <= high.min():
            yield f"The 90 % intervals of the {name} all overlap: any two single runs may come out either way."
    if objective.is_step and (table["objective"].to_numpy() > last - 0.5).any():
        yield f"A peak step of {last:,}, the last one, says that the largest ratio does not peak before the end."
    if searched > 1:
        yield (
            f"An interval holds for a design that was chosen beforehand; the best of {searched:,} predictions tends "
            "to be flattered."
        )


def left_out_numbers(predictor: Predictor, name: str = "max ratio") -> tuple[pd.DataFrame, Evidence]:
    """A number of each model beside what was predicted of it without its architecture.

    Args:
        name: of `OBJECTIVES`.

    Returns:
        a row a model: model, measured, predicted, lower and upper (the median and a 90 % interval); and how good they
        are.
    """
    import pandas as pd

    objective = _objective(name, None, None)
    evidence, seen = _evidence(predictor, objective)
    state, rows = predictor.state, _rows_by_model(predictor.state.table)
    spread = state.uncalibrated * state.calibration.scale
    lasts = {model: state.table.subjects[model].training.steps for model in rows}
    said = [objective.of(state.predicted[mine], state.table.positions, lasts[m]) for m, mine in rows.items()]
    wide = [one_spread(spread[mine][np.newaxis])[0] for mine in rows.values()]
    last = predictor.training.steps
    bounds = [objective.in_units(v, last) for v in evidence.interval(np.array(said), np.array(wide))]
    measured = objective.in_units(np.array([seen[model] for model in rows]), last)
    lower, middle, upper = bounds
    columns = {"model": list(rows), "measured": measured, "predicted": middle, "lower": lower, "upper": upper}
    return pd.DataFrame(columns), evidence
