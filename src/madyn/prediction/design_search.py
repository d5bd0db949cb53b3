"""The inverse of prediction: architectures, within limits, whose activations will do what is wanted.

All shapes on a grid within the limits are predicted, which takes seconds, so that no optimiser is needed. Those are
kept that no other shape beats both in what is wanted and in the held-out loss, since a model may have small
activations because it learns little. What is wanted is one number of a whole model, the largest over layers and steps,
say, and is calibrated as such: the largest of many noisy values lies above the largest of their medians. Where models
differ in wiring, a design is a shape and a wiring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from madyn.architecture import SEARCHED, Architecture
from madyn.errors import UsageError
from madyn.notebook import Shown
from madyn.prediction.candidates import (
    AXES,
    TO_EXTRAPOLATE,
    VARIED,
    Limits,
    candidates,
    ends_of,
    none_left,
    plain_twins,
    span,
)
from madyn.prediction.cautions import ENOUGH_ARCHITECTURES, too_few
from madyn.prediction.derived import LARGEST_LOG
from madyn.prediction.expected import Expectations, Expected, rows_by_model
from madyn.prediction.inputs import Subject
from madyn.prediction.losses import Evidence
from madyn.prediction.objectives import LARGEST, OBJECTIVES, Objective, largest_over_layers, objective_named
from madyn.prediction.predictor import Predictor
from madyn.prediction.table import CurveTable, nearest_models
from madyn.prediction.wired import label, wired
from madyn.typing import Array
from madyn.wirings import Wiring

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Designs(Shown):
    """Designs none of which is beaten by another in both respects, the best in what is wanted first.

    Attributes:
        objective: what is wanted, in words: "lowest max ratio".
        against: "held-out loss", or "parameters" where no losses are known; less is better.
        table: a row a design: wiring, where the trained models differ in it (in words: in what it departs from what
            most of them have, or "usual"); the fields of its architecture that were varied, head_size, mlp_ratio,
            parameters; objective_lower, objective, objective_upper and loss_lower, loss, loss_upper (the median and a
            90 % interval for a single run; nan where no losses are known); nearest (a trained model), distance (in
            standard deviations of the features; 0 is the same shape and wiring), nearest_objective and nearest_loss
            (means over its seeds; nan where it was not measured), and outside (in words, what of it lies outside the
            data; empty if nothing does).
        architectures: of the rows.
        wirings: of the rows.
        searched: how many shapes were predicted, each counted once for each of its wirings.
        evidence: how well two numbers were predicted for what was left out: "objective", as its logarithm, and "loss",
            where losses are known. Where wirings vary and some designs are known by their own runs alone, these may be
            of runs left out, or have "objective, runs" and "loss, runs" beside them.
        notes: what to know before believing it.
    """

    objective: str
    against: str
    table: pd.DataFrame
    architectures: list[Architecture]
    wirings: list[Wiring]
    searched: int
    evidence: Mapping[str, Evidence]
    notes: list[str]

    def __repr__(self) -> str:
        return (
            f"<madyn Designs: {self.objective} against {self.against}\n {len(self.table)} of {self.searched:,} "
            f"{self.candidates} are beaten by no other\n table, architectures, wirings, evidence, notes>"
        )

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        return self.table.head(most), len(self.table)

    def to_dataframe(self) -> pd.DataFrame:
        """The table: a row a design. The frame is the caller's own."""
        return self.table.copy()

    def plot(self) -> Figure:
        """What is wanted of each design against its loss, or its parameters.

        Raises:
            UsageError: there is no design.
        """
        return self._drawn()

    @property
    def candidates(self) -> str:
        """What was searched, in words."""
        return "shapes and wirings" if "wiring" in self.table else "shapes"


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

    Where the trained models differ in wiring, each wiring that was trained is searched with the shapes within its own
    models' sizes. What fewer than five shapes have of a wiring is not predicted: a model that several runs are known of
    is taken to do what they did.

    Args:
        predictor: a fitted one. What is not searched (vocabulary, rotary share, training, ...) is as most of its models
            have it.
        limits: what a design may be; by default anything within the range of the trained models.
        minimize: the name of an objective in `OBJECTIVES`; this or `maximize`.
        maximize: the name of an objective in `OBJECTIVES`.
        at: with "max ratio", the step at which the largest ratio over layers is wanted.
        extrapolate: allow what lies outside the range of the trained models. Otherwise it is refused.

    Returns:
        the designs that no other beats in both, with 90 % intervals, and how well such numbers were predicted before.

    Raises:
        UsageError: an unknown objective, limits outside the data, or no design within the limits.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> predictor = madyn.Predictor("nearest").fit(few)
    >>> found = madyn.design(predictor, minimize="max ratio")
    >>> found.candidates, len(found.to_dataframe()) > 0, found.plot().axes[0].get_xlabel() is not None
    ('shapes', True, True)
    """
    limits = limits or Limits()
    objective, training = objective_named(minimize, maximize, at), predictor.training
    beyond = _beyond(at, training.steps, extrapolate)
    expectations = Expectations(predictor)
    subjects, notes = candidates(predictor, limits, extrapolate)
    families = wired(predictor)
    if limits.max_loss_more is not None and len(families) == 1:
        raise UsageError(
            "max_loss_more (--max-loss in %) compares wirings with the usual one, and all trained models have one"
        )

    losses, twins = _losses(expectations, predictor, limits, subjects)
    if losses is not None and len(families) > 1 and not np.isfinite(losses.median).all():
        known = np.flatnonzero(np.isfinite(losses.median))
        notes.append(_UNKNOWN_LOSS.format(len(subjects) - len(known)))
        subjects, twins = [subjects[i] for i in known], twins[known]
        losses = losses.take(known)
    expected = expectations.of(
        subjects, objective, _drift(predictor.state.table, at, training.steps) if beyond else 0.0
    )
    # Bounded before they are compared: what lies beyond a bound is worth the bound and no more.
    wanted = [objective.in_units(v, training.steps) for v in expected.ends]

    peaks = expectations.of(subjects, LARGEST).upper if limits.below is not None else None
    allowed = np.flatnonzero(_allowed(limits, len(subjects), losses and losses.median, twins, peaks))
    first = wanted[1] if minimize is not None else -wanted[1]
    second = losses.median if losses else np.array([float(s.architecture.num_parameters) for s in subjects])
    costs = np.column_stack([first, second])
    front = allowed[pareto_front(costs[allowed])]
    front = front[np.lexsort((second[front], first[front]))]

    table = _table(predictor, [subjects[i] for i in front], objective, expectations.measured(objective), beyond)
    columns = {f"objective{end}": value[front] for end, value in zip(_ENDS, wanted, strict=True)}
    found = losses.ends if losses else np.full((3, len(subjects)), np.nan)
    columns |= {f"loss{end}": value[front] for end, value in zip(_ENDS, found, strict=True)}
    shown = ["wiring", *_COLUMNS] if len(families) > 1 else [*_COLUMNS]
    table = table.assign(**columns).reindex(columns=shown)
    evidence = _evidence("objective", expected) | (_evidence("loss", losses) if losses else {})
    cautions = _cautions(evidence, predictor) if len(families) > 1 else [predictor.caution()]
    return Designs(
        objective=f"{'lowest' if minimize is not None else 'highest'} {objective.name}",
        against="held-out loss" if losses else "parameters",
        table=table,
        architectures=[subjects[i].architecture for i in front],
        wirings=[subjects[i].wiring for i in front],
        searched=len(subjects),
        evidence=evidence,
        notes=[
            *(caution for caution in cautions if caution),
            *notes,
            *([_AFTER_THE_END] if beyond else []),
            *_remarks(objective, evidence, table, len(subjects), training.steps),
        ],
    )


_SAME = 1e-12  # of a share: what is exactly as much more is not more
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


_UNKNOWN_LOSS = (
    f"Fewer than {ENOUGH_ARCHITECTURES} architectures have a held-out loss, so that none is predicted: {{:,}} shapes "
    "and wirings that were not trained twice are left out of the search."
)


def _losses(
    expectations: Expectations, predictor: Predictor, limits: Limits, subjects: Sequence[Subject]
) -> tuple[Expected | None, Array]:
    """The losses of n models, None where none can be told, and of the model of the usual wiring that each is compared
    with, (n,), where that is asked for."""
    twins = plain_twins(predictor, subjects) if limits.max_loss_more is not None else []
    both, count = expectations.losses([*subjects, *twins]), len(subjects)
    if both is None or not twins:
        return both, np.full(count, np.nan)
    return both.take(np.arange(count)), both.median[count:]


def _evidence(name: str, expected: Expected) -> dict[str, Evidence]:
    """What a number rests on; where it is two things, what was predicted first."""
    kinds = dict(expected.evidence)
    runs = kinds.pop("runs", None)
    said = dict.fromkeys([name], next(iter(kinds.values()), runs))
    if kinds and runs:
        said[f"{name}, runs"] = runs
    return {what: one for what, one in said.items() if one is not None}


def _cautions(evidence: Mapping[str, Evidence], predictor: Predictor) -> list[str]:
    """What to know first where wirings vary: what was not learned from, and how the numbers are known."""
    kinds = {one.left_out: one for one in evidence.values()}
    return [
        *predictor.not_learned(),
        *(_KNOWN_BY[what] for what in kinds),
        *(too_few(one.calibration.architectures, what, one.calibration.is_proven) for what, one in kinds.items()),
    ]


_KNOWN_BY = {
    "runs": (
        f"A wiring that fewer than {ENOUGH_ARCHITECTURES} shapes have is known where it was trained: what is said of a "
        "model with several runs is their mean, and its interval, for one more run, is from how far each run lies from "
        "the mean of its fellows. Nothing is predicted there."
    ),
    "shapes": "What is predicted has its interval from shapes that were left out in all their wirings.",
    "architectures": (
        "What is predicted has its interval from wirings that were left out, which nothing else tells of. A wiring "
        "that was trained comes nearer; but where it has one run, nothing tells what its seed's chance is."
    ),
}


def pareto_front(costs: Array) -> NDArray[np.bool_]:
    """Which of n points with two costs, (n, 2), no other point beats: none is as low in both and lower in one."""
    distinct, which = np.unique(costs, axis=0, return_inverse=True)  # by the first cost, then by the second
    lowest_before = np.minimum.accumulate(np.concatenate([[np.inf], distinct[:-1, 1]]))[: len(distinct)]
    return (distinct[:, 1] < lowest_before)[which.reshape(-1)]


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


def _drift(table: CurveTable, at: int | None, last: int) -> float:
    """How far the largest ratio over layers may wander after the end of training, as a standard deviation of its
    logarithm: in each doubling of steps as far as it moved over the last one."""
    moved = []
    for model, mine in rows_by_model(table).items():
        steps, curves = table.subjects[model].training.steps, table.curves[mine]
        half = largest_over_layers(f"ratio at {steps // 2}")(curves, table.positions, steps)
        moved.append(OBJECTIVES["final ratio"](curves, table.positions, steps) - half)
    doublings = math.log2((1 + (at or last)) / (1 + last))
    return float(np.sqrt(np.mean(np.square(moved)) * max(doublings, 0.0)))


def _allowed(limits: Limits, count: int, losses: Array | None, twins: Array, peaks: Array | None) -> NDArray[np.bool_]:
    """Which of n models keep those limits that need a prediction: of their loss, of that beside the usual wiring's,
    (n,), or of the logarithm of the upper end of their peak."""
    for name in ("max_loss", "max_loss_more"):
        if getattr(limits, name) is not None and losses is None:
            raise UsageError(f"{name}: the data hold too few held-out losses to predict one")
    tests = {}
    if limits.max_loss is not None and losses is not None:
        tests[f"max loss {limits.max_loss:g}"] = (
            losses <= limits.max_loss,
            f"the lowest predicted is {losses.min():.4g}",
        )
    if limits.max_loss_more is not None and losses is not None:
        more = losses / twins - 1
        if not np.isfinite(more).any():
            raise UsageError("max_loss_more: no loss of the usual wiring is known, or predicted, at these shapes")
        tests[f"max loss {100 * limits.max_loss_more:g} % above the usual wiring's"] = (
            more <= limits.max_loss_more + _SAME,
            f"the least predicted is {100 * np.nanmin(more):.3g} %",
        )
    if limits.below is not None and peaks is not None:
        lowest = math.exp(min(float(peaks.min()), LARGEST_LOG))
        tests[f"below {limits.below:g}"] = (
            peaks < math.log(limits.below),
            f"the lowest upper end of a max ratio is {lowest:.4g}",
        )
    allowed = np.ones(count, bool)
    for kept, _ in tests.values():
        allowed &= kept
    if not allowed.any():
        ruled = Counter({name: int((~kept).sum()) for name, (kept, _) in tests.items()})
        raise none_left(count, ruled, {name: hint for name, (_, hint) in tests.items()})
    return allowed


def _table(
    predictor: Predictor,
    subjects: Sequence[Subject],
    objective: Objective,
    seen: Mapping[str, float],
    beyond: str,
) -> pd.DataFrame:
    """What is known of each design besides the predictions."""
    import pandas as pd

    table, last = predictor.state.table, predictor.training.steps
    cells = dict(zip(table.rows["model"].to_numpy(), table.rows["cell"].to_numpy(), strict=True))
    heads = [subject.architecture.head_size for subject in table.subjects.values()]
    families = wired(predictor)
    rows = []
    for subject in subjects:
        shape, own = subject.architecture, families[subject.wiring]
        nearest, distance = next(iter(nearest_models(table, subject).items()))
        seeds = [model for model, cell in cells.items() if cell == cells[nearest]]
        losses = [table.losses[model] for model in seeds if model in table.losses]
        outside = predictor.outside(subject) + predictor.unvaried(subject)
        head = shape.head_size
        if not min(heads) <= head <= max(heads):
            outside.append(f"head size is {head}, outside {span(min(heads), max(heads))}")
        if len(families) > 1:
            outside += _outside_wiring(shape, own, [one for some in families.values() for one in some])
        values = objective.in_units(np.array([seen[model] for model in seeds]), last)
        rows.append(
            {
                "wiring": label(subject.wiring, predictor.wiring),
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


_ONE = {"architectures": "an architecture", "shapes": "a shape", "runs": "a run"}


def _outside_wiring(shape: Architecture, own: Sequence[Architecture], family: Sequence[Architecture]) -> list[str]:
    """In which sizes a shape lies within those that were trained, but outside those of its wiring, in words."""
    said = []
    for name, one in AXES.items():
        value, ends, all_ends = float(one.of(shape)), ends_of(name, own), ends_of(name, family)
        if all_ends[0] <= value <= all_ends[1] and not ends[0] <= value <= ends[1]:
            said.append(f"{name} is {span(value, value)}, outside {span(*ends)} of the models with its wiring")
    return said


def _remarks(
    objective: Objective, evidence: Mapping[str, Evidence], table: pd.DataFrame, searched: int, last: int
) -> Iterable[str]:
    """What to know of the result."""
    if "loss" not in evidence:
        yield (
            "Fewer than five architectures have a held-out loss: designs are weighed against their number of "
            "parameters instead."
        )
    for what, one in evidence.items():
        name = objective.name if what.startswith("objective") else "held-out loss"
        if one.r2 <= 0:
            yield (
                f"The {name} of {_ONE[one.left_out]} that was left out is predicted no better than by the mean of all "
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
