"""Makes the prior that madyn comes with for young runs: src/madyn/data/young-runs.json.

    python benchmarks/default_prior.py [--out FILE]

Half of its weight have tiny-suite's 162 models, half the runs of other recipes (data/other_recipes.csv, see
other_recipes.py). Widths come from forecasts of what was left out: of tiny-suite a third of the hidden sizes or of the
depths, of the recipes a third of the lengths, of the rates or of the decay.
A minute of one core; the same data give the same file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from madyn.analysis.shipped_prior import PATH, QUANTITIES, write_shipped
from madyn.curves.population.learning import FinishedRun, learn_population
from madyn.curves.population.populations import Population
from madyn.dataset import Dataset, open_dataset
from madyn.lab import Recipe
from other_recipes import recipe

RECIPES = Path(__file__).parent / "data" / "other_recipes.csv"
_WIDTHS = ((0, "width 32-48"), (64, "width 64"), (96, "width 96-128"))
_RECIPE: dict[str, Callable[[Recipe], float]] = {
    "steps": lambda one: one.steps,
    "rate": lambda one: one.learning_rate,
    "decay": lambda one: one.learning_rate * one.weight_decay * one.steps,
}
_DEPTHS = ((0, "depth 2-3"), (4, "depth 4-5"), (6, "depth 6-8"))


def architectures(dataset: Dataset, quantity: str) -> list[FinishedRun]:
    """The runs of tiny-suite, of their kinds of width and depth."""
    runs = []
    for model in dataset.models:
        series = dataset.trajectories(model, quantity).transpose("layer", "step")
        shape = dataset.architecture(model)
        kinds = (_kind(_WIDTHS, shape.hidden_size), _kind(_DEPTHS, shape.num_hidden_layers))
        runs.append(FinishedRun(series["step"].values.astype(float), series.values, kinds))
    return runs


def recipes(quantity: str) -> list[FinishedRun]:
    """The runs of other recipes, of their kinds of length, peak rate and decay."""
    table = pd.read_csv(RECIPES)
    names = sorted(table["model"].unique())
    drawn = [recipe(number)[0] for number in range(len(names))]
    kinds = zip(*(_thirds(of, [value(one) for one in drawn]) for of, value in _RECIPE.items()), strict=True)
    runs = []
    for name, own in zip(names, kinds, strict=True):
        series = table[table["model"] == name].pivot_table(index="layer", columns="step", values=quantity)
        runs.append(FinishedRun(series.columns.to_numpy(float), series.to_numpy(), own))
    return runs


def made(quantity: str, dataset: Dataset) -> Population:
    groups = [architectures(dataset, quantity), recipes(quantity)]
    steps = groups[0][0].steps
    source = f"learned from tiny-suite's {len(groups[0])} runs and {len(groups[1])} of other recipes"
    return learn_population(steps / steps[-1], groups, source)


def _thirds(of: str, values: list[float]) -> list[str]:
    """Of each value, the third of them all that it is in."""
    place = np.argsort(np.argsort(values, kind="stable"))
    return [f"{of}, third {3 * int(one) // len(values)}" for one in place]


def _kind(bounds: tuple[tuple[int, str], ...], size: int) -> str:
    return next(name for least, name in reversed(bounds) if size >= least)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PATH)
    out = parser.parse_args().out
    suite = open_dataset("tiny-suite")
    found = {quantity: made(quantity, suite) for quantity in QUANTITIES}
    write_shipped(out, found)
    for name, population in found.items():
        widths = {
            key: float(np.round(getattr(population, key), 3))
            for key in ("dof", "firmness", "widening", "growth", "together")
        }
        print(name, widths)
    print(f"{out}: {out.stat().st_size} bytes, {found['ratio'].source}")
