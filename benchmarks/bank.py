"""A bank of noisy series, and the yardstick that the engine is held against: SciPy's TRF from fifty starts a series.

The fifty starts search the same box as the engine. Each starts at nonlinear parameters drawn log-uniformly from the box
and at the linear parameters that are best for them, which is kinder than drawing those too. It takes seconds a series,
so what was found is kept in a folder and a run that was stopped goes on.

    python benchmarks/bank.py --model reparam --series 2000 --keep FOLDER
"""

from __future__ import annotations

import argparse
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.suites import PYTHIA

STEPS = np.array(PYTHIA.grids["paper"], float)
STARTS = 50
CHUNK = 20

MODELS = ("reparam", "step1", "step2")


def draw_bank(model: str, series: int, seed: int = 0) -> np.ndarray:
    """Noisy series (series, 37) of one curve, at the paper's steps; noise of 0.5 % to 30 % of the clean range.

    Nonlinear parameters are log-uniform over the middle of the box, amplitudes normal, the scale log-uniform.
    """
    rng = np.random.default_rng(seed)
    s = STEPS / STEPS[-1]
    bank = np.empty((series, s.size))
    for row in bank:
        clean = np.zeros(1)
        while np.ptp(clean) < 1e-3:  # a curve that does not move has no range to measure the noise in
            clean = _clean(model, s, rng)
        noise = np.ptp(clean) * np.exp(rng.uniform(np.log(0.005), np.log(0.3)))
        row[:] = (clean + rng.normal(0, noise, s.size)) * 10 ** rng.uniform(-2, 4)
    return bank


def _clean(model: str, s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if model == "reparam":
        beta, tau0 = 10 ** rng.uniform(-2, 2.5), 10 ** rng.uniform(-5, 1)
        A1, A2, K = rng.normal(size=3) * (1, 4, 10)
        return np.exp(-beta * s) * (A1 * np.log(s + tau0) + A2) + K
    if model == "step1":
        return HYPOTHESES["step1"].values(s, [10 ** rng.uniform(-4, 1), rng.normal()])
    return HYPOTHESES["step2"].values(s, [10 ** rng.uniform(-1.2, 1.2), 10 ** rng.uniform(0, 3), rng.normal()])


def fifty_starts(model: str, y: np.ndarray, seed: int) -> tuple[float, int, float]:
    """(least residual sum of squares, starts that failed, seconds) of TRF in the box, for one series."""
    rng = np.random.default_rng([seed, 1])
    hypothesis, box = HYPOTHESES[model], np.array(list(HYPOTHESES[model].nonlinear.values()))
    published = hypothesis.published
    assert published is not None
    s = STEPS / STEPS[-1]
    low = np.min(y) if model == "reparam" else 0.0
    size = np.ptp(y) if model == "reparam" else np.max(np.abs(y))
    v = (y - low) / size
    linear = hypothesis.num_params - len(box)
    bounds = np.vstack([box, np.tile([-np.inf, np.inf], (linear, 1))]).T
    best, failed = np.inf, 0
    begin = time.perf_counter()
    for _ in range(STARTS):
        nonlinear = np.exp(rng.uniform(*np.log(box.T)))
        design = published.jacobian(s, *nonlinear, *np.ones(linear))[:, -linear:]
        start = np.concatenate([nonlinear, np.linalg.lstsq(design, v)[0]])
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                popt, _ = curve_fit(
                    published.function, s, v, p0=start, bounds=bounds, method="trf", jac=published.jacobian
                )
        except (RuntimeError, ValueError, np.linalg.LinAlgError):
            failed += 1
            continue
        best = min(best, float(np.sum((v - published.function(s, *popt)) ** 2)))
    return best * size**2, failed, time.perf_counter() - begin


def yardstick(model: str, series: int, keep: Path, workers: int = 1) -> np.ndarray:
    """(series, 3): what `fifty_starts` gives for each series of the bank, taken from `keep` as far as it is there."""
    bank = draw_bank(model, series)
    keep.mkdir(parents=True, exist_ok=True)
    chunks = [range(i, min(i + CHUNK, series)) for i in range(0, series, CHUNK)]
    missing = [chunk for chunk in chunks if not _kept(keep, model, chunk).exists()]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_run, [model] * len(missing), [bank[c] for c in missing], missing, [keep] * len(missing)))
    return np.concatenate([np.load(_kept(keep, model, chunk)) for chunk in chunks])


def _run(model: str, series: np.ndarray, chunk: range, keep: Path) -> None:
    found = np.array([fifty_starts(model, y, seed=i) for i, y in zip(chunk, series, strict=True)])
    path = _kept(keep, model, chunk)
    np.save(path.with_suffix(".partial.npy"), found)
    path.with_suffix(".partial.npy").replace(path)


def _kept(keep: Path, model: str, chunk: range) -> Path:
    return keep / f"{model}_{chunk.start}_{chunk.stop}.npy"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reparam", choices=MODELS)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--keep", type=Path, required=True, help="folder for what was found")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    found = yardstick(options.model, options.series, options.keep, options.workers)
    print(f"{options.model}: {len(found)} series, {found[:, 1].mean():.1f} of {STARTS} starts failed, "
          f"{np.median(found[:, 2]):.2f} s a series")  # fmt: skip
