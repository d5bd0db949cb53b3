"""Forecasts held against what is known: series drawn from the prior itself, and real runs of which a part was seen.

    python benchmarks/forecast.py [--series 2000] [--jobs 2] [--quick]

First table: how often intervals of 90 % hold the truth, over series drawn from the default prior, and the time that
1,000 of them take. Second table: small runs (data/small_runs.csv, see small_runs.py) seen up to 20, 30 and 50 % of
their training, each forecast with a prior learned from the other runs. One BLAS thread a process, so that a time is
that of one core.
"""

# ruff: noqa: E402  the threads are set before numpy is loaded

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from madyn.curves.bayes.learning import learn_prior
from madyn.curves.bayes.posteriors import posterior
from madyn.curves.bayes.priors import Prior
from madyn.curves.fitting.fits import fit_curves
from madyn.curves.hypotheses.peaks import peak
from madyn.suites import PYTHIA
from madyn.terminal import print_table

DATA = Path(__file__).parent / "data" / "small_runs.csv"
LEVEL = 0.9
QUANTITIES, SHARES = ("ratio", "top1", "median"), (0.2, 0.3, 0.5)


def prior_series(series: int) -> None:
    """Coverage over series drawn from the prior, and the time."""
    t = np.array(PYTHIA.grids["paper"], float)
    prior = Prior.default("reparam").given()
    drawn = prior.sample(series, t, seed=1)
    posterior(t, drawn.y[:2], prior=prior)
    cpu, wall = time.process_time(), time.perf_counter()
    found = posterior(t, drawn.y, prior=prior)
    bands = found.value(t, LEVEL)
    cpu, wall = (1000 * spent / series for spent in (time.process_time() - cpu, time.perf_counter() - wall))
    covered = _covered(bands, drawn.curve)
    rows = [["value of the curve, all steps", covered.mean(), covered.size]]
    rows += [[f"value of the curve, step {t[i]:.0f}", covered[:, i].mean(), len(covered)] for i in (0, 5, 11, 24, 36)]
    step, height = peak(*drawn.params.T)
    inside = (step > 0) & (step <= t[-1])
    peaks = found.peak(LEVEL)
    for name, truth in (("step", step), ("height", height)):
        rows.append([f"peak {name}", _covered(peaks.sel(quantity=name), truth)[inside].mean(), int(inside.sum())])
    expected = float(peaks["inside"].mean())
    plateau = _covered(found.plateau(LEVEL), drawn.params[:, -1])
    rows.append(["plateau", plateau.mean(), len(plateau)])
    later = np.arange(t.size) >= 24
    part = posterior(t[~later], drawn.y[:, ~later], prior=prior, last_step=t[-1]).forecast(t[later], LEVEL)
    ahead = _covered(part, drawn.y[:, later])
    rows.append(["measurements after two thirds of the points", ahead.mean(), ahead.size])
    print_table(f"{series} series drawn from the prior: intervals of 90 %", ["of", "cover", "cases"], rows, left=["of"])
    print(f"peak inside the run: {expected:.3f} expected by the posteriors, {inside.mean():.3f} true")
    print(
        f"posterior and bands of 1,000 series of {t.size} points: {cpu:.1f} s of one core, {wall:.1f} s by the clock\n"
    )


def _covered(bands, truth: np.ndarray) -> np.ndarray:
    return (bands["lower"].values <= truth) & (truth <= bands["upper"].values)


def small_runs(quantity: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(t (n,), y (S, n), the run of each series (S,))."""
    table = pd.read_csv(DATA).pivot_table(index=["model", "layer"], columns="step", values=quantity)
    return table.columns.to_numpy(float), table.to_numpy(), np.array([model for model, _ in table.index])


def one_run(quantity: str, share: float, name: str) -> dict[str, np.ndarray]:
    """Forecasts of one run by every method, (layers, later points) each, and what was measured."""
    t, y, runs = small_runs(quantity)
    at, mine = share * t[-1], runs == name
    seen, young = t <= at, y[runs == name][:, t <= at]
    learned = learn_prior(t, y[~mine], runs=list(runs[~mine]), seen=at, positive=True)
    found = {"truth": y[mine][:, ~seen], "last": np.repeat(young[:, -1:], np.sum(~seen), axis=1)}
    for label, prior in (("learned", learned), ("default", replace(Prior.default(), positive=True))):
        bands = posterior(t[seen], young, prior=prior, last_step=t[-1]).forecast(t[~seen], LEVEL)
        found |= {f"{label} {bound}": bands[bound].values for bound in ("median", "lower", "upper")}
    line = np.polynomial.polynomial.polyfit(np.log1p(t[seen]), young.T, 1)
    found["line"] = (line[:1] + line[1:] * np.log1p(t[~seen])[:, np.newaxis]).T
    for method in ("trf", "varpro"):
        curves = fit_curves(t[seen], young, method=method).predict(t[~seen])
        found[method] = np.where(np.isfinite(curves), curves, found["last"])
    return found


def real_runs(jobs: int, shares: tuple[float, ...]) -> None:
    """The table of the small runs."""
    names = sorted(set(small_runs("ratio")[2]))
    cases = list(product(QUANTITIES, shares, names))
    with ProcessPoolExecutor(jobs) as pool:
        done = dict(zip(cases, pool.map(one_run, *zip(*cases, strict=True)), strict=True))
    columns = ["quantity", "seen", "points", "cover", "cover, default", "width", "learned", "default",
               "last value", "line in log step", "trf", "varpro"]  # fmt: skip
    for measure, label in ((np.median, "median"), (np.mean, "mean")):
        rows = [_row(quantity, share, [done[quantity, share, name] for name in names], measure)
                for share in shares for quantity in QUANTITIES]  # fmt: skip
        rows += [_row("all", share, [done[q, share, name] for q in QUANTITIES for name in names], measure)
                 for share in shares]  # fmt: skip
        print_table(
            f"{len(names)} small runs, each left out of its prior: cover of 90 % bands, and {label} |error| / value",
            columns, rows, left=["quantity"],
        )  # fmt: skip
    print()


def _row(quantity: str, share: float, runs: list[dict[str, np.ndarray]], measure) -> list:
    every = {key: np.concatenate([run[key].ravel() for run in runs]) for key in runs[0]}
    truth = every["truth"]
    cover = [np.mean((every[f"{p} lower"] <= truth) & (truth <= every[f"{p} upper"])) for p in ("learned", "default")]
    width = np.median((every["learned upper"] - every["learned lower"]) / truth)
    methods = ("learned median", "default median", "last", "line", "trf", "varpro")
    errors = [measure(np.abs(every[method] - truth) / truth) for method in methods]
    return [quantity, f"{100 * share:.0f} %", truth.size, *cover, width, *errors]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="100 series, and the runs seen up to 30 %% alone")
    options = parser.parse_args()
    prior_series(100 if options.quick else options.series)
    real_runs(options.jobs, (0.3,) if options.quick else SHARES)
