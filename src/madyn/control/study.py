"""What each remedy does to massive activations, what it costs, and how sure that is.

Every model that departs from the usual in wiring or recipe is held against the usual one of its shape and seed, which
learned from the same data in the same order (`effects.find_departures`). Of a pair one asks what the remedy multiplies
the final ratio by, top 1 and the median of the layer that has it, and the held-out loss; and, since a model that learns
less has smaller activations too, the ratio where both have the same loss: that which the worse of the two reaches at
best. Bits are those that int8 with one scale a tensor would leave to the worst layer's bulk (docs/quantization.md).

A run that diverged is a result: it is counted, and says nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import Dataset, open_dataset
from madyn.dataset.throughput import Throughput, read_throughput
from madyn.effects import at_equal_loss, built_as, course_of, effects_of_pairs, find_departures, whole_family
from madyn.effects.departures import Departure
from madyn.effects.responses import Course
from madyn.errors import DatasetError
from madyn.notebook import Shown
from madyn.prediction.design_search import pareto_front
from madyn.quantization import estimate_dataset, worst_layers
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PLAIN = "plain"
"""What the usual models are called in a table of remedies."""

MEASURED = ("ratio", "top1", "median", "equal_loss_ratio", "loss", "bits")
"""What is held against the plain model, in the order of the table."""

_POWER = 0.8
_MOST_SEEDS = 1000


@dataclass
class Control(Shown):
    """What the remedies of a family do.

    Attributes:
        table: a row a remedy, the plain models first: `remedy`, in what it departs; `seeds`, how many pairs it was
            told from; `diverged`, how many of its runs failed; `ratio`, `loss` (nats a token) and `bits` at the last
            step, means over its seeds (of the ratio the geometric one). Then against the plain model of the seed, with
            95 % intervals (`_lower`, `_upper`): `ratio_times`, `top1_times`, `median_times`, `equal_loss_ratio_times`,
            `loss_times`, what each is multiplied by, and `bits_more`; `ratio_p` and `loss_p`, corrected for the number
            of remedies; `ratio_seeds` and `loss_seeds`, how many pairs would show a difference as large as the one seen
            at 5 % with a power of 80 % (nan for more than 1000); `speed`, tokens a second against the plain model's;
            `front`, whether no other has both a lower ratio and a lower loss. nan where something is not known.
        pairs: a row a pair: `model`, `base`, `remedy`, and base-2 logarithms of what each quantity is multiplied by.
        levels: by remedy, the fields in which it departs.
        throughput: what was timed, or None.
        missing: why a model or a number is left out.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    levels: dict[str, Mapping[str, Any]]
    throughput: Throughput | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<madyn Control: {len(self.table) - 1} remedies, {len(self.pairs)} pairs\n table, pairs, levels, ...>"

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        columns = [
            "remedy", "seeds", "ratio", "loss", "bits", "ratio_times", "ratio_lower", "ratio_upper", "loss_times",
            "loss_lower", "loss_upper", "front",
        ]  # fmt: skip
        return self.table.loc[:, columns].head(most), len(self.table)

    def to_dataframe(self) -> pd.DataFrame:
        """The table: a row a remedy, the plain models first. The frame is the caller's own."""
        return self.table.copy()

    def plot(self, against_loss: bool = False) -> Figure:
        """What each remedy multiplies the final ratio by, and what it makes of the loss and of the bits of int8.

        Args:
            against_loss: draw the final ratio against the loss instead: which remedies are beaten by no other.
        """
        return self._drawn(against_loss=against_loss)


def study_control(dataset: str | Path | Dataset, timed: Throughput | None = None, plain: str | None = None) -> Control:
    """Hold every remedy of a family against the plain model.

    Args:
        dataset: a dataset of the lab, or its folder, or its name: models of which some depart from the others in wiring
            or recipe, with the same shape and seed.
        timed: how fast its models train; by default what the dataset has of it.
        plain: a model that is plain, one seed of it; by default the levels that most models have are.

    Raises:
        DatasetError: no model departs from another of its shape and seed, or the statistics cannot be read.
    """
    dataset = open_dataset(dataset).sound()
    departing = find_departures(dataset, plain)
    finished, left_out = whole_family(dataset)
    diverged = Counter(departing[model].label for model in left_out if _failure(dataset, model))
    labels = list(dict.fromkeys(one.label for one in departing.values() if one.label))
    if not labels:
        raise DatasetError(
            f"{dataset.path}: no model departs in wiring or recipe from a plain one of its shape and seed; a suite "
            "file with such entries trains them (docs/control.md)"
        )
    levels = {one.label: one.levels for one in departing.values() if one.label}
    timed = timed or read_throughput(dataset.path)
    courses, bits = {model: course_of(finished, model) for model in finished}, _bits(finished)
    pairs, notes = _pairs(finished, departing, courses, bits)
    table = _table(pairs, labels, diverged, courses, bits)
    table["speed"] = _speeds(timed, [PLAIN, *labels], departing)
    return Control(table, pairs, levels, timed, {**left_out, **notes})


def _failure(dataset: Dataset, model: str) -> str:
    record = dataset.training(model)
    return (record.failure or "") if record else ""


def _pairs(
    dataset: Dataset, departing: Mapping[str, Departure], courses: Mapping[str, Course], bits: Mapping[str, float]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a pair whose models are both whole, and what cannot be said of some."""
    import pandas as pd

    rows, notes = [], {}
    for model in dataset:
        one = departing[model]
        if one.label and one.base in courses:
            mine, base = courses[model], courses[one.base]
            if _length(dataset, model) != _length(dataset, one.base):
                mine, base = (replace(c, held_out=np.full_like(c.held_out, math.nan)) for c in (mine, base))
                notes[one.label] = (
                    "its losses are over sequences of another length, and not held against the plain ones"
                )
            changes = {**_changes(mine, base), "bits": bits.get(model, math.nan) - bits.get(one.base, math.nan)}
            rows.append(
                {"model": model, "base": one.base, "remedy": one.label, "shape": built_as(dataset, one.base), **changes}
            )
    return pd.DataFrame(rows, columns=["model", "base", "remedy", "shape", *MEASURED]), notes


def _changes(mine: Course, base: Course) -> dict[str, float]:
    """Base-2 logarithms of what each quantity of a pair is multiplied by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "ratio": mine.ratio[-1] / base.ratio[-1],
            "top1": mine.top1[-1] / base.top1[-1],
            "median": mine.median[-1] / base.median[-1],
            "equal_loss_ratio": _at_equal_loss(mine, base) / _at_equal_loss(base, mine),
            "loss": mine.held_out[-1] / base.held_out[-1],
        }
        return {name: float(np.log2(value)) for name, value in found.items()}


def _at_equal_loss(mine: Course, other: Course) -> float:
    """The largest ratio where a run's loss first falls to the best one of the worse of two runs."""
    if not (np.isfinite(mine.held_out).any() and np.isfinite(other.held_out).any()):
        return math.nan
    return at_equal_loss(replace(mine, common_loss=float(max(np.nanmin(mine.held_out), np.nanmin(other.held_out)))))


def _length(dataset: Dataset, model: str) -> Any:
    record = dataset.training(model)
    return record.plan["recipe"].get("length") if record else None


def _bits(dataset: Dataset) -> dict[str, float]:
    worst = worst_layers(estimate_dataset(dataset))
    return dict(zip(worst["model"], worst["effective_bits"].to_numpy(float), strict=True))


def _table(
    pairs: pd.DataFrame,
    labels: list[str],
    diverged: Mapping[str, int],
    courses: Mapping[str, Course],
    bits: Mapping[str, float],
) -> pd.DataFrame:
    import pandas as pd

    remedies, shapes = list(pairs["remedy"]), pairs["shape"].to_numpy()
    found = {name: effects_of_pairs(remedies, pairs[name].to_numpy(float), shapes) for name in MEASURED}
    bases = sorted(set(pairs["base"]))
    rows = [{"remedy": PLAIN, "seeds": len(bases), "diverged": diverged.get("", 0), **_of(bases, courses, bits)}]
    for label in labels:
        mine = pairs.loc[pairs["remedy"] == label]
        row = {"remedy": label, "seeds": len(mine), "diverged": diverged.get(label, 0)}
        row |= _of(list(mine["model"]), courses, bits)
        for name, frame in found.items():
            if label in frame.index:
                row |= _against(name, frame.loc[label].to_dict())
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=[*_COLUMNS])
    for name in MEASURED:
        table.loc[0, [f"{name}_{_TIMES.get(name, 'times')}"]] = 0.0 if name == "bits" else 1.0
    table["front"] = _front(table)
    return table


_TIMES = {"bits": "more"}
_COLUMNS = (
    "remedy", "seeds", "diverged", "ratio", "loss", "bits",
    *(f"{name}_{end}" for name in MEASURED for end in (_TIMES.get(name, "times"), "lower", "upper")),
    "ratio_p", "loss_p", "ratio_seeds", "loss_seeds",
)  # fmt: skip


def _of(models: list[str], courses: Mapping[str, Course], bits: Mapping[str, float]) -> dict[str, float]:
    """What models have at the last step, in the mean."""
    if not models:
        return {}
    ends = [courses[model] for model in models]
    return {
        "ratio": float(np.exp(np.mean([np.log(c.ratio[-1]) for c in ends]))),
        "loss": float(np.mean([c.held_out[-1] for c in ends])),
        "bits": float(np.mean([bits.get(model, math.nan) for model in models])),
    }


def _against(name: str, one: Mapping[str, float]) -> dict[str, float]:
    """The columns of one quantity."""
    ends = {"times": one["times"], "lower": one["lower"], "upper": one["upper"]}
    if name == "bits":
        return {f"bits_{'more' if end == 'times' else end}": math.log2(value) for end, value in ends.items()}
    found = {f"{name}_{end}": value for end, value in ends.items()}
    if name in ("ratio", "loss"):
        found |= {
            f"{name}_p": one["corrected"],
            f"{name}_seeds": seeds_to_show(math.log2(one["times"]), one["spread"]),
        }
    return found


def seeds_to_show(effect: float, spread: float) -> float:
    """How many pairs would show a mean difference at the 5 % level with a power of 80 %, by Student's test.

    Args:
        effect: the difference.
        spread: the standard deviation of the differences; nan where it is not known.

    Returns:
        at least 2; nan for more than 1000, or where it cannot be said.

    >>> seeds_to_show(1.0, 1.0), seeds_to_show(2.0, 1.0)
    (10.0, 5.0)
    """
    from scipy.stats import nct, t

    if not (math.isfinite(effect) and math.isfinite(spread)) or effect == 0:
        return math.nan
    if spread == 0:
        return 2.0
    n = np.arange(2, _MOST_SEEDS + 1)
    limit, shift = t.ppf(0.975, n - 1), abs(effect) / spread * np.sqrt(n)
    power = nct.sf(limit, n - 1, shift) + nct.cdf(-limit, n - 1, shift)
    enough = np.flatnonzero(power >= _POWER)
    return float(n[enough[0]]) if len(enough) else math.nan


def _front(table: pd.DataFrame) -> list[bool]:
    """Whether no other remedy, nor the plain model, has both a lower ratio and a lower loss."""
    costs: Array = table[["ratio_times", "loss_times"]].to_numpy(float)
    known = np.isfinite(costs).all(axis=1)
    front = np.zeros(len(costs), bool)
    front[known] = pareto_front(costs[known])
    return front.tolist()


def _speeds(timed: Throughput | None, remedies: list[str], departing: Mapping[str, Departure]) -> list[float]:
    if timed is None:
        return [math.nan] * len(remedies)
    by_label = {departing[model].label: one.times for model, one in timed.models.items() if model in departing}
    return [1.0 if remedy == PLAIN else by_label.get(remedy, math.nan) for remedy in remedies]
