"""What each layer of a run will do for the rest of it, from a dataset: `forecast`.

Only what was measured up to a step is looked at. The other models of the dataset, if enough of them are finished, say
what runs are like (`prior="learn"`); the model itself is never among them. Their time is taken as a share of their own
length, so that runs of other lengths count too. A prior that was learned is kept for the next forecast (`kept`). Where
there are too few, the runs that madyn was made with say it (`shipped_prior`), and what they say is no curve.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from madyn.analysis.kept import learned_once
from madyn.analysis.shipped_prior import SHIPPED, shipped_population
from madyn.arrays import number, read_row
from madyn.curves.bayes.learning import FEWEST, learn_prior
from madyn.curves.bayes.levels import thresholds_of
from madyn.curves.bayes.posteriors import Posterior, posterior
from madyn.curves.bayes.priors import Prior, curve_of
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.population.courses import CURVE
from madyn.curves.population.outlook import Outlook, any_exceeds, look_ahead
from madyn.curves.population.populations import Population
from madyn.dataset import Dataset, open_dataset
from madyn.dataset.view import RatioOf
from madyn.errors import SeriesError, UsageError
from madyn.labels import describe, interval
from madyn.typing import Array

if TYPE_CHECKING:
    import xarray as xr


AHEAD = 12  # steps forecast where the dataset has none later
_AS_FAR = 0.9

Chosen = Literal["learn", "tiny-suite", "default"]

THRESHOLDS = {"ratio": (100.0, 1000.0)}
"""That a quantity may pass; of those that are not here, a thousand and the largest number of float16."""

_OTHERS = (1000.0, 65504.0)


def forecast(
    dataset: str | Path | Dataset,
    model: str,
    at: float,
    *,
    quantity: str = "ratio",
    ratio_of: RatioOf = "sequences",
    hypothesis: str | SeparableModel = "reparam",
    prior: Chosen | Prior | Population | None = None,
    last_step: float | None = None,
    level: float = 0.9,
    steps: ArrayLike | None = None,
    thresholds: ArrayLike | None = None,
) -> xr.Dataset:
    """Forecast every layer of a model from what was measured up to step `at`.

    With a prior over curves, each layer's trajectory up to there gives a posterior of the curve, and the bands are what
    the curve and its noise may do later. With the prior that comes with madyn, they are what a population of runs does
    after having gone as this one has.

    Args:
        dataset: a dataset, or its folder, or a dataset of the Hub.
        model: its directory's name.
        at: the last step that may be looked at.
        quantity: ratio, top1, top2, top3 or median.
        ratio_of: which mean the ratio is, as in `Dataset.trajectories`.
        hypothesis: the curve.
        prior: "learn" from the dataset's other models that are finished, at least four; "tiny-suite", what comes with
            madyn, learned from that dataset and from runs of other recipes; "default", the wide one, for any curve; or
            one made by hand. By default "learn" where that can be done, else "tiny-suite", or "default" for another
            hypothesis than reparam.
        last_step: of the run, as planned; by default the last step of this model, or of the others if that is later.
        level: the probability of each band.
        steps: to forecast, each after `at` and up to the last one; by default those that the dataset has, or twelve.
        thresholds: (T,), above 0, that layers may pass; by default 100 and 1000 for the ratio, 1000 and 65504 (the
            largest number of float16) for the other quantities.

    Returns:
        `median`, `lower` and `upper` of what will be measured, none below 0, dims (layer, step); `measured` (layer,
        step), what was measured there, nan where nothing was; `seen` (layer, seen_step); `peak_step`, `peak_height` and
        `plateau` (layer, bound), bound being median, lower and upper; `peak_inside` and `peak_ahead` (layer),
        probabilities that the curve's maximum lies inside the run, and that it is still to come; `exceed` (layer,
        threshold), the probability that the layer is measured above a threshold in this run, 1 where it has been;
        `exceed_any` (threshold), that any layer is; `message` (layer). Attributes: model, quantity, at, last_step,
        level, prior.

    Raises:
        DatasetError: there is no such dataset.
        SeriesError: fewer than two steps were measured up to `at`, or "learn" finds fewer than four finished runs.
        UsageError: `at` is not before the last step, or an unknown model, quantity, hypothesis or prior.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> ahead = madyn.forecast(data, data.models[0], at=1000, prior="tiny-suite", steps=[2000, 3000])
    >>> ahead["median"].dims, bool((ahead["lower"] <= ahead["upper"]).all())
    (('layer', 'step'), True)
    """
    at = number(at, "at")
    last_step = None if last_step is None else number(last_step, "the last step")
    dataset = open_dataset(dataset)
    dataset.select(model)
    series = dataset.trajectories(model, quantity, ratio_of)
    known = series["step"].values.astype(float)
    end = _end(dataset, known) if last_step is None else last_step
    if not at < end:
        raise UsageError(f"at is step {at:g}, and the run's last step is {end:g}: nothing is left to forecast")
    seen = known <= at
    if np.sum(seen) < 2:
        raise SeriesError(f"{model} has {np.sum(seen)} measured steps up to step {at:g}; a forecast needs 2")
    values = series.transpose("layer", "step").values
    ahead = _ahead(known, at, end) if steps is None else _given(steps, at, end)
    curve = curve_of(hypothesis)
    chosen, source = _prior(dataset, model, quantity, ratio_of, curve, prior, at, end)
    if isinstance(chosen, Population):
        fitted = look_ahead(chosen, known[seen], values[:, seen], end)
    else:  # No quantity of a dataset can be below 0, whatever the prior was made for.
        fitted = posterior(known[seen], values[:, seen], hypothesis, replace(chosen, positive=True), end)
    measured = np.full((len(values), ahead.size), np.nan)
    measured[:, np.isin(ahead, known)] = values[:, np.isin(known, ahead)]
    attrs = {"model": model, "quantity": quantity, "at": at, "last_step": end, "level": level, "prior": source}
    found = _labelled(fitted, known[seen], values[:, seen], ahead, measured, level, attrs)
    passed = THRESHOLDS.get(quantity, _OTHERS) if thresholds is None else thresholds_of(thresholds)
    every = np.unique(np.concatenate([ahead, np.linspace(at, end, AHEAD + 1)[1:]]))
    return found.merge(_exceeding(fitted, values[:, seen], np.asarray(passed, float), every, quantity))


def _ahead(known: Array, at: float, end: float) -> Array:
    """The steps to forecast where none are asked for: those that were measured later, or some up to the last one."""
    later = known[(known > at) & (known <= end)]
    return later if later.size else np.linspace(known[known <= at][-1], end, AHEAD + 1)[1:]


def _given(steps: ArrayLike, at: float, end: float) -> Array:
    """The steps to forecast as they are asked for, ascending. Raises UsageError for one that is seen, or too late."""
    ahead = np.unique(read_row(steps, "steps"))
    if not ahead.size or not np.all((ahead > at) & (ahead <= end)):
        raise UsageError(f"the steps to forecast lie after step {at:g} and up to the last one, {end:g}")
    return ahead


def _end(dataset: Dataset, steps: Array) -> float:
    """The last step of the run: this model's, or that of the longest of the others."""
    return float(max([steps[-1], *(dataset.steps(name)[-1] for name in dataset.models if dataset.steps(name))]))


def _prior(
    dataset: Dataset, model: str, quantity: str, ratio_of: RatioOf, curve: SeparableModel,
    prior: Chosen | Prior | Population | None, at: float, end: float,
) -> tuple[Prior | Population, str]:  # fmt: skip
    if isinstance(prior, Prior):
        return prior, prior.source
    if prior == SHIPPED:
        prior = shipped_population(quantity)
    if isinstance(prior, Population):
        if curve is not CURVE:
            raise UsageError(f"this prior is no curve, and peaks are read off {CURVE.name}: not off {curve.name}")
        return prior, prior.source
    if prior not in (None, "learn", "default"):
        raise UsageError(f"unknown prior {prior!r}; it is 'learn', '{SHIPPED}', 'default' or a Prior")
    if prior == "default":
        return Prior.default(curve), "default"
    runs = finished_runs(dataset, quantity, ratio_of, end, without=model)
    others = len(set(runs[2]))
    if others < FEWEST and prior is None:
        count = f"only {others}" if others else "no"
        few = f"as {count} other {'run is' if others < 2 else 'runs are'} finished"
        if curve is not CURVE:
            return Prior.default(curve), f"default, {few} and no prior comes with madyn for {curve.name}"
        shipped = shipped_population(quantity)
        return shipped, f"{shipped.source}, {few}"
    t, y, names = runs
    learned = learned_once(
        lambda: learn_prior(t, y, curve, names, seen=at, last_step=end, positive=True),
        curve, (t, y, np.array(names)), {"seen": at, "last_step": end, "positive": True},
    )  # fmt: skip
    return learned, learned.source


def finished_runs(
    dataset: Dataset, quantity: str, ratio_of: RatioOf, end: float, without: str = ""
) -> tuple[Array, Array, list[str]]:
    """Trajectories of the finished models, their steps scaled so that each one's last is `end`.

    A model counts as finished if it got to step `end`, or about as far as the longest of them.

    Returns:
        (t (S, n), y (S, n), run (S,)); nan in y where a run has fewer steps.
    """
    dataset = dataset.sound()
    last = {name: dataset.steps(name)[-1] for name in dataset.models if name != without and dataset.steps(name)}
    enough = min(end, _AS_FAR * max(last.values(), default=0))
    t: list[Array] = []
    y: list[Array] = []
    runs: list[str] = []
    for name, own_last in last.items():
        if own_last < enough:
            continue
        series = dataset.trajectories(name, quantity, ratio_of)
        own = series["step"].values.astype(float)
        for values in series.transpose("layer", "step").values:
            t.append(own * (end / own[-1]))
            y.append(values)
            runs.append(name)
    if not runs:
        return np.empty((0, 0)), np.empty((0, 0)), runs
    width = max(row.size for row in t)
    steps, values = (
        np.array([np.pad(row, (0, width - row.size), constant_values=fill) for row in rows])
        for rows, fill in ((t, end), (y, np.nan))
    )
    return steps, values, runs


def _labelled(
    fitted: Posterior | Outlook,
    steps: Array,
    values: Array,
    ahead: Array,
    measured: Array,
    level: float,
    attrs: dict[str, Any],
) -> xr.Dataset:
    import xarray as xr

    bounds = ["median", "lower", "upper"]
    bands = fitted.forecast(ahead, level)
    variables: dict[str, Any] = {name: (("layer", "step"), bands[name].values) for name in bounds}
    variables["measured"] = (("layer", "step"), measured)
    variables["seen"] = (("layer", "seen_step"), values)
    if isinstance(fitted, Outlook) or fitted.prior.hypothesis.peak is not None:
        peak = fitted.peak(level)
        for name in ("step", "height"):
            by_bound = np.stack([peak[bound].sel(quantity=name).values for bound in bounds], axis=-1)
            variables[f"peak_{name}"] = (("layer", "bound"), by_bound)
        variables |= {f"peak_{name}": ("layer", peak[name].values) for name in ("inside", "ahead")}
    if fitted.hypothesis.has_limit:
        plateau = fitted.plateau(level)
        variables["plateau"] = (("layer", "bound"), np.stack([plateau[bound].values for bound in bounds], axis=-1))
    variables["message"] = ("layer", fitted.message.astype(str))
    coords = {"layer": np.arange(len(values)), "step": ahead, "seen_step": steps, "bound": bounds}
    # Quantities of a dataset have no unit, nor what is read off their curves.
    none = {"peak_height": ("height of the peak", "1"), "plateau": ("what the curve tends to", "1")}
    return describe(
        xr.Dataset(variables, coords=coords, attrs=attrs), {**interval("what will be measured", "1"), **none}
    )


def _exceeding(fitted: Posterior | Outlook, seen: Array, thresholds: Array, steps: Array, quantity: str) -> xr.Dataset:
    """The probabilities to pass thresholds, of each layer and of any."""
    import xarray as xr

    chances = fitted.exceed(thresholds, steps)
    highest = np.max(np.where(np.isfinite(seen), seen, -np.inf), axis=1, initial=-np.inf)
    chances = np.where(highest[:, np.newaxis] > thresholds, 1.0, chances)
    together = shipped_population(quantity).together
    found = {"exceed": (("layer", "threshold"), chances), "exceed_any": ("threshold", any_exceeds(chances, together))}
    return describe(xr.Dataset(found, coords={"threshold": thresholds}))
