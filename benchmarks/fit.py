"""The curve engine: its speed, whether it finds the global optimum, and how accurate it is.

    python benchmarks/fit.py --keep FOLDER [--series 2000] [--quick]

First table: the time in which one core fits the 188 layers of the nine Pythia models, three quantities, six curves.
Second and third: a bank of noisy series, held against the least residual sum of squares that SciPy's TRF finds from 50
starts in the same box (kept in FOLDER, see bank.py: seconds a series the first time), and against the published search
from a single start. Fourth: engine and 50 starts timed in turn. Fifth: NIST's certified problems, in digits.
"""

# ruff: noqa: E402  the threads are set before numpy is loaded

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "curves"))

from bank import MODELS, STARTS, STEPS, draw_bank, fifty_starts, yardstick
from madyn.curves.fitting.fits import Fits, fit_curves, fit_each
from madyn.curves.hypotheses.registry import PUBLISHED
from madyn.terminal import print_table
from nist_problems import PROBLEMS, digits, fitted, published_parameters

LAYERS, QUANTITIES = 188, 3
SAME, LOWER = 1e-9, 1e-6


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """(processor time, wall time) of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def suite_time(repeats: int) -> None:
    y = draw_bank("reparam", LAYERS * QUANTITIES, seed=1)
    calls = {"all six in one call": lambda: fit_each(STEPS, y, PUBLISHED)}
    calls |= {name: lambda name=name: fit_curves(STEPS, y, name) for name in PUBLISHED}
    times = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            times[name].append(seconds(call))
    rows = [[name, *np.median(spent[1:], axis=0)] for name, spent in times.items()]  # the first round warms up
    title = f"time for {LAYERS} layers x {QUANTITIES} quantities of {STEPS.size} points, one core, median of {repeats}"
    print_table(title, ["curve", "processor s", "wall s"], rows, left=["curve"])


def bank_tables(model: str, series: int, keep: Path) -> None:
    y = draw_bank(model, series)
    best = yardstick(model, series, keep)
    rows = []
    for method in ("varpro", "trf"):
        fits = fit_curves(STEPS, y, model, method)
        rows.append([f"{model}, {'the engine' if method == 'varpro' else 'TRF, one start'}", *_against(fits, best)])
    failed = [f"{model}, TRF, {STARTS} starts", int(np.sum(~np.isfinite(best[:, 0]))), *[None] * 7]
    failures = f"{best[:, 1].mean():.1f} of them failed"
    print_table(
        f"{series} noisy series of {model} against the best of {STARTS} starts ({failures})",
        ["search", "no fit", "RSS above by 1e-9", "by 1e-6", "by 1 %", "median excess", "95 %", "worst",
         "lower by 1e-6"], [*rows, failed], left=["search"],
    )  # fmt: skip


def _against(fits: Fits, best: np.ndarray) -> list[Any]:
    known = np.isfinite(best[:, 0]) & fits.success
    rss = np.sum(fits.residuals**2, axis=-1)[known]
    excess = rss / best[known, 0] - 1
    above = [int(np.sum(excess > limit)) for limit in (SAME, LOWER, 0.01)]
    return [int(np.sum(~fits.success)), *above, *np.quantile(np.maximum(excess, 0), [0.5, 0.95, 1]),
            int(np.sum(excess < -LOWER))]  # fmt: skip


def speed(model: str, series: int, subset: int, repeats: int) -> None:
    """Engine and 50 starts in turn, on the same machine at the same time."""
    y = draw_bank(model, series)
    engine, starts = [], []
    fit_curves(STEPS, y[:10], model)
    for _ in range(repeats):
        engine.append(seconds(lambda: fit_curves(STEPS, y, model))[0] / series)
        starts.append(seconds(lambda: [fifty_starts(model, row, i) for i, row in enumerate(y[:subset])])[0] / subset)
    ratio = np.median(np.array(starts) / np.array(engine))
    row = [model, 1e3 * np.median(engine), 1e3 * np.median(starts), ratio]
    title = f"speed: the engine on {series} series and {STARTS} starts on {subset} of them, {repeats} times in turn"
    print_table(
        title, ["curve", "engine, ms a series", f"{STARTS} starts, ms a series", "ratio"], [row], left=["curve"]
    )


def certified() -> None:
    rows = []
    for problem in PROBLEMS:
        fits = fitted(problem)
        parameters, deviations = published_parameters(problem, fits)
        rss = digits(fits.residuals @ fits.residuals, problem.rss)
        agree = [np.min(digits(parameters, problem.values)), np.min(digits(deviations, problem.deviations)), rss]
        rows.append([problem.name, len(problem.x), len(problem.values), *map(float, agree)])
    columns = ["problem", "points", "parameters", "digits of parameters", "of standard deviations", "of RSS"]
    print_table("NIST StRD, no start given: least agreeing digits (11 are certified)", columns, rows, left=["problem"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="folder for what the 50 starts found")
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="40 series of each, one repeat")
    options = parser.parse_args()
    series, repeats = (40, 1) if options.quick else (options.series, 5)
    suite_time(repeats)
    for model in MODELS:
        bank_tables(model, series, options.keep)
    for model in MODELS:
        speed(model, series, 2 if options.quick else 10, repeats)
    certified()
