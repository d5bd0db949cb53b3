"""Runs of many recipes, from which the shipped prior of forecasts learns how recipes differ: data/other_recipes.csv.

tiny-suite has one recipe. Here each model has its own: number of steps, batch, peak rate, schedule, warm-up, weight
decay and beta2 are drawn at random, and so is one of a few small shapes of GPT-NeoX. They serve the making of the prior
(`default_prior.py`), never its judging. About fifteen minutes of one core; what is trained and measured stays in
FOLDER, and a run that was stopped goes on.

    python benchmarks/other_recipes.py FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from madyn.lab import LabSuite, Measuring, ModelEntry, Recipe, TrainingText, run_suite
from small_runs import table

DATA = Path(__file__).parent / "data" / "other_recipes.csv"
COUNT = 24
# layers, hidden size, heads, residual
SHAPES = ((3, 64, 4, "parallel"), (4, 48, 6, "sequential"), (2, 64, 4, "sequential"), (3, 32, 2, "parallel"))


def recipe(number: int) -> tuple[Recipe, ModelEntry]:
    """The recipe of this number, and the shape that goes with it."""
    rng = np.random.default_rng([17, number])
    between = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))  # noqa: E731
    layers, hidden, heads, residual = SHAPES[int(rng.integers(len(SHAPES)))]
    drawn = Recipe(
        steps=50 * round(between(400, 3500) / 50),
        batch_size=int(rng.choice([4, 8, 16])),
        length=64,
        learning_rate=float(f"{between(1e-3, 2e-2):.2g}"),
        schedule=("cosine", "cosine", "linear", "constant")[int(rng.integers(4))],
        warmup=float(rng.choice([0.01, 0.03, 0.1])),
        final_rate=float(rng.choice([0.0, 0.1])),
        beta2=float(rng.choice([0.95, 0.99, 0.999])),
        weight_decay=float(rng.choice([0.0, 0.03, 0.1, 0.3, 0.6])),
    )
    shape = ModelEntry(
        name=f"recipe_{number:02d}",
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        rotary_pct=0.25 if hidden // heads % 8 == 0 else 1.0,
        residual=residual,
    )
    return drawn, shape


def train_and_measure(number: int, folder: Path) -> pd.DataFrame:
    drawn, shape = recipe(number)
    text = TrainingText(documents=200)
    suite = LabSuite(name=f"recipe-{number}", recipe=drawn, text=text, measure=Measuring(count=30), model=[shape])
    return table(run_suite(suite, folder / f"{number:02d}").open())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found = pd.concat([train_and_measure(number, folder) for number in range(COUNT)])
    found.to_csv(DATA, index=False, float_format="%.6g")
    print(f"{DATA}: {found['model'].nunique()} models, {len(found)} rows")
