"""Many series and long ones: seconds, processor seconds and peak memory, against an earlier state of the code.

    python benchmarks/large_fits.py [--before SRC] [--repeats 3] [--quick]

Each measurement is a process of its own, so that its peak memory is its own. With `--before`, the `src` folder of an
earlier checkout, the two states take turns, and an earlier one that does not end in `--limit` seconds is not asked
again, nor for anything larger of its kind. One thread for matrix products; a fit of many series uses all cores by
itself. The table gives medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SRC = HERE.parent / "src"

# what: (what is called, sizes (series, points))
JOBS = {
    "fit_curves, reparam": [(2_000, 37), (20_000, 37), (100_000, 37), (1, 1_000), (1, 10_000), (1, 100_000)],
    "fit_curves, step1": [(20_000, 37), (100_000, 37), (1, 10_000), (1, 100_000)],
    "fit_curves, step2": [(20_000, 37), (1, 10_000), (1, 100_000)],
    "fit_curves, original_regularized": [(20_000, 37), (1, 10_000), (1, 100_000)],
    "fit_curves, reparam_regularized": [(20_000, 37), (1, 10_000), (1, 100_000)],
    "kfold_scores": [(2_000, 37), (20_000, 37)],
    "posterior": [(100, 37), (1_000, 37), (1, 1_000), (1, 10_000), (1, 100_000)],
    "posterior's quantities": [(100, 37), (1_000, 37)],
    "curve_quantities": [(20_000, 37), (100_000, 37)],
    "quantity_intervals": [(200, 37), (2_000, 37)],
}
QUICK = {"fit_curves, reparam": [(2_000, 37), (1, 10_000)], "posterior": [(100, 37)]}


def series(count: int, points: int):
    """(steps, values (count, points)) of noisy reparam curves."""
    import numpy as np

    from madyn.curves.hypotheses.registry import HYPOTHESES
    from madyn.suites import PYTHIA

    rng = np.random.default_rng(0)
    steps = np.array(PYTHIA.grids["paper"], float) if points == 37 else np.linspace(0, 143_000, points)
    beta, tau0 = 10 ** rng.uniform(-6, -4, count), 10 ** rng.uniform(2, 4, count)
    params = np.stack([beta, tau0, *rng.normal(size=(3, count)) * [[10], [40], [10]]], axis=1)
    clean = HYPOTHESES["reparam"].values(steps, params)
    return steps, clean + rng.normal(size=clean.shape) * 0.05 * np.ptp(clean, axis=1, keepdims=True)


def measure(what: str, count: int, points: int) -> None:
    """Print seconds, processor seconds and peak memory in MiB of one call."""
    import resource
    import time

    import numpy as np

    import madyn

    steps, values = series(count, points)
    name = what.partition(", ")[2]
    fits = madyn.fit_curves(steps, values[:3], "reparam")
    params = np.resize(fits.popt, (count, 5))
    if what == "quantity_intervals":
        fits = madyn.fit_curves(steps, values)
    cpu, wall = time.process_time(), time.perf_counter()
    if what.startswith("fit_curves"):
        madyn.fit_curves(steps, values, name)
    elif what == "kfold_scores":
        madyn.curves.kfold_scores(steps, values)
    elif what.startswith("posterior"):
        found = madyn.posterior(steps, values)
        found.quantities() if "quantities" in what else found.forecast([200_000.0])
    elif what == "curve_quantities":
        madyn.curves.curve_quantities("reparam", params, steps[-1])
    else:
        madyn.curves.quantity_intervals(fits, last_step=steps[-1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.perf_counter() - wall, time.process_time() - cpu, peak)


def run(src: Path, what: str, count: int, points: int, limit: float) -> list[float] | None:
    """What `measure` prints, in a process of its own; None where it does not end."""
    environment = {**os.environ, "PYTHONPATH": str(src), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", what, str(count), str(points)]
    try:
        done = subprocess.run(command, env=environment, timeout=limit, capture_output=True, text=True, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    return [float(word) for word in done.stdout.split()]


def main(before: Path | None, repeats: int, jobs: dict[str, list[tuple[int, int]]], limit: float) -> None:
    import numpy as np

    from madyn.terminal import print_table

    rows = []
    for what, sizes in jobs.items():
        lost: list[tuple[int, int]] = []
        for count, points in sizes:
            found: dict[str, list[list[float]]] = {"now": [], "before": []}
            hopeless = any(count >= s and points >= n for s, n in lost)
            for _ in range(repeats):
                for state, src in (("before", before), ("now", SRC)):
                    if src is None or (state == "before" and hopeless):
                        continue
                    one = run(src, what, count, points, limit)
                    if one is not None:
                        found[state].append(one)
                    elif state == "before":
                        hopeless = True
                        lost.append((count, points))
            cells = [np.median(found[state], axis=0).tolist() if found[state] else [None] * 3 for state in found]
            rows.append([what, count, points, *cells[0], *cells[1]])
            print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
    columns = ["call", "series", "points", "s", "processor s", "MiB", "before: s", "processor s", "MiB"]
    print_table(f"medians of {repeats}; - did not end in {limit:g} s, or was not asked", columns, rows, left=["call"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="src folder of an earlier checkout")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one call")
    parser.add_argument("--only", help="calls whose name begins so")
    parser.add_argument("--quick", action="store_true", help="a few small sizes")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], int(options.measure[1]), int(options.measure[2]))
    else:
        chosen = QUICK if options.quick else JOBS
        chosen = {what: sizes for what, sizes in chosen.items() if what.startswith(options.only or "")}
        main(options.before, options.repeats, chosen, options.limit)
