"""How close predicted curves come to measured ones, and how close they could come.

A single run departs from its architecture's mean by its seed's chance, which no architecture tells. The ceiling is what
a predictor would score that knew that mean exactly; it is estimated from the architectures that were trained with
several seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from madyn.prediction.derived import quantity, read_quantity
from madyn.prediction.table import CurveTable, means_by
from madyn.typing import Array, Mask

if TYPE_CHECKING:
    import pandas as pd


LEFT_OUT = "architecture left out"
CEILING = "ceiling"
PEAK_FACTOR = 1.5


@dataclass(frozen=True)
class Predictions:
    """What an approach says of the rows that were left out, under one protocol.

    Attributes:
        middle, low, high: (n, P) log curves: the median and the ends of the 90 % interval for a single run; nan in rows
            that were not left out.
        peak: (n,) the median of log(1 + step) of the peak, if there is one.
    """

    middle: Array
    low: Array
    high: Array
    peak: Array

    @property
    def rows(self) -> Mask:
        """Which rows are predicted."""
        return np.isfinite(self.middle[:, 0])


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
    known = np.isfinite(high).all()
    return {
        **_closeness(table, rows, y, p, predictions.peak[rows]),
        "coverage": float(weights @ inside) if known else np.nan,
        "width": float(np.exp(np.median(high - low))) if known else np.nan,
        **{f"{name}_means": value for name, value in _r2s(_means(table, rows), p, table.positions).items()},
        "layers": len(y),
        "architectures": len(counts),
    }


def _closeness(table: CurveTable, rows: Mask, y: Array, p: Array, peak: Array) -> dict[str, float]:
    observed = peaks_of(table, rows, y)
    off = np.abs(observed - peak)[np.isfinite(observed)]
    return {
        **_r2s(y, p, table.positions),
        "median_error": float(np.median(np.abs(np.expm1(p - y)))),
        # Where none is predicted, it is missed.
        "peak_within": float((off <= np.log(PEAK_FACTOR) + 1e-9).mean()) if len(off) else np.nan,
        "peaks": len(off),
    }


def peaks_of(table: CurveTable, rows: Mask, curves: Array) -> Array:
    """log(1 + step) of the peak of each of these rows' curves, nan where there is none."""
    return read_quantity("peak step", curves, table.positions, table.rows.loc[rows])


def _r2s(y: Array, p: Array, at: Array) -> dict[str, float]:
    largest, final = quantity("largest ratio"), quantity("final ratio")
    return {
        "r2": r_squared(y, p),
        "final_r2": r_squared(final(y, at, 0), final(p, at, 0)),
        "largest_r2": r_squared(largest(y, at, 0), largest(p, at, 0)),
    }


def r_squared(y: Array, p: Array) -> float:
    """1 - the squares of what is predicted wrong over those around the mean; nan where only one value was seen."""
    spread = np.square(y - y.mean()).sum()
    return float(1 - np.square(y - p).sum() / spread) if spread > 0 else np.nan


def _means(table: CurveTable, rows: Mask) -> Array:
    """For each row the mean over the seeds of its architecture and layer, (n, P)."""
    _, number, means = means_by(table.keys[rows], table.curves[rows])
    return means[number]


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
    close = _closeness(table, mask, y[repeated], known, peaks_of(table, mask, known))
    # Over all rows, as the scores are: a run that has no second seed is its own mean, and keeps all of its chance.
    at, ceilings, share = table.positions, {}, float(np.mean(1 / n))
    for name, of in (("r2", lambda c: c), *((f"{q}_r2", _quantity_of(q, at)) for q in ("final", "largest"))):
        noise = float(np.square(of(y[repeated]) - of(known)).mean())
        ceilings[name] = _share_left(noise, of(y))
        ceilings[f"{name}_means"] = _share_left(noise * share, of(means))
    # The step at which a mean curve is largest is no prediction of a run's peak: of that no ceiling is known.
    return {
        **close,
        **ceilings,
        "peak_within": np.nan,
        "layers": int(repeated.sum()),
        "architectures": len(np.unique(table.groups[mask])),
    }


def ceiling_interval(table: CurveTable, draws: int = 400, seed: int = 0) -> tuple[float, float]:
    """A 90 % interval of the ceiling's R2 against single runs, over architectures drawn again with replacement.

    Returns:
        (nan, nan) where fewer than two architectures were trained with several seeds.
    """
    _, number, counts = np.unique(table.keys, return_inverse=True, return_counts=True)
    n = counts[number].astype(float)
    squares = np.square(table.curves - _means(table, np.ones(len(n), bool))).mean(axis=1) * n / np.maximum(n - 1, 1)
    repeated = n > 1
    groups = np.unique(table.groups[repeated])
    if len(groups) < 2:
        return np.nan, np.nan
    of_group = [repeated & (table.groups == group) for group in groups]
    sums, sizes = np.array([squares[mine].sum() for mine in of_group]), np.array([mine.sum() for mine in of_group])
    drawn = np.random.default_rng(seed).integers(len(groups), size=(draws, len(groups)))
    r2 = 1 - sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) / float(np.var(table.curves))
    low, high = np.quantile(r2, [0.05, 0.95])
    return float(low), float(high)


def _share_left(noise: float, values: Array) -> float:
    variance = float(np.var(values))
    return 1 - noise / variance if variance > 0 else np.nan


def _quantity_of(name: str, at: Array) -> Callable[[Array], Array]:
    of = quantity(f"{name} ratio")
    return lambda curves: of(curves, at, 0.0)


def score_all(table: CurveTable, predictions: Mapping[str, Mapping[str, Predictions]]) -> pd.DataFrame:
    """The scores of every approach and the ceiling, a row a protocol and approach; see `Evaluation`."""
    import pandas as pd

    lines = []
    for protocol, by_name in predictions.items():
        rows = next(iter(by_name.values())).rows
        scored = {name: score(table, rows & p.rows, p) for name, p in by_name.items() if (rows & p.rows).any()}
        possible = ceiling(table, rows)
        if possible:
            scored[CEILING] = possible
        floor = scored.get("nearest", {}).get("r2_means", np.nan)
        top = possible.get("r2_means", np.nan)
        for name, values in scored.items():
            way = (values["r2_means"] - floor) / (top - floor) if top > floor else np.nan
            lines.append({"protocol": protocol, "approach": name, **values, "way": way})
    return pd.DataFrame(lines)
