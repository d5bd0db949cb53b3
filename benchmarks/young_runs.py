"""The prior that madyn comes with, held against runs that it was not learned from.

    python benchmarks/young_runs.py [--quick]

Three sets, each run seen up to 10, 20, 30 and 50 % of its planned steps: sixteen small GPT-NeoX of another length and
batch (data/small_runs.csv), 103 LLaMA and Arcee of other recipes up to ratios of 200 (data/strong_runs.csv.xz), and
eight models of two wirings that tiny-suite lacks (data/other_wirings.csv; `--train FOLDER` trains them again, from
suites/other-wirings.toml). Of each: how often bands of 90, 99 and 99.9 % hold what came; the median of |error| / value
beside the last value carried on and the straight line in log step; and how often a threshold was passed of which the
forecast said so with some probability.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from madyn.analysis.shipped_prior import QUANTITIES, shipped_population
from madyn.curves.population.outlook import any_exceeds, look_ahead
from madyn.lab import read_suite, run_suite
from madyn.terminal import print_table
from small_runs import table

DATA = Path(__file__).parent / "data"
SUITE = Path(__file__).parent / "suites" / "other-wirings.toml"
SETS = {
    "small_runs": "small_runs.csv",
    "strong_runs": "strong_runs.csv.xz",
    "other_wirings": "other_wirings.csv",
}
SHARES = (0.1, 0.2, 0.3, 0.5)
LEVELS = (0.9, 0.99, 0.999)
TIMES = (1.1, 1.25, 1.5, 2.0, 3.0)  # thresholds, as multiples of the last value seen
BINS = (0.0, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99, 1.0)


@dataclass
class Run:
    """A finished run: planned last step, steps (n,), and of each quantity (L, n)."""

    name: str
    end: float
    steps: np.ndarray
    values: dict[str, np.ndarray]


@dataclass
class Forecast:
    """A run forecast from a beginning, (L, m) each, and of thresholds (L, T): how likely, and whether they came."""

    truth: np.ndarray
    median: np.ndarray
    last: np.ndarray
    line: np.ndarray
    inside: list[np.ndarray]
    width: np.ndarray
    chance: np.ndarray
    came: np.ndarray
    chance_any: np.ndarray
    came_any: np.ndarray


def runs(name: str) -> Iterator[Run]:
    """The runs of a set. Of strong_runs two groups were cut off: their planned last step is the one that counts."""
    frame = pd.read_csv(DATA / SETS[name])
    if name == "strong_runs":
        frame["model"] = frame["group"] + "/" + frame["k"].astype(str)
    for model, rows in frame.groupby("model"):
        by_quantity = {q: rows.pivot_table(index="layer", columns="step", values=q) for q in QUANTITIES}
        steps = by_quantity["ratio"].columns.to_numpy(float)
        end = _planned(str(rows["group"].iloc[0])) if name == "strong_runs" else steps[-1]
        yield Run(str(model), end, steps, {q: frame.to_numpy() for q, frame in by_quantity.items()})


def _planned(group: str) -> float:
    return 16000.0 if group.endswith("_16k") else 8000.0


def forecast(run: Run, quantity: str, share: float) -> Forecast | None:
    seen = run.steps <= share * run.end
    if np.sum(seen) < 2 or np.all(seen):
        return None
    y, t = run.values[quantity], run.steps
    young, truth = y[:, seen], y[:, ~seen]
    population = shipped_population(quantity)
    outlook = look_ahead(population, t[seen], young, run.end)
    bands = [outlook.forecast(t[~seen], level) for level in LEVELS]
    inside = [(band["lower"].values <= truth) & (truth <= band["upper"].values) for band in bands]
    line = np.polynomial.polynomial.polyfit(np.log1p(t[seen]), young.T, 1)
    line = (line[:1] + line[1:] * np.log1p(t[~seen])[:, np.newaxis]).T
    last = young[:, -1]
    chance = np.array([[outlook.exceed([k * level])[i, 0] for k in TIMES] for i, level in enumerate(last)])
    highest = float(np.max(last))
    together = any_exceeds(outlook.exceed([k * highest for k in TIMES]), population.together)
    return Forecast(
        truth, bands[0]["median"].values, np.repeat(last[:, np.newaxis], truth.shape[1], axis=1), line, inside,
        np.log(bands[0]["upper"].values / bands[0]["lower"].values),
        chance, np.max(truth, axis=1)[:, np.newaxis] > np.multiply.outer(last, TIMES),
        together, np.max(truth) > highest * np.array(TIMES),
    )  # fmt: skip


def score(found: list[Forecast]) -> list:
    names = ("truth", "median", "last", "line", "width", "chance", "came", "chance_any", "came_any")
    every = {name: np.concatenate([getattr(one, name).ravel() for one in found]) for name in names}
    covers = [np.mean(np.concatenate([one.inside[i].ravel() for one in found])) for i in range(len(LEVELS))]
    errors = [np.median(np.abs(every[name] - every["truth"]) / every["truth"]) for name in ("median", "last", "line")]
    brier = [np.mean((every[f"chance{any_}"] - every[f"came{any_}"]) ** 2) for any_ in ("", "_any")]
    usual = [np.mean(every[f"came{any_}"]) * (1 - np.mean(every[f"came{any_}"])) for any_ in ("", "_any")]
    factor = float(np.exp(np.median(every["width"]) / 2))
    return [every["truth"].size, *covers, factor, *errors, brier[0], usual[0], brier[1], usual[1]]


def tables(sets: list[str], shares: tuple[float, ...]) -> None:
    columns = ["runs", "quantity", "seen", "points", "in 90 %", "in 99 %", "in 99.9 %", "band, times or over",
               "error", "last value", "line", "Brier", "of base rate", "Brier, any layer", "of base rate"]  # fmt: skip
    every: dict[float, list[Forecast]] = {share: [] for share in shares}
    for name in sets:
        of_set, rows = list(runs(name)), []
        for share in shares:
            together = []
            for quantity in QUANTITIES:
                found = [one for run in of_set if (one := forecast(run, quantity, share)) is not None]
                together += found
                rows.append([name, quantity, f"{100 * share:.0f} %", *score(found)])
            rows.append([name, "all", f"{100 * share:.0f} %", *score(together)])
            every[share] += together
        print_table(f"{name}: {len(of_set)} runs", columns, rows, left=["runs", "quantity"])
    rows = [["all", "all", f"{100 * share:.0f} %", *score(found)] for share, found in every.items()]
    print_table("all sets", columns, rows, left=["runs", "quantity"])
    reliability([one for found in every.values() for one in found])


def reliability(found: list[Forecast]) -> None:
    rows = []
    for label, chance, came in (("a layer", "chance", "came"), ("any layer", "chance_any", "came_any")):
        said = np.concatenate([getattr(one, chance).ravel() for one in found])
        truth = np.concatenate([getattr(one, came).ravel() for one in found])
        for low, high in pairwise(BINS):
            own = (said >= low) & ((said < high) | (high == BINS[-1]))
            if np.any(own):
                rows.append([label, f"{low:g} to {high:g}", own.sum(), said[own].mean(), truth[own].mean()])
    print_table(f"to pass {', '.join(f'{k:g}' for k in TIMES)} times the last value seen",
                ["of", "said", "cases", "mean said", "came"], rows, left=["of", "said"])  # fmt: skip


def cost() -> None:
    start = time.process_time()
    shipped_population("ratio")
    loaded = time.process_time() - start
    run = next(runs("small_runs"))
    seen = run.steps <= 0.3 * run.end
    young = np.repeat(run.values["ratio"][:, seen], 30, axis=0)[:30]
    start = time.process_time()
    outlook = look_ahead(shipped_population("ratio"), run.steps[seen], young, run.end)
    for part in (
        lambda: outlook.forecast(run.steps[~seen]),
        lambda: outlook.exceed([100]),
        outlook.peak,
        outlook.plateau,
    ):
        part()
    print(
        f"30 layers, all that a forecast says: {time.process_time() - start:.2f} s; reading the prior: {loaded:.3f} s\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="train other-wirings again, and write its table")
    parser.add_argument("--quick", action="store_true", help="small_runs seen up to 30 %% alone")
    options = parser.parse_args()
    if options.train is not None:
        made = table(run_suite(read_suite(SUITE), options.train).open())
        made.to_csv(DATA / "other_wirings.csv", index=False, float_format="%.6g")
    cost()
    if options.quick:
        tables(["small_runs"], (0.3,))
    else:
        tables([name for name in SETS if (DATA / SETS[name]).exists()], SHARES)
