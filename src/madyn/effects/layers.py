"""What a family shows layer by layer: classes of trajectories, what makes the ratio grow, where the largest value sits.

Layers of models of different depth are compared by their place: the first, the last, and those between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from madyn.curves.fitting.fits import fit_curves
from madyn.curves.responses import CLASSES, curve_quantities
from madyn.dataset import Dataset
from madyn.dataset.locations import has_locations, locked_in, read_locations
from madyn.errors import DatasetError
from madyn.terminal import say_wrong

if TYPE_CHECKING:
    import pandas as pd

PLACES = ("first layer", "between", "last layer")

_WELL_FITTED = 0.8  # R2 below which a curve's class is not the series'
NO_CLASS = "not well fitted"
_RESAMPLES = 500


def layer_table(dataset: Dataset) -> pd.DataFrame:
    """One row a model and layer.

    Returns:
        model, layer, layers (of the model), place (one of `PLACES`; the only layer of a model is its last), kind (the
        class of the reparam curve fitted to the ratio, as `curve_quantities` defines it, or "not well fitted" where
        its R2 is below 0.8), r2, the curve's parameters A1, A2, beta, tau0 and K, and the base-2 logarithms of what
        ratio, top 1 and 1 / median were multiplied by from the first step to the last.
    """
    import pandas as pd

    parts = []
    for model in dataset:
        ratio = dataset.trajectories(model, "ratio")
        y = ratio.transpose("layer", "step").values
        fits = fit_curves(ratio["step"].values, y, hypothesis="reparam")
        last = float(ratio["step"][-1])
        noise = dataset.per_sequence(model, "ratio").std("sequence", ddof=1) / np.sqrt(
            max(1, dataset.statistics(model).sizes["sequence"])
        )
        kinds = curve_quantities("reparam", fits.popt, last, noise=np.nan_to_num(noise.mean("step").values))["class"]
        good = np.asarray(fits.r2) >= _WELL_FITTED
        growth = {name: _doublings(dataset, model, name) for name in ("ratio", "top1", "median")}
        layers = len(y)
        parts.append(
            pd.DataFrame(
                {
                    "model": model,
                    "layer": np.arange(layers),
                    "layers": layers,
                    "place": [place_of(layer, layers) for layer in range(layers)],
                    "kind": np.where(good, kinds.values, NO_CLASS),
                    "r2": fits.r2,
                    **dict(zip(fits.hypothesis.param_names, fits.popt.T, strict=True)),
                    "ratio": growth["ratio"],
                    "top1": growth["top1"],
                    "1 / median": -growth["median"],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _doublings(dataset: Dataset, model: str, quantity: str) -> np.ndarray:
    """(layers,), how often a quantity doubled from the first step to the last."""
    values = dataset.trajectories(model, quantity).transpose("step", "layer").values
    return np.log2(values[-1] / values[0])


def place_of(layer: int, layers: int) -> str:
    return PLACES[2] if layer == layers - 1 else PLACES[0] if layer == 0 else PLACES[1]


def class_counts(table: pd.DataFrame) -> pd.DataFrame:
    """How many layers are of each class, a row each of `PLACES`."""
    import pandas as pd

    kinds = [*CLASSES, NO_CLASS]
    place, kind = table["place"].to_numpy(), table["kind"].to_numpy()
    rows = {p: [int(np.sum((place == p) & (kind == k))) for k in kinds] for p in PLACES}
    return pd.DataFrame.from_dict(rows, orient="index", columns=kinds)


def mean_growth(table: pd.DataFrame, architectures: Mapping[str, int], level: float = 0.95) -> pd.DataFrame:
    """What ratio, top 1 and 1 / median were multiplied by over the run (as base-2 logarithms), in the mean.

    The mean is over architectures, each counted once; the interval is Student's.

    Args:
        architectures: by model, as `model_responses` numbers them.

    Returns:
        a row a place and quantity: mean, lower, upper.
    """
    import pandas as pd
    from scipy.stats import t

    groups = np.array([architectures[model] for model in table["model"]])
    rows = []
    for place in PLACES:
        here = (table["place"] == place).to_numpy()
        for quantity in ("ratio", "top1", "1 / median"):
            values = table[quantity].to_numpy(float)
            means = np.array([values[here & (groups == g)].mean() for g in np.unique(groups[here])])
            n = len(means)
            half = float(t.ppf((1 + level) / 2, n - 1) * means.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
            mean = float(means.mean()) if n else np.nan
            rows.append([place, quantity, mean, mean - half, mean + half])
    return pd.DataFrame(rows, columns=["place", "quantity", "mean", "lower", "upper"]).set_index(["place", "quantity"])


def rank_correlations(table: pd.DataFrame, responses: pd.DataFrame, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """The directions in which the published work saw parameters of the curve go, over the well fitted layers.

    It reports that fewer and larger heads raise the plateau K, and that depth times position (l L) raises lam, which in
    the published table is A2 of the reparam curve; lam of the original curve, a decay rate, stands beside it. Intervals
    are those of a bootstrap over architectures.

    Args:
        table: as `layer_table` gives it; `responses`: as `model_responses`.

    Returns:
        a row each pair: parameter, with, said (the sign that was reported), rho (Spearman's), lower, upper, layers.
    """
    import pandas as pd
    from scipy.stats import rankdata

    kept = table.loc[(table["kind"] != NO_CLASS).to_numpy()]
    about = responses.set_index("model").reindex(kept["model"])
    heads, width = about["heads"].to_numpy(float), about["width"].to_numpy(float)
    groups = about["architecture"].to_numpy()
    A1, A2, beta = (kept[name].to_numpy(float) for name in ("A1", "A2", "beta"))
    with np.errstate(all="ignore"):
        decay = np.log(beta) - A2 / A1  # the logarithm of lam = beta / gamma, gamma = exp(A2 / A1)
    position = kept["layer"].to_numpy(float) * kept["layers"].to_numpy(float)
    pairs = [
        ("K", "number of heads", "-", kept["K"].to_numpy(float), heads),
        ("K", "size of a head", "+", kept["K"].to_numpy(float), width / heads),
        ("A2 (the table's param_λ)", "l L", "+", A2, position),
        ("lam of the original curve", "l L", "+", decay, position),
    ]
    rng = np.random.default_rng(seed)
    numbers = np.unique(groups)
    members = {g: np.flatnonzero(groups == g) for g in numbers}
    picks = [np.concatenate([members[g] for g in rng.choice(numbers, len(numbers))]) for _ in range(_RESAMPLES)]
    rows = []
    for parameter, other, said, x, y in pairs:
        fine = np.isfinite(x) & np.isfinite(y)

        def rho(some: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
            with np.errstate(invalid="ignore"):  # a resample in which one of the two does not vary
                return float(np.corrcoef(rankdata(x[some]), rankdata(y[some]))[0, 1])

        drawn = [rho(pick[fine[pick]]) for pick in picks]
        lower, upper = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        rows.append([parameter, other, said, rho(np.flatnonzero(fine)), lower, upper, int(fine.sum())])
    return pd.DataFrame(rows, columns=["parameter", "with", "said", "rho", "lower", "upper", "layers"])


def location_table(dataset: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where the largest value sits over the steps, and since when its coordinate is the last one.

    Returns:
        over the steps, a row a model, layer and step: place, first_position (the share of the sequences whose largest
        value is at position 0) and modal_feature (the share that have it in the most common feature); and a row a model
        and layer: place, last_step, the columns of `locked_in`, and shared_feature, whether the feature is that of the
        model's layer with the largest final ratio.

    Raises:
        DatasetError: a model has no locations, as only what madyn measured has them.
    """
    import pandas as pd

    over, final = [], []
    for model in dataset:
        try:
            found = read_locations(dataset, model)
        except DatasetError as e:
            if not has_locations(dataset, model):
                raise
            say_wrong(f"{model} is left out of the locations: {e}")
            continue
        top = found.sel(rank=1).transpose("step", "layer", "sequence")
        position, feature = top["position"].values, top["feature"].values
        steps, layers = found["step"].values, position.shape[1]
        places = [place_of(layer, layers) for layer in range(layers)]
        first = (position == 0).mean(axis=2)
        modal = np.array([[np.unique(row, return_counts=True)[1].max() for row in at] for at in feature])
        index = pd.MultiIndex.from_product([[model], steps, range(layers)], names=["model", "step", "layer"])
        shares = {"first_position": first.ravel(), "modal_feature": (modal / feature.shape[2]).ravel()}
        over.append(pd.DataFrame({**shares, "place": places * len(steps)}, index=index))
        locked = locked_in(found)
        largest = int(np.argmax(dataset.trajectories(model, "ratio").isel(step=-1).values))
        shared = locked["feature"] == locked["feature"].iloc[largest]
        final.append(
            locked.assign(model=model, place=places, last_step=int(steps[-1]), shared_feature=shared).reset_index()
        )
    if not over:
        raise DatasetError(f"{dataset.path}: no model in it has locations that can be read")
    return pd.concat(over).reset_index(), pd.concat(final, ignore_index=True)
