"""The obvious picture of each object, which its `plot()` gives: the functions of `pictures`, given what the object has.

An object's room knows nothing of figures; this file is imported when the first picture is asked for (`notebook`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from madyn.errors import ArchitectureError, UsageError
from madyn.figures.steps import curve_steps
from madyn.notebook import pictures

if TYPE_CHECKING:
    from madyn.analysis.comparison import Comparison
    from madyn.architecture import Architecture
    from madyn.control import Control
    from madyn.curves.bayes.posteriors import Posterior
    from madyn.curves.fitting.fits import Fits
    from madyn.dataset import Dataset
    from madyn.effects.study import Study
    from madyn.prediction import Designs, Evaluation, Predictor
    from madyn.typing import Array


@pictures("Dataset")
def of_dataset(dataset: Dataset, model: str | None, quantity: str) -> Figure:
    from madyn.figures.pictures.models import final_ratio, final_ratios
    from madyn.figures.pictures.trajectories import trajectories
    from madyn.figures.source import Source

    if model is None and len(dataset) != 1:
        if not dataset.models:
            raise UsageError("there is no model to draw")
        try:
            return final_ratio(**final_ratios(Source(dataset)))
        except ArchitectureError as e:
            raise ArchitectureError(f"{e}; plot(model) draws one model") from e
    name = dataset.models[0] if model is None else model
    return trajectories(dataset.trajectories(name, quantity), name)


@pictures("Fits")
def of_fits(fits: Fits, index: int | tuple[int, ...] | None) -> Figure:
    from madyn.curves.fitting.identifiability import place_of
    from madyn.figures.pictures.fits import example_fit
    from madyn.figures.pictures.series import series_figure

    shape = fits.success.shape
    names = _names(fits.lead.names(), fits.lead.labels(), shape)
    if not names:
        raise UsageError("there is no series to draw")
    steps = np.broadcast_to(fits.steps, fits.residuals.shape).reshape(len(names), -1)
    if index is not None or not shape:
        place = int(np.arange(len(names)).reshape(shape)[place_of(fits, index) if shape else ()])
        return example_fit(**_one(fits, place, steps[place], names[place]))
    at = curve_steps(steps[np.isfinite(steps)])
    values = np.stack([_seen(fits, place, steps[place]) for place in range(len(names))])
    curve = fits.predict(at).reshape(len(names), -1)
    return series_figure(names, (steps, values), at, curve, title=f"{fits.hypothesis.name}, {fits.method}")


def _seen(fits: Fits, place: int, steps: Array) -> Array:
    """The values of one series, as far as they can be told: of a series without a fit they cannot."""
    residuals = fits.residuals.reshape(-1, steps.size)[place]
    known = np.isfinite(steps)
    curve = np.full(steps.shape, np.nan)
    curve[known] = fits.predict(steps[known]).reshape(-1, int(known.sum()))[place]
    return curve + residuals


def _one(fits: Fits, place: int, steps: Array, name: str) -> dict[str, Any]:
    """The arguments of the picture of an example fit."""
    import xarray as xr

    order = np.argsort(steps, kind="stable")
    order = order[np.isfinite(steps[order])]
    p = fits.hypothesis.num_params
    values = xr.DataArray(
        _seen(fits, place, steps)[order, np.newaxis], {"step": steps[order]}, ("step", "sequence"), "value"
    )
    found = xr.Dataset(
        {
            "popt": (("hypothesis", "parameter"), fits.popt.reshape(-1, p)[place][np.newaxis]),
            "r2": (("hypothesis",), np.ravel(fits.r2)[place : place + 1]),
            "residuals": (
                ("hypothesis", "step"), fits.residuals.reshape(-1, steps.size)[place][np.newaxis, order]
            ),
        },
        {"hypothesis": [fits.hypothesis.name], "parameter": list(fits.hypothesis.param_names)},
    )  # fmt: skip
    return {"values": values, "fits": found, "model": name}


@pictures("Posterior")
def of_posterior(posterior: Posterior, level: float) -> Figure:
    from madyn.figures.pictures.series import series_figure

    names = _names(posterior.lead.names(), posterior.lead.labels(), posterior.shape)
    if not names:
        raise UsageError("there is no series to draw")
    steps, values = posterior.seen
    known = steps[np.isfinite(steps)]
    at = curve_steps(known if posterior.last_step is None else np.append(known, posterior.last_step))
    bands = posterior.value(at, level)
    lower, curve, upper = (bands[name].values.reshape(len(names), -1) for name in ("lower", "median", "upper"))
    return series_figure(
        names,
        (steps, values),
        at,
        curve,
        (lower, upper),
        of="curve, median",
        interval=f"{100 * level:g} % interval",
        title=posterior.hypothesis.name,
    )


@pictures("Predictor")
def of_predictor(predictor: Predictor, architecture: Architecture | None, quantity: str) -> Figure:
    from madyn.figures.pictures.prediction_residuals import prediction_residuals
    from madyn.figures.pictures.series import series_figure
    from madyn.prediction.residuals import residuals

    if architecture is None:
        return prediction_residuals(residuals(predictor, quantity), quantity)
    predicted = predictor.predict(architecture)
    low, middle, high = predicted.transpose("quantile", "layer", "step").values
    names = [f"layer {layer}" for layer in predicted["layer"].values]
    return series_figure(
        names,
        None,
        predicted["step"].values.astype(float),
        middle,
        (low, high),
        label="top 1 / median",
        of="predicted, median of a single run",
        interval="90 % interval",
    )


@pictures("Designs")
def of_designs(designs: Designs) -> Figure:
    from madyn.figures.pictures.designs import designs_figure

    if not len(designs.table):
        raise UsageError("there is no design to draw")
    return designs_figure(designs.table, designs.objective, designs.against)


@pictures("Evaluation")
def of_evaluation(evaluation: Evaluation) -> Figure:
    from madyn.figures.pictures.evaluation import evaluation_figure
    from madyn.prediction.evaluation import LABELS

    return evaluation_figure(evaluation.scores, LABELS)


@pictures("Comparison")
def of_comparison(comparison: Comparison) -> Figure:
    from madyn.figures.pictures.comparison import comparison_figure

    return comparison_figure(comparison.layers, comparison.quantity)


@pictures("Control")
def of_control(control: Control, against_loss: bool) -> Figure:
    from madyn.figures.pictures.control import pareto_figure, remedies_figure

    return (pareto_figure if against_loss else remedies_figure)(control.table)


@pictures("Study")
def of_study(study: Study) -> Figure:
    from madyn.figures.pictures.effects import effect_size_intervals

    if not study.sizes:
        raise UsageError(f"there are no effect sizes to draw: {study.missing.get('effect sizes', 'none were found')}")
    return effect_size_intervals(study.sizes)


def _names(dims: tuple[str, ...], labels: Any, shape: tuple[int, ...]) -> list[str]:
    """What each series is called: the names of the leading axes, with its labels or numbers on them."""
    values = [
        labels[dim][1] if dim in labels and labels[dim][0] == (dim,) else np.arange(size)
        for dim, size in zip(dims, shape, strict=False)
    ]
    if not shape:
        return [""]
    return [
        ", ".join(f"{dim} {values[axis][i]}" for axis, (dim, i) in enumerate(zip(dims, place, strict=False)))
        for place in np.ndindex(*shape)
    ]
