"""What a report says of a dataset: each part's pictures, tables, and one sentence on what they show here.

A part that cannot be made (no locations, too few models to predict from) says why in its place: a report of anything
that `open_dataset` opens is whole. What is drawn is measured, fitted or computed from the statistics; nothing is run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import Dataset
from madyn.dataset.layout import FITTED_QUANTITIES
from madyn.dataset.locations import locked_in, read_locations
from madyn.errors import MadynError, reason_of
from madyn.figures.source import Source
from madyn.quantization import estimate_dataset, worst_layers
from madyn.report import charts
from madyn.report.reading import ENOUGH_STEPS, LEVEL, fitted_bands, peak_table, words
from madyn.summaries import dataset_contents
from madyn.terminal import counted, note, progress_display

if TYPE_CHECKING:
    import xarray as xr
    from plotly.graph_objects import Figure


@dataclass
class Table:
    """Rows for a reader. Cells are numbers, words, or None for what is not known."""

    columns: list[str]
    rows: list[list[Any]]
    download: str = ""  # the name of the CSV file that it may be saved as


@dataclass
class Part:
    """One part of a report.

    Attributes:
        key: by which the page refers to it.
        says: what it shows in this dataset, in a sentence or two; why it is empty, where it is.
        charts: by name; of several the page shows one at a time.
        names: what each chart is called in the list that a reader chooses from.
    """

    key: str
    title: str
    says: str
    charts: dict[str, Figure] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def dataset_parts(dataset: Dataset) -> list[Part]:
    """All parts of a report of a dataset, in the order of the page.

    Raises:
        DatasetError: it has no model that can be read.
    """
    dataset = dataset.select(Source(dataset).models).sound()  # small models first
    makers: dict[str, tuple[str, Callable[[Dataset], Part]]] = {
        "overview": ("Overview", _overview),
        "trajectories": ("Trajectories", _trajectories),
        "peaks": ("Peaks", _peaks),
        "hypotheses": ("Hypotheses", _hypotheses),
        "parameters": ("Parameters", _parameters),
        "prediction": ("Prediction", _prediction),
        "locations": ("Where the values sit", _locations),
        "quantization": ("What quantization costs", _quantization),
        "provenance": ("Provenance", _provenance),
    }
    parts = []
    with progress_display() as progress:
        for key, (title, make) in progress.track(list(makers.items()), description="making the report"):
            try:
                parts.append(make(dataset))
            except MadynError as e:
                reason = reason_of(e).replace(f"{dataset.path}/", "")  # where it lies is nobody's business
                parts.append(Part(key, title, f"Not in this report: {reason}."))
                note(f"{title}: {e}")
    return parts


def _overview(dataset: Dataset) -> Part:
    models = dataset_contents(dataset)["models"]
    rows = []
    for one in models:
        steps = one["steps"]
        massive = one["massive"] or {}
        rows.append(
            [one["model"], _parameter_count(dataset, one["model"]), one["layers"], one["sequences"], len(steps),
             f"{steps[0]:,} to {steps[-1]:,}" if steps else None, one["largest_ratio"], one["in_layer"],
             None if massive.get("published") is None else len(massive["published"]),
             "yes" if one["complete"] else "no"]
        )  # fmt: skip
    columns = [
        "model", "parameters", "layers", "sequences", "steps measured", "from, to", "last ratio", "in layer",
        "massive layers", "complete",
    ]  # fmt: skip
    known = [one for one in models if one["largest_ratio"] is not None]
    most = max(known, key=lambda one: one["largest_ratio"], default=None)
    missing = [said for one in models for said in one["missing"]]
    says = f"{counted(len(models), 'model')}, {counted(sum(o['layers'] or 0 for o in models), 'layer')}. "
    if most is not None:
        says += (
            f"At its last step {most['model']} has the largest ratio of all: {words(most['largest_ratio'])} times the "
            f"median in layer {most['in_layer']}. "
        )
    says += f"{counted(len(missing), 'thing')} missing or damaged, listed below." if missing else "Nothing is missing."
    part = Part("overview", "Overview", says, tables=[Table(columns, rows, "models.csv")], notes=missing[:_MOST_NOTES])
    if len(missing) > _MOST_NOTES:
        part.notes.append(f"... and {len(missing) - _MOST_NOTES:,} more: see madyn check")
    return part


_MOST_NOTES = 30


def _parameter_count(dataset: Dataset, model: str) -> int | None:
    try:
        return dataset.parameter_count(model)
    except MadynError:
        return None


def _trajectories(dataset: Dataset) -> Part:
    found, names, grown = {}, {}, []
    for model in dataset:
        for quantity in FITTED_QUANTITIES:
            values = dataset.trajectories(model, quantity)
            key = f"{model}/{quantity}"
            found[key] = charts.trajectories(values, fitted_bands(values))
            names[key] = f"{model}: {charts.QUANTITY_TITLES[quantity]}"
        ratio = dataset.trajectories(model, "ratio").max("layer")
        grown.append((float(ratio[-1] / ratio[0]), model))
    factor, model = max(grown, key=lambda one: (math.isfinite(one[0]), one[0]))
    says = (
        f"Every layer of every model, a line a layer from dark (first) to light (last). Choose a layer to see what was "
        f"measured, the fitted curve and its {100 * LEVEL:.0f} % band. From its first step to its last the largest "
        f"ratio over the layers of {model} is multiplied by {words(factor)}, more than that of any other model here."
    )
    return Part("trajectories", "Trajectories", says, found, names)


def _peaks(dataset: Dataset) -> Part:
    table = peak_table(dataset)
    if table.empty:
        return Part("peaks", "Peaks", f"No model is measured at {ENOUGH_STEPS} steps or more.")
    early = float(np.isfinite(table["fitted"].to_numpy(float)).mean())
    top: Any = table.loc[int(table["height"].to_numpy(float).argmax())]
    says = (
        f"The largest ratio of a layer over the run, and the step at which it was measured. The highest is "
        f"{words(top['height'])}, in layer {int(top['layer'])} of {top['model']} at step {int(top['at']):,}. "
        f"In {100 * early:.0f} % of the layers the fitted curve has its peak inside the run; the others still rise, or "
        "have no peak, at its end. Choose a cell to see its trajectory."
    )
    return Part(
        "peaks",
        "Peaks",
        says,
        {what: charts.peak_map(table, what) for what in charts.PEAK_MAPS},
        dict(charts.PEAK_MAPS),
    )


_ALIKE = 0.01  # of Akaike's criterion: two forms of one curve differ by less


def _hypotheses(dataset: Dataset) -> Part:
    import pandas as pd

    rows = []
    for quantity in FITTED_QUANTITIES:
        parts = [dataset.fits(model, quantity) for model in dataset if dataset.has_fits(model, quantity)]
        if not parts:
            continue
        names = list(dict.fromkeys(str(name) for one in parts for name in one["hypothesis"].values))
        r2, aic = (
            {name: np.concatenate([_of(one, name, what) for one in parts]) for name in names} for what in ("r2", "aic")
        )
        table = np.array([aic[name] for name in names])
        fitted = np.isfinite(table).any(axis=0)
        low = np.where(np.isfinite(table), table, np.inf)[:, fitted]
        best = low <= low.min(axis=0, initial=np.inf) + _ALIKE
        rows += [
            [quantity, name, float(mine.mean()) if mine.size else math.nan, _median(r2[name])]
            for name, mine in zip(names, best, strict=True)
        ]
    if not rows:
        return Part("hypotheses", "Hypotheses", "No rival curves are fitted in this dataset: `madyn fit` does it.")
    table = pd.DataFrame(rows, columns=["quantity", "hypothesis", "best", "r2"])
    first = table.loc[table["quantity"] == table["quantity"].iloc[0]]
    shares = first["best"].to_numpy(float)
    winner: Any = first.iloc[int(np.nanargmax(shares))] if np.isfinite(shares).any() else first.iloc[0]
    winners = [str(name) for name in first.loc[shares == winner["best"], "hypothesis"]]
    says = (
        "Which curve describes the layers best, by Akaike's criterion; of equals each counts. For the "
        f"{first['quantity'].iloc[0]} it is {' and '.join(winners)} in {100 * winner['best']:.0f} % of the layers, "
        f"with a median R² of {winner['r2']:.4f}. "
        "A curve that describes what was measured need not be the one that predicts best: `madyn compare` tells that."
    )
    return Part("hypotheses", "Hypotheses", says, {"hypotheses": charts.hypotheses(table)})


def _of(fits: xr.Dataset, hypothesis: str, what: str) -> np.ndarray:
    if hypothesis not in fits["hypothesis"].values:
        return np.full(fits.sizes["layer"], np.nan)
    return fits[what].sel(hypothesis=hypothesis).values.astype(float)


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def _parameters(dataset: Dataset) -> Part:
    table = dataset.parameters
    columns = [str(name) for name in table.columns]
    rows = [[None if value != value else value for value in row] for row in table.itertuples(index=False, name=None)]
    failed = int(table.filter(like="param_").isna().all(axis=1).sum())
    says = (
        f"The parameters of the curve fitted to the ratio of {counted(len(table), 'layer')}"
        + (f", of which {counted(failed, 'fit')} failed" if failed else "")
        + ". Choose a column's head to sort by it."
    )
    return Part("parameters", "Parameters", says, tables=[Table(columns, rows, "parameters.csv")])


def _prediction(dataset: Dataset) -> Part:
    import pandas as pd

    from madyn.prediction import Predictor
    from madyn.prediction.expected import left_out_numbers

    predictor = Predictor().fit(dataset)
    table, evidence = left_out_numbers(predictor, "max ratio")
    if evidence.coverage != evidence.coverage:
        return Part("prediction", "Prediction", "One architecture only: there is none to leave out and predict.")
    says = (
        f"The largest ratio over layers and steps of {evidence.calibration.architectures} {evidence.left_out}, each "
        f"predicted from the others by {predictor.approach}: R² of its logarithm is {evidence.r2:z.2f}, and "
        f"{100 * evidence.coverage:.0f} % of the runs lie in their 90 % interval."
        + ("" if evidence.r2 > 0 else " That is no better than the mean of all.")
    )
    caution = predictor.caution()
    return Part(
        "prediction", "Prediction", says, {"prediction": charts.predicted_against_measured(pd.DataFrame(table))},
        notes=[caution] if caution else [],
    )  # fmt: skip


def _locations(dataset: Dataset) -> Part:
    shares, rows = {}, []
    for model in dataset:
        try:
            found = read_locations(dataset, model)
        except MadynError:
            continue
        top = found.sel(rank=1)
        shares[model] = (top["position"] == 0).mean(["sequence", "layer"])
        layer = int(dataset.trajectories(model, "ratio").isel(step=-1).values.argmax())
        one = locked_in(found).loc[layer].to_dict()
        rows.append(
            [model, layer, int(one["position"]), 100 * one["position_share"], int(one["feature"]),
             100 * one["feature_share"], int(one["locked_in_step"])]
        )  # fmt: skip
    if not rows:
        return Part("locations", "Where the values sit", "This dataset does not say where its largest values stand.")
    first = sum(1 for row in rows if row[2] == 0)
    says = (
        f"In {first} of {counted(len(rows), 'model')} the largest value of the layer with the largest ratio stands at "
        f"position 0 in most sequences. In {rows[0][0]} it is feature {rows[0][4]}, in {rows[0][5]:.0f} % of the "
        f"sequences, since step {rows[0][6]:,}. The picture has, for each model, the share of its layers and sequences "
        "whose largest value stands at position 0."
    )
    columns = ["model", "layer", "position", "sequences, %", "feature", "sequences, %", "locked in at step"]
    chart = charts.shares_over_steps(shares, "largest value at position 0, %")
    return Part(
        "locations", "Where the values sit", says, {"locations": chart}, tables=[Table(columns, rows, "locations.csv")]
    )


def _quantization(dataset: Dataset) -> Part:
    table = estimate_dataset(dataset)
    worst: Any = worst_layers(table).iloc[0]
    least: Any = table.loc[int(table["headroom"].to_numpy(float).argmin())]
    says = (
        f"What int8 with one scale a tensor would leave to the bulk of each layer's values at the last step, estimated "
        f"from top 1 and median. The worst is layer {int(worst['layer'])} of {worst['model']}: "
        f"{worst['effective_bits']:.1f} effective bits, and {100 * worst['zeroed']:.0f} % of the values become zero. "
        + (
            f"Float16 overflows in layer {int(least['layer'])} of {least['model']}."
            if least["headroom"] < 0
            else f"The largest value of all could double {least['headroom']:.1f} times before float16 overflows."
        )
    )
    chart = charts.heat_map(table, "effective_bits", "effective bits", form=".1f")
    return Part("quantization", "What quantization costs", says, {"quantization": chart})


def _provenance(dataset: Dataset) -> Part:
    rows, failures = [], []
    for model in dataset:
        units = dataset.units(model)
        done = [unit for unit in units.values() if unit.failure is None]
        failures += [f"{model}, step {step}: {unit.failure}" for step, unit in units.items() if unit.failure]
        if done:
            rows.append([model, *(_common(values) for values in _told(done)), dataset.statistics_hash(model)[:16]])
    if not rows:
        return Part("provenance", "Provenance", "This dataset has no manifest: how it was measured is not recorded.")
    heads = [
        "model", "source", "commit or hash of the weights", "text (hash)", "sequences x length", "first token", "dtype",
        "device", "threads", "versions", "statistics (hash)",
    ]  # fmt: skip
    told = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    columns, rows = [heads[i] for i in told], [[row[i] for i in told] for row in rows]
    says = f"How the {counted(len(rows), 'model')} with a manifest came about. " + (
        f"{counted(len(failures), 'step')} could not be measured." if failures else "No step failed."
    )
    notes = failures[:_MOST_NOTES]
    return Part(
        "provenance", "Provenance", says, tables=[Table(columns, rows, "provenance.csv")],
        notes=[*notes, *([f"... and {len(failures) - len(notes):,} more"] if len(failures) > len(notes) else [])],
    )  # fmt: skip


def _told(units: list[Any]) -> Iterator[list[str]]:
    """What the units of a model say, field by field."""
    shown = ("torch", "transformers", "numpy", "madyn")
    yield [unit.source for unit in units]
    yield [unit.commit or unit.weights_xxh3 or "" for unit in units]
    yield [(unit.probe_sha256 or unit.tokens_sha256 or "")[:16] for unit in units]
    yield [f"{unit.sequences} x {unit.length}" if unit.length else f"{unit.sequences}" for unit in units]
    for name in ("first_token", "dtype", "device", "threads"):
        yield ["" if getattr(unit, name) is None else str(getattr(unit, name)) for unit in units]
    yield [", ".join(f"{name} {unit.versions[name]}" for name in shown if name in unit.versions) for unit in units]


def _common(values: list[str]) -> str:
    """What all units say; of several, the first and how many others."""
    counts = Counter(values)
    first = next(iter(counts))
    return first if len(counts) == 1 else f"{first} and {len(counts) - 1} more"
