"""What quantization would cost the models of a dataset at a step, estimated from the statistics in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.arrays import whole_number
from madyn.dataset import Dataset, open_dataset
from madyn.errors import UsageError
from madyn.quantization.estimate import effective_bits, headroom, zeroed_share
from madyn.terminal import few

if TYPE_CHECKING:
    import pandas as pd


def estimate_dataset(dataset: str | Path | Dataset, at: int | None = None) -> pd.DataFrame:
    """What int8 with one scale a tensor would leave of every layer of every model, by `effective_bits`.

    Args:
        dataset: a dataset, or its folder, or a dataset of the Hub.
        at: a step that was measured; each model's last by default. Models without it are left out.

    Returns:
        a row a model and layer: `model`, `step`, `layer`; `top1`, `median`, `ratio`, `effective_bits`, `zeroed`, means
        over the sequences; `headroom`, of the largest of all sequences.

    Raises:
        DatasetError: there is no such dataset, or no model's statistics can be read.
        UsageError: no model was measured at that step.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> list(madyn.quantization.estimate_dataset(few).columns[:4])
    ['model', 'step', 'layer', 'top1']
    """
    import pandas as pd

    dataset = open_dataset(dataset)
    step = None if at is None else whole_number(at, "the step")
    if step is not None:
        with_step = [model for model in dataset if step in dataset.steps(model)]
        if not with_step:
            there = sorted({step for model in dataset for step in dataset.steps(model)})
            raise UsageError(
                f"{dataset.path}: nothing was measured at step {step}; there are {few(map(str, there), 12)}"
            )
        dataset = dataset.select(with_step)
    return pd.concat([_of_model(dataset, model, step) for model in dataset.sound()], ignore_index=True)


def _of_model(dataset: Dataset, model: str, step: int | None) -> pd.DataFrame:
    import pandas as pd

    statistics = dataset.statistics(model)
    statistics = statistics.isel(step=-1) if step is None else statistics.sel(step=step)
    top1, median = (statistics.sel(quantity=name).values for name in ("top1", "median"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = top1 / median
    return pd.DataFrame(
        {
            "model": model,
            "step": int(statistics["step"]),
            "layer": np.arange(top1.shape[1]),
            **{name: values.mean(axis=0) for name, values in (("top1", top1), ("median", median), ("ratio", ratio))},
            "effective_bits": effective_bits(top1, median).mean(axis=0),
            "zeroed": zeroed_share(top1, median).mean(axis=0),
            "headroom": headroom(top1.max(axis=0)),
        }
    )


def worst_layers(estimates: pd.DataFrame) -> pd.DataFrame:
    """Of what `estimate_dataset` gives: of each model the layer with the fewest effective bits, and the smallest
    headroom of all its layers, with the layer that has it: `headroom_layer`. The worst model comes first.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> len(madyn.quantization.worst_layers(madyn.quantization.estimate_dataset(few))) == len(few.models)
    True
    """
    import pandas as pd

    rows = []
    for _, table in estimates.groupby("model", sort=False):
        known = table.dropna(subset=["effective_bits"])
        worst = (table if known.empty else known).sort_values("effective_bits").iloc[0].to_dict()
        least = table.sort_values("headroom").iloc[0]
        rows.append({**worst, "headroom": least["headroom"], "headroom_layer": least["layer"]})
    return pd.DataFrame(rows).sort_values("effective_bits", kind="stable").reset_index(drop=True)
