"""The small runs that forecasts are held against, trained and measured again: data/small_runs.csv.

Sixteen shapes of GPT-NeoX, 2 to 6 layers of 32 to 128, 1200 steps each on the Python standard library's sources, 27
checkpoints measured on held-out text. About an hour of one core; what is trained and measured stays in FOLDER, and a
run that was stopped goes on.

    python benchmarks/small_runs.py FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from madyn.dataset import Dataset
from madyn.lab import LabSuite, Measuring, ModelEntry, Recipe, TrainingText, run_suite

DATA = Path(__file__).parent / "data" / "small_runs.csv"
# layers, hidden size, heads
SHAPES = ((4, 64, 8), (2, 64, 8), (4, 128, 4), (3, 48, 6), (6, 48, 4), (2, 96, 8), (4, 64, 4), (3, 64, 8), (5, 64, 8),
          (3, 96, 12), (4, 96, 8), (2, 32, 4), (4, 48, 8), (6, 64, 8), (2, 128, 8), (3, 128, 16))  # fmt: skip


def train_and_measure(folder: Path) -> Dataset:
    suite = LabSuite(
        name="small-runs",
        recipe=Recipe(steps=1200, length=64),
        text=TrainingText(documents=200),
        measure=Measuring(count=26),
        model=[
            ModelEntry(
                num_hidden_layers=layers,
                hidden_size=hidden,
                num_attention_heads=heads,
                rotary_pct=0.25 if hidden // heads % 8 == 0 else 1 / 3,  # an even number of a head's features
            )
            for layers, hidden, heads in SHAPES
        ],
    )
    return run_suite(suite, folder).open()


def table(dataset: Dataset) -> pd.DataFrame:
    """A row for each model, layer and step: ratio, top1 and median, means over the sequences."""
    parts = []
    for model in dataset.models:
        columns = {q: dataset.trajectories(model, q).to_series() for q in ("ratio", "top1", "median")}
        part = pd.DataFrame(columns).reset_index().sort_values(["step", "layer"])
        parts.append(part.assign(model=model))
    return pd.concat(parts).reindex(columns=["model", "layer", "step", "ratio", "top1", "median"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    found = table(train_and_measure(parser.parse_args().folder))
    found.to_csv(DATA, index=False, float_format="%.6g")
    print(f"{DATA}: {found['model'].nunique()} models, {found['step'].nunique()} steps, {np.shape(found)[0]} rows")
