"""What commands say when they are done: tables for a terminal, the same text without colours for a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from madyn.dataset.checking import failures_of, missing_units
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from madyn.curves.comparison import Comparison
    from madyn.dataset import Dataset
    from madyn.figures.draw import Drawing
    from madyn.sweep import ModelCost, TraceReport


def print_scan(table: pd.DataFrame, title: str) -> None:
    from madyn.sweep.scanning import MASSIVE_RATIO, MASSIVE_VALUE

    rows = [
        [layer, *{**row, "token": repr(row["token"]), "massive": bool(row["massive"])}.values()]
        for layer, row in zip(table.index, table.to_dict("records"), strict=True)
    ]
    print_table(title, ["layer", *table.columns], rows, left=["token"])
    massive = [layer for layer, yes in zip(table.index, table["massive"], strict=True) if yes]
    where = f"in layers {_ranges(massive)}" if massive else "in no layer"
    console.print(
        f"massive (above {MASSIVE_VALUE} and at least {MASSIVE_RATIO} times the median): {where}. Position, token and "
        "feature are those of the largest value of all sequences, counted from 0."
    )


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] as 1-3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(str(end) for end in run) for run in runs)


def print_trace(report: TraceReport) -> None:
    failed = f", {len(report.failures)} failed (see madyn show {report.path})" if report.failures else ""
    console.print(f"{report.path}: {len(report.measured)} measured, {len(report.already)} already there{failed}")


def print_fits(dataset: Dataset) -> None:
    """Mean R2 by hypothesis and model, over the layers that have a fit, for the ratio or what was fitted of it."""
    import pandas as pd

    rows, every = [], []
    hypotheses: list[str] = []
    for model in dataset:
        fits = dataset.fits(model, "ratio") if _has_fits(dataset, model, "ratio") else None
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


def _has_fits(dataset: Dataset, model: str, quantity: str) -> bool:
    from madyn.errors import DatasetError

    try:
        dataset.fit_records(model, quantity)
    except DatasetError:
        return False
    return True


def print_comparison(comparison: Comparison) -> None:
    """Table 5 of the paper for any dataset: all layers together, then the scores by model."""
    overall, by_model = comparison.overall, comparison.by_model
    columns = [str(name) for name in overall.columns]
    rows = overall.to_numpy().tolist()
    layers = len(comparison.layers) // len(overall)
    title = f"{comparison.quantity}: {layers} layers of {by_model['model'].nunique()} models"
    print_table(title, [_HEADINGS.get(name, name) for name in columns], rows, left=["hypothesis"])
    for score, heading in _HEADINGS.items():
        table = by_model.set_index(["model", "hypothesis"])[score].unstack(sort=False)
        rows = [[model, *values] for model, values in zip(table.index, table.to_numpy(), strict=True)]
        print_table(f"{heading} by model", ["model", *map(str, table.columns)], rows, left=["model"])
    for name, reason in comparison.not_ranked.items():
        console.print(f"{name}: {reason}; not counted in wins and weights")
    console.print(
        "R2, AICc, BIC and weights are means over the layers that have a fit, errors are medians. The errors are root "
        "mean squares at points left out (one in five in turn; the last 20 %), as shares of the series' standard "
        "deviation: 1 is as bad as the mean. AICc and weights take residuals for independent, which they are not from "
        "step to step: trust the errors first."
    )
    edges = comparison.layers["at_edge"].tolist().count(True)
    if edges:
        console.print(f"{edges} fits lie on an edge of their box; failures and remarks are in the file's last column")


_HEADINGS = {
    "r2": "R2",
    "aicc": "AICc",
    "bic": "BIC",
    "wins": "wins",
    "akaike_weight": "Akaike weight",
    "kfold_error": "K-fold error",
    "last20_error": "last-20 % error",
}


def print_drawing(drawing: Drawing) -> None:
    console.print(f"{len(drawing.drawn)} figures drawn, {len(drawing.unchanged)} unchanged")
    for name, reason in {**drawing.left_out, **drawing.failed}.items():
        console.print(f"not drawn: {name}: {reason}")


def print_forecast(forecast: xr.Dataset) -> None:
    """What each layer will do: where it is, where it will be half-way and at the end, its peak and its plateau."""
    about, steps = forecast.attrs, forecast["step"].values
    shown = sorted({len(steps) // 2, len(steps) - 1})
    rows = []
    for layer in forecast["layer"].values:
        one = forecast.sel(layer=layer)
        seen = one["seen"].values[~one["seen"].isnull().values]
        bands = [band(*(one[name].values[i] for name in ("median", "lower", "upper"))) for i in shown]
        extra = []
        if "peak_inside" in one:
            chance = one["peak_inside"].item()
            extra = [f"{100 * chance:.0f} %" if chance == chance else "-", band(*one["peak_step"].values)]
        if "plateau" in one:
            extra.append(band(*one["plateau"].values, known=_DETERMINED * abs(seen[-1]) if seen.size else 0.0))
        rows.append([layer, seen[-1] if seen.size else None, *bands, *extra])
    columns = ["layer", f"seen at {forecast['seen_step'].values[-1]:g}", *(f"step {steps[i]:g}" for i in shown)]
    columns += ["peak inside", "at step"] if "peak_inside" in forecast else []
    columns += ["plateau"] if "plateau" in forecast else []
    title = f"{about['model']}, {about['quantity']}: steps {about['at']:g} to {about['last_step']:g}"
    print_table(title, columns, rows)
    console.print(
        f"median ({100 * about['level']:g} % band); prior: {about['prior']}. The peak's step is given that the curve's "
        "maximum lies inside the run; the plateau is what the curve tends to long after it."
    )
    known = forecast["measured"].notnull()
    if bool(known.any()):
        inside = (forecast["measured"] >= forecast["lower"]) & (forecast["measured"] <= forecast["upper"])
        console.print(f"measured later: {int((inside & known).sum())} of {int(known.sum())} points lie in their bands")
    for layer, message in zip(forecast["layer"].values, forecast["message"].values, strict=True):
        if message:
            console.print(f"layer {layer}: {message}", style="yellow")


_DETERMINED = 20.0  # an interval wider than this many times the value seen says nothing


def band(median: float, lower: float, upper: float, known: float = float("inf")) -> str:
    """A value with its interval, to the digits that the interval's width bears out: 12.3 (10.1 to 14.9)."""
    import math

    if median != median:
        return "-"
    width = upper - lower
    if width > known:
        return "not determined"
    digits = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 3
    return f"{median:,.{digits}f} ({lower:,.{digits}f} to {upper:,.{digits}f})"


def print_locations(dataset: Dataset) -> None:
    """Where the largest value of each layer stands, and at which step it locked in."""
    from madyn.dataset.locations import locked_in, read_locations

    for model in dataset:
        found = read_locations(dataset, model)
        table = locked_in(found)
        rows = [
            [layer, row["feature"], f"{100 * row['feature_share']:.0f} %", row["position"],
             f"{100 * row['position_share']:.0f} %", row["locked_in_step"]]
            for layer, row in zip(table.index, table.to_dict("records"), strict=True)
        ]  # fmt: skip
        steps = found["step"].values
        print_table(
            f"{model}: the largest value at step {steps[-1]}",
            ["layer", "feature", "of sequences", "position", "of sequences", "locked in at step"],
            rows,
        )
    console.print("locked in: from that step on, most sequences have their largest value in that feature")


def print_costs(costs: Sequence[ModelCost]) -> None:
    """What a sweep will take, a row a model and the sum."""
    columns = ["model", "checkpoints", "to measure", "download GB", "disk GB", "time", "memory GB", ""]
    rows = [
        [c.model, c.checkpoints, c.left, c.download / 1e9, c.disk / 1e9,
         duration(c.seconds), None if c.memory is None else c.memory / 1e9,
         "streamed" if c.streamed else c.note]
        for c in costs
    ]  # fmt: skip
    if len(costs) > 1:
        known = [c.seconds for c in costs if c.seconds is not None]
        rows.append(
            ["all", sum(c.checkpoints for c in costs), sum(c.left for c in costs), sum(c.download for c in costs) / 1e9,
             sum(c.disk for c in costs) / 1e9, duration(sum(known)), max((c.memory or 0) for c in costs) / 1e9, ""]
        )  # fmt: skip
    print_table("the sweep", columns, rows, left=["model", ""])
    console.print(
        "the time is of computing on this machine, from a calibration with one and two layers; the next checkpoint "
        "downloads meanwhile, so that the sweep takes the longer of the two. Nothing was downloaded but configs."
    )


def duration(seconds: float | None) -> str:
    """Seconds for a reader: 8 s, 12 min, 3.5 h."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def print_contents(dataset: Dataset) -> None:
    """What is in a dataset, a row a model, and what is missing: failures, units cut short, steps of a known grid."""
    from madyn.dataset.layout import FITTED_QUANTITIES, manifest_models
    from madyn.errors import MadynError

    rows, remarks = [], []
    for model in dataset:
        missing = missing_units(dataset, model)
        try:
            statistics = dataset.statistics(model)
            last = dataset.trajectories(model, "ratio").isel(step=-1)
            largest = [float(last.max()), int(last.values.argmax())]
            shape = [statistics.sizes["layer"], statistics.sizes["sequence"], *largest]
        except MadynError as e:
            shape = [None, None, None, None]
            missing.append(str(e))
        steps = dataset.steps(model)
        fitted = [q for q in FITTED_QUANTITIES if _has_fits(dataset, model, q)]
        span = f"{steps[0]}..{steps[-1]}" if steps else "-"
        complete = "no" if missing else "yes"
        rows.append([model, *shape[:2], len(steps), span, complete, *shape[2:], ", ".join(fitted) or "no"])
        remarks += missing
    for model in manifest_models(dataset.path):
        if model not in dataset.models:
            rows.append([model, None, None, 0, "-", "no", None, None, "no"])
            remarks += failures_of(dataset.path, model)
    columns = ["model", "layers", "sequences", "steps", "from..to", "complete", "last ratio", "at layer", "fitted"]
    print_table(str(dataset.path), columns, rows, left=["model", "fitted"])
    for remark in remarks:
        console.print(remark, style="red")
