"""What `madyn fit` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from madyn.terminal import console, print_table

if TYPE_CHECKING:
    import numpy as np

    from madyn.dataset import Dataset


_MOST = 20


def fit_tables(dataset: Dataset, models: Iterable[str] | None = None, quantity: str = "ratio") -> dict[str, Any]:
    """How well curves describe a quantity.

    Returns:
        path; quantity; hypotheses, for each: hypothesis, layers, r2 (the mean over the layers that have a fit),
        below_zero (layers that it describes worse than a constant would), at_edge (layers whose optimum lies on an edge
        of the box), failed (layers without a fit); models, for each: model, layers, r2 by hypothesis and failed.
    """
    import numpy as np

    found = []
    by_hypothesis: dict[str, list[np.ndarray]] = {}
    edges: Counter[str] = Counter()
    for model in dataset if models is None else models:
        layers = dataset.readable_fits(model, quantity)
        if layers is None:
            continue
        r2 = {name: _r2(layers, name) for name in dict.fromkeys(name for layer in layers for name in layer)}
        for name, values in r2.items():
            by_hypothesis.setdefault(name, []).append(values)
        edges.update(name for layer in layers for name, one in layer.items() if one.get("at_edge"))
        failed = sum(int(np.isnan(values).sum()) for values in r2.values())
        means = {name: _mean(values) for name, values in r2.items()}
        found.append({"model": model, "layers": len(layers), "r2": means, "failed": failed})
    overall = []
    for name, parts in by_hypothesis.items():
        values = np.concatenate(parts)
        fitted = values[np.isfinite(values)]
        overall.append(
            {"hypothesis": name, "layers": len(values), "r2": float(fitted.mean()) if len(fitted) else None,
             "below_zero": int((fitted < 0).sum()), "at_edge": edges[name], "failed": len(values) - len(fitted)}
        )  # fmt: skip
    return {"path": str(dataset.path), "quantity": quantity, "hypotheses": overall, "models": found}


def _r2(layers: list[dict[str, dict[str, Any]]], hypothesis: str) -> np.ndarray:
    """R2 by layer, NaN where there is none."""
    import numpy as np

    values = np.array([layer.get(hypothesis, {}).get("r2") for layer in layers], float)
    return np.where(np.isfinite(values), values, np.nan)


def _mean(values: np.ndarray) -> float:
    """The mean of those that are numbers, NaN if none is."""
    import numpy as np

    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def print_fits(dataset: Dataset) -> None:
    """How well the curves describe the layers, by hypothesis and by model, for the first quantity that was fitted."""
    from madyn.dataset.layout import FITTED_QUANTITIES

    quantity = next((q for q in FITTED_QUANTITIES if any(dataset.has_fits(model, q) for model in dataset)), "ratio")
    tables = fit_tables(dataset, quantity=quantity)
    overall, models = tables["hypotheses"], tables["models"]
    if models:
        columns = ["hypothesis", "mean R2", "worse than a constant", "on an edge", "without a fit"]
        rows = [[one["hypothesis"], one["r2"], one["below_zero"], one["at_edge"], one["failed"]] for one in overall]
        layers = sum(one["layers"] for one in models)
        count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
        print_table(f"fits of the {quantity} in {layers} layers of {count}", columns, rows, left=["hypothesis"])
    if len(models) > 1:
        names = [one["hypothesis"] for one in overall]
        rows = [[one["model"], one["layers"], *(one["r2"].get(name) for name in names)] for one in models]
        print_table(f"mean R2 of the {quantity}'s fits", ["model", "layers", *names], rows, left=["model"], most=_MOST)
    if models:
        console.print(
            "R2 is a mean over the layers that have a fit; the other columns count layers. On an edge: of the box that "
            "is searched, so that the parameters are not at a true optimum."
        )
    for one in overall:
        if one["below_zero"]:
            console.print(
                f"{one['hypothesis']} does not fit {one['below_zero']} of {one['layers']} layers: a constant is "
                "closer, and its parameters there mean nothing",
                style="yellow",
            )
    console.print(f"written: {dataset.path}/*/params/ and {dataset.path}/fitted_param_dataset_reparam.csv")
