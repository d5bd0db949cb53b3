"""Which hypothesis describes a dataset best: `compare`, Table 5 of the paper for any dataset, and more.

R2 never falls when a curve gains a parameter, so it cannot choose between hypotheses. AICc and BIC charge for
parameters, under the assumption that residuals are independent; from step to step they are not, which makes Akaike
weights too sure of themselves. The prediction errors at points left out assume nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.curves.fitting.fits import Fits, fit_curves
from madyn.curves.fitting.validation import Scores, holdout_scores, kfold_scores
from madyn.curves.hypotheses.registry import HYPOTHESES, resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.dataset import Dataset, open_dataset
from madyn.dataset.view import RatioOf
from madyn.errors import SeriesError, UsageError
from madyn.notebook import Shown
from madyn.terminal import few, progress_display
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """Hypotheses compared over the layers of a dataset.

    Attributes:
        layers: a row a model, layer and hypothesis: r2, aicc, bic; aicc_above_best, the AICc above the layer's least,
            and akaike_weight, exp(-aicc_above_best / 2) as a share of the layer's sum (nan for a hypothesis that is not
            ranked); best, whether its AICc is the least; kfold_error and last20_error, as `kfold_scores` and
            `holdout_scores` define them; at_edge, whether the optimum lies on an edge of the search's box; message.
        quantity: that was fitted.
        not_ranked: why a hypothesis takes no part in wins and weights, by its name.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> one = data.models[0]
    >>> comparison = madyn.compare(data, models=[one], hypotheses=["step1", "reparam"])
    >>> comparison.hypotheses
    ['step1', 'reparam']
    >>> len(comparison.to_dataframe()), list(comparison.by_model.columns[:3])
    (4, ['model', 'hypothesis', 'layers'])
    >>> comparison.plot().axes[0].get_title() is not None
    True
    """

    layers: pd.DataFrame
    quantity: str
    not_ranked: dict[str, str]

    def __repr__(self) -> str:
        names = self.hypotheses
        count = len(self.layers) // max(1, len(names))
        return (
            f"<madyn Comparison of the {self.quantity}: {count} layers of {len(set(self.layers['model']))} models\n "
            f"{few(names, 8)}\n overall, by_model, layers: tables>"
        )

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        table = self.overall
        return table.head(most), len(table)

    def to_dataframe(self) -> pd.DataFrame:
        """The scores in long form: a row a model, layer and hypothesis. The frame is the caller's own."""
        return self.layers.copy()

    def plot(self) -> Figure:
        """A row a hypothesis: what it leaves unexplained, how it predicts, and its Akaike weight, by model and over all
        layers."""
        return self._drawn()

    @property
    def hypotheses(self) -> list[str]:
        """The names of what was compared, in the order that was asked for."""
        return list(dict.fromkeys(self.layers["hypothesis"]))

    @property
    def by_model(self) -> pd.DataFrame:
        """A row a model and hypothesis: layers; mean r2, aicc, bic, aicc_above_best and akaike_weight; wins, the number
        of layers in which it is best; median kfold_error and last20_error; failed, the layers without a fit.

        Errors are summed up by their medians, because one extrapolation that runs away would decide a mean.
        """
        return self._summed(["model", "hypothesis"])

    @property
    def overall(self) -> pd.DataFrame:
        """The same over all layers of all models, a row a hypothesis."""
        return self._summed(["hypothesis"])

    def _summed(self, by: list[str]) -> pd.DataFrame:
        table = self.layers.assign(failed=self.layers["r2"].isna())
        groups = table.groupby(by, sort=False)
        summed = groups.agg(
            layers=("layer", "size"),
            r2=("r2", "mean"),
            aicc=("aicc", "mean"),
            bic=("bic", "mean"),
            aicc_above_best=("aicc_above_best", "mean"),
            akaike_weight=("akaike_weight", "mean"),
            wins=("best", "sum"),
            kfold_error=("kfold_error", "median"),
            last20_error=("last20_error", "median"),
            failed=("failed", "sum"),
        )
        return summed.reset_index()


def compare(
    dataset: str | Path | Dataset,
    *,
    hypotheses: Iterable[str | SeparableModel] | None = None,
    models: str | Iterable[str] | None = None,
    quantity: str = "ratio",
    ratio_of: RatioOf = "sequences",
) -> Comparison:
    """Fit every hypothesis to every layer, each point also held out once, and compare.

    A hypothesis that is another one in other parameters (original is reparam) counts once, and the regularised forms,
    which minimise another criterion than the RSS, are shown but not ranked.

    Args:
        dataset: a dataset, or its folder, or a dataset of the Hub.
        hypotheses: names in `HYPOTHESES`, or curves of your own; all that are built in by default.
        models: directory names; all by default.
        quantity: ratio, top1, top2, top3 or median.
        ratio_of: which mean the ratio is, as in `Dataset.trajectories`.

    Raises:
        DatasetError: no such dataset, or statistics that are malformed.
        SeriesError: no hypothesis could be fitted to any layer.
        UsageError: an unknown hypothesis, model or quantity.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> comparison = madyn.compare(data, models=data.models[:1], hypotheses=["step1", "reparam"])
    >>> comparison.overall[["hypothesis", "layers", "wins"]].values.tolist()
    [['step1', 2, 0], ['reparam', 2, 2]]
    """
    import pandas as pd

    chosen = resolve(list(HYPOTHESES) if hypotheses is None else hypotheses)
    if len({hypothesis.name for hypothesis in chosen}) < len(chosen):
        raise UsageError(f"two hypotheses have one name: {', '.join(hypothesis.name for hypothesis in chosen)}")
    dataset = open_dataset(dataset)
    dataset = dataset if models is None else dataset.select(models)
    dataset = dataset.sound()
    not_ranked = _not_ranked(chosen)
    tables: list[pd.DataFrame] = []
    alike = _sharing_steps(dataset, quantity, ratio_of)
    with progress_display() as progress:
        bar = progress.add_task("comparing", total=len(alike) * len(chosen))
        for steps, rows, values in alike:
            scored: dict[str, pd.DataFrame] = {}
            for hypothesis in sorted(chosen, key=_same_as):  # one that is another's in disguise comes after it
                progress.update(bar, description=f"comparing {hypothesis.name}")
                scored[hypothesis.name] = _scored(rows, steps, values, hypothesis, scored.get(_same_as(hypothesis)))
                progress.advance(bar)
            tables.append(
                _ranked(pd.concat([scored[hypothesis.name] for hypothesis in chosen], ignore_index=True), not_ranked)
            )
    layers = pd.concat(tables, ignore_index=True)
    order = pd.Series({name: place for place, name in enumerate(dataset.models)})
    layers = layers.sort_values("model", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    if not np.isfinite(layers["r2"].to_numpy()).any():
        raise SeriesError(f"{dataset.path}: no hypothesis could be fitted: {layers['message'].iloc[0]}")
    return Comparison(layers, quantity, not_ranked)


def _sharing_steps(dataset: Dataset, quantity: str, ratio_of: RatioOf) -> list[tuple[Array, pd.DataFrame, Array]]:
    """(steps (n,), a row a series with its model and layer, values (S, n)) of the models with the same steps, which
    are fitted in one call."""
    import pandas as pd

    groups: dict[tuple[int, ...], list[str]] = {}
    for name in dataset.models:
        groups.setdefault(tuple(dataset.steps(name)), []).append(name)
    groups_of_series = []
    for steps, names in groups.items():
        series = {name: dataset.trajectories(name, quantity, ratio_of).transpose("layer", "step") for name in names}
        rows = pd.DataFrame([(name, int(layer)) for name, one in series.items() for layer in one["layer"].values])
        values = np.concatenate([one.values for one in series.values()])
        groups_of_series.append((np.array(steps, float), rows.set_axis(["model", "layer"], axis=1), values))
    return groups_of_series


def _same_as(hypothesis: SeparableModel) -> str:
    """The hypothesis of which this is another parametrisation; "" for one that is its own."""
    return hypothesis.same_as or ""


def _not_ranked(chosen: list[SeparableModel]) -> dict[str, str]:
    names = {hypothesis.name for hypothesis in chosen}
    reasons = {}
    for hypothesis in chosen:
        if _same_as(hypothesis) in names:
            reasons[hypothesis.name] = f"the same curves as {_same_as(hypothesis)}"
        elif hypothesis.penalty is not None:
            reasons[hypothesis.name] = "minimises a penalised sum of squares"
    return reasons


def _scored(
    rows: pd.DataFrame, steps: Array, values: Array, hypothesis: SeparableModel, same: pd.DataFrame | None
) -> pd.DataFrame:
    """The rows with the scores of their series. Where `same`, the scores of the same curves in other parameters, is
    there, its errors hold."""
    fits = fit_curves(steps, values, hypothesis)
    if same is None:
        kfold, last20 = kfold_scores(steps, values, hypothesis), holdout_scores(steps, values, hypothesis)
    else:
        kfold, last20 = (Scores(same[column].to_numpy(), fits.message) for column in ("kfold_error", "last20_error"))
    return rows.assign(
        hypothesis=hypothesis.name,
        r2=fits.r2,
        aicc=fits.aicc,
        bic=fits.bic,
        kfold_error=kfold.error,
        last20_error=last20.error,
        at_edge=np.any(fits.at_edge, axis=-1),
        message=[_message(fits, kfold, last20, i) for i in range(len(values))],
    )


def _message(fits: Fits, kfold: Scores, last20: Scores, i: int) -> str:
    """What to know of a series' fit, and why an error could not be told where the fit itself could."""
    said = [str(fits.message[i])]
    if fits.success[i]:
        said += [
            f"{what}: {scores.message[i]}"
            for what, scores in (("K-fold", kfold), ("last 20 %", last20))
            if np.isnan(scores.error[i]) and scores.message[i]
        ]
    return "; ".join(part for part in said if part)


def _ranked(table: pd.DataFrame, not_ranked: dict[str, str]) -> pd.DataFrame:
    """With the AICc above the least in each layer, Akaike weights and the best; hypotheses not ranked have none."""
    aicc = table["aicc"].where(~table["hypothesis"].isin(list(not_ranked)))
    layer = [table["model"], table["layer"]]
    above = aicc - aicc.groupby(layer).transform("min")
    likelihood = (-above / 2).apply(np.exp)
    place = list(table.columns).index("kfold_error")
    table.insert(place, "aicc_above_best", above)
    table.insert(place + 1, "akaike_weight", likelihood / likelihood.groupby(layer).transform("sum"))
    table.insert(place + 2, "best", above == 0)
    return table
