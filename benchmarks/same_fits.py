"""Whether fits are what they were, to the last bit: every hypothesis on every series of datasets, against a record.

    python benchmarks/same_fits.py [DATASET ...]           compare `tiny-suite`, or these, with the record
    python benchmarks/same_fits.py --record FILE DATASET   write a record of what this state of the code gives

The record that comes with madyn (data/same_fits.npz) was made of tiny-suite on one machine. Another processor or BLAS
rounds otherwise, so that bits may differ where nothing was changed: record the state before a change on the same
machine, and compare with that. Where bits differ, the table says by how much R2 and the curves' parameters do. The
search sums by matrix products whose rounding goes with the number of rows, so that the batches count: they are those of
`madyn fit`.
"""

# ruff: noqa: E402  the threads are set before numpy is loaded

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from madyn.curves.fitting.fits import fit_each
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.dataset import open_dataset
from madyn.terminal import print_table

RECORD = Path(__file__).parent / "data" / "same_fits.npz"
QUANTITIES = ("ratio", "top1", "median")
AT_ONCE = 300  # layers, about as `madyn fit` takes them
HASHED = ("popt", "pcov", "r2", "residuals", "success", "at_edge", "suspects")


def fitted(path: str) -> dict[str, np.ndarray]:
    """For each quantity and hypothesis: the hashes of all results a batch, and popt and R2 of the ratio's."""
    data = open_dataset(path)
    found: dict[str, list[np.ndarray]] = {}
    for quantity in QUANTITIES:
        for steps, values in _batches(data, quantity):
            for fits in fit_each(steps, values, list(HYPOTHESES)):
                name = f"{Path(path).name}/{quantity}/{fits.hypothesis.name}"
                whole = hashlib.sha256()
                for part in HASHED:
                    # A nan is a nan, whatever its sign and payload.
                    array = np.asarray(getattr(fits, part), float)
                    whole.update(np.where(np.isnan(array), np.nan, array).tobytes())
                found.setdefault(f"{name}/sha256", []).append(np.array([whole.hexdigest()]))
                if quantity == "ratio":
                    found.setdefault(f"{name}/popt", []).append(fits.popt)
                    found.setdefault(f"{name}/r2", []).append(fits.r2)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _batches(data, quantity: str):
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for model in data.models:
        series = data.trajectories(model, quantity)
        groups.setdefault(tuple(series["step"].values.tolist()), []).append(series.transpose("layer", "step").values)
    for steps, rows in groups.items():
        values = np.concatenate(rows)
        for i in range(0, len(values), AT_ONCE):
            yield np.array(steps, float), values[i : i + AT_ONCE]


def compare(found: dict[str, np.ndarray], record: dict[str, np.ndarray]) -> int:
    """Print what differs; gives how many hypotheses do."""
    rows, others = [], 0
    for name in (name for name in found if name.endswith("/sha256")):
        key = name.removesuffix("/sha256")
        if name not in record:
            rows.append([key, "not in the record", None, None])
            continue
        same = len(found[name]) == len(record[name]) and bool(np.all(found[name] == record[name]))
        others += not same
        away = [None, None]
        if f"{key}/r2" in found and found[f"{key}/r2"].shape == record[f"{key}/r2"].shape:
            away = [_away(found[f"{key}/{part}"], record[f"{key}/{part}"]) for part in ("r2", "popt")]
        rows.append([key, "same" if same else "OTHER", *away])
    print_table(
        f"fits against the record: {others} of {len(rows)} differ", ["fits", "bits", "R2, largest change",
        "popt, largest relative change"], rows, left=["fits", "bits"],
    )  # fmt: skip
    return others


def _away(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        off = np.abs(a - b) / (np.abs(b) if a.ndim > 1 else 1.0)
    other = np.isnan(a) != np.isnan(b)
    return float("inf") if other.any() else float(np.nanmax(np.where(a == b, 0.0, off), initial=0.0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", default=["tiny-suite"])
    parser.add_argument("--record", type=Path, help="write a record to this file")
    parser.add_argument("--against", type=Path, default=RECORD, help="compare with this record")
    options = parser.parse_args()
    results: dict[str, np.ndarray] = {}
    for dataset in options.datasets:
        results |= fitted(dataset)
    if options.record:
        np.savez_compressed(options.record, **results)  # pyright: ignore[reportArgumentType]
        print(f"{len(results)} entries in {options.record}")
    else:
        with np.load(options.against) as kept:
            sys.exit(min(1, compare(results, dict(kept))))
