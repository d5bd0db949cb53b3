"""What predicting costs: fitting, loading a saved predictor, one architecture, and the whole table of `madyn evaluate`.

    python benchmarks/predict.py [--dataset tiny-suite] [--rounds 5] [--jobs 2] [--evaluate]

Medians over rounds. Each start is a process of its own, so that imports count: "cold" is what a user waits for who
loads a predictor and asks for one architecture.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import madyn
from madyn.prediction import Predictor
from madyn.prediction.evaluation import evaluate
from madyn.terminal import print_table

_COLD = """
import sys, time
start = time.perf_counter()
from madyn.prediction import Predictor
predictor = Predictor.load(sys.argv[1])
loaded = time.perf_counter()
shape = predictor.architecture(num_hidden_layers=4, hidden_size=96, num_attention_heads=4, mlp_ratio=4)
predictor.predict(shape)
print(loaded - start, time.perf_counter() - loaded)
"""


def timed(dataset: str, rounds: int) -> None:
    predictor, fits = Predictor(), []
    for _ in range(max(1, rounds // 2)):
        start = time.perf_counter()
        predictor.fit(dataset)
        fits.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictor.json"
        predictor.save(path)
        cold = [
            [
                float(word)
                for word in subprocess.check_output([sys.executable, "-c", _COLD, str(path)], text=True).split()
            ]
            for _ in range(rounds)
        ]
        size = path.stat().st_size / 1e6
    shape = predictor.architecture(num_hidden_layers=4, hidden_size=96, num_attention_heads=4, mlp_ratio=4)
    warm = []
    for _ in range(10 * rounds):
        start = time.perf_counter()
        predictor.predict(shape)
        warm.append(time.perf_counter() - start)
    load, first = np.median(cold, axis=0)
    rows = [
        ["fit to the dataset", np.median(fits)],
        [f"load ({size:.1f} MB), in a new process", load],
        ["first prediction after it", first],
        ["further predictions", np.median(warm)],
    ]
    print_table(f"{dataset}: seconds, medians", ["", "seconds"], rows, left=[""])


def whole_table(dataset: str, jobs: int) -> None:
    start = time.perf_counter()
    evaluation = evaluate(madyn.open_dataset(dataset), jobs=jobs)
    rows = [[f"madyn evaluate, {jobs} processes", time.perf_counter() - start]]
    print_table(f"{dataset}: {len(evaluation.scores)} rows of scores", ["", "seconds"], rows, left=[""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="tiny-suite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--evaluate", action="store_true", help="the whole table too, which takes minutes")
    arguments = parser.parse_args()
    timed(arguments.dataset, arguments.rounds)
    if arguments.evaluate:
        whole_table(arguments.dataset, arguments.jobs)
