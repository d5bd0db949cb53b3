"""What `madyn fit` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.dataset import Dataset


def print_fits(dataset: Dataset) -> None:
    """Mean R2 by hypothesis and model, over the layers that have a fit, for the ratio or what was fitted of it."""
    import pandas as pd

    rows, every = [], []
    hypotheses: list[str] = []
    for model in dataset:
        fits = dataset.fits(model, "ratio") if has_fits(dataset, model, "ratio") else None
        if fits is None:
            continue
        hypotheses = hypotheses or [str(h) for h in fits["hypothesis"].values]
        r2 = fits["r2"]
        means = r2.mean("layer", skipna=True).to_series().reindex(hypotheses)
        failed = int(r2.isnull().sum())
        rows.append([model, r2.sizes["layer"], *means, failed])
        every.append(pd.DataFrame(r2.values, index=r2["hypothesis"].values).reindex(hypotheses))
    if len(rows) > 1:
        together = pd.concat(every, axis=1)
        rows.append(["all", together.shape[1], *together.mean(axis=1), sum(row[-1] for row in rows)])
    if rows:
        print_table("mean R2 of the ratio's fits", ["model", "layers", *hypotheses, "failed"], rows, left=["model"])
        console.print("failed counts (layer, hypothesis) pairs without a fit; they are left out of the means")
    console.print(f"written: {dataset.path}/*/params/ and {dataset.path}/fitted_param_dataset_reparam.csv")


def has_fits(dataset: Dataset, model: str, quantity: str) -> bool:
    from madyn.errors import DatasetError

    try:
        dataset.fit_records(model, quantity)
    except DatasetError:
        return False
    return True
