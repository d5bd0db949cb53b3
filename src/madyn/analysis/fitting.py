"""Trajectories -> fits -> parameter table: a whole dataset fitted, and the results written beside its statistics.

Every record carries what it came from: the hash of the statistics, the method, the bounds, and madyn's version. Fits of
other hypotheses or quantities that are there already stay, as long as they came from the same statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

import madyn
from madyn.analysis.records import Record, fit_records
from madyn.curves.fitting.fits import PAPER_MINIMUM_POINTS
from madyn.curves.hypotheses.peaks import observable, peak
from madyn.curves.hypotheses.registry import HYPOTHESES, PUBLISHED, resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.dataset import Dataset, open_to_write
from madyn.dataset.fit_files import (
    PARAMETER_COLUMNS,
    read_fit_records,
    read_table_rows,
    shape_cells,
    write_fit_records,
    write_parameter_table,
)
from madyn.dataset.layout import FITTED_QUANTITIES
from madyn.dataset.locking import writing
from madyn.dataset.repeats import repeated_statistics
from madyn.dataset.view import RatioOf
from madyn.errors import ArchitectureError, DatasetError, MadynError, SeriesError, listed, one_of
from madyn.sharing import list_steps
from madyn.terminal import few, progress_display

Robust = Literal["huber", "student"]

AT_ONCE = 300  # layers


def fit_dataset(
    dataset: str | Path | Dataset,
    *,
    models: str | Iterable[str] | None = None,
    hypotheses: Iterable[str] | None = None,
    quantities: Iterable[str] | None = None,
    method: str = "varpro",
    robust: Robust | None = None,
    ratio_of: RatioOf = "sequences",
    drop_suspects: bool = False,
    out: str | Path | None = None,
) -> Dataset:
    """Fit curves to every layer's trajectories and write `params/` and the parameter table.

    Args:
        dataset: a dataset, or its folder, or a dataset of the Hub or one that comes with madyn.
        models: directory names; all by default.
        hypotheses: names in `HYPOTHESES`; those of the published dataset by default.
        quantities: of ratio, top1 and median; all by default.
        method: "varpro" finds the global optimum in each hypothesis' box; "trf" is the published single-start search.
        robust: "huber" or "student" to weigh points down that lie far off, as in `fit_curves`.
        ratio_of: which mean the ratio is, as in `Dataset.trajectories`.
        drop_suspects: fit again without the points that the reparam fit leaves far off. They are flagged either way.
        out: the folder that the fits are written to, with a copy of what they are made from; the dataset's own folder
            by default, which one of the Hub does not have.

    Returns:
        the dataset that was written to.

    Raises:
        DatasetError: a model's statistics are malformed; the other models are fitted first.
        SeriesError: no layer of some model has a series that the hypothesis could be fitted to (too few points, or
            constant); everything else is fitted first, and the records say why.
        UsageError: an unknown model, hypothesis, quantity or method.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> for step in range(0, 30_000, 1000):
    ...     values = f"[[[{9 + step / 1000}], [2.0], [1.5], [0.5]]]"  # sequences x quantities x layers
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> fitted = madyn.fit_dataset(root, quantities=["ratio"])
    >>> fitted.fits("tiny", "ratio")["r2"].sel(hypothesis="reparam").round(1).values.tolist()
    [1.0]
    """
    chosen = resolve(PUBLISHED if hypotheses is None else hypotheses)
    making = _Making(method, robust, ratio_of, drop_suspects)
    asked = FITTED_QUANTITIES if quantities is None else listed("quantities", quantities)
    wanted = [one_of("a quantity that is fitted", quantity, FITTED_QUANTITIES) for quantity in asked]
    if not isinstance(dataset, Dataset):
        dataset = open_to_write(dataset, out)
    elif out is not None:
        dataset = open_to_write(dataset.path, out).select(dataset.models)
    dataset.require_own_folder()
    dataset = dataset if models is None else dataset.select(models)
    faults: list[MadynError] = []
    fitted: set[str] = set()
    with progress_display() as progress:
        series = _read(dataset, wanted, making, faults)
        bar = progress.add_task("fitting", total=len(series))
        for alike in _together(series):
            names = dict.fromkeys(one.model for one in alike)
            progress.update(bar, description=f"fitting {few(names, 3)}")
            faults += _fit(dataset, alike, chosen, making, fitted)
            progress.advance(bar, len(alike))
        points = {one.model: one.steps.size for one in series if one.steps.size < PAPER_MINIMUM_POINTS}
        short = [f"{model} ({count})" for model, count in points.items() if model in fitted]
        if short:
            progress.console.print(
                f"fewer points than the {PAPER_MINIMUM_POINTS} that the paper asks for, so that parameters are less "
                f"certain: {few(short)}",
            )
        for model in dict.fromkeys(one.model for one in series):
            repeated = sorted({s for sharing in repeated_statistics(dataset, model) for s in sharing.suspects})
            if repeated:
                progress.console.print(
                    f"{model}: {list_steps(repeated)} have statistics of another step, bit for bit (`madyn check` says "
                    "which); fitted all the same"
                )
    with writing(dataset.path, "fits"):
        _write_table(dataset)
    if faults:
        more = f" (and {len(faults) - 1} more such)" if len(faults) > 1 else ""
        raise type(faults[0])(f"{faults[0]}{more}")
    return dataset


@dataclass(frozen=True)
class _Making:
    """How fits are made, the same for a whole dataset."""

    method: str
    robust: Robust | None
    ratio_of: RatioOf
    drop_suspects: bool


@dataclass(frozen=True)
class _Series:
    """A quantity of a model: values (n, layers) at steps (n,)."""

    model: str
    quantity: str
    steps: np.ndarray
    values: np.ndarray


def _read(dataset: Dataset, quantities: Iterable[str], making: _Making, faults: list[MadynError]) -> list[_Series]:
    """What is to be fitted; a model whose statistics are malformed is left out and goes to the faults."""
    series = []
    for model in dataset.models:
        try:
            for quantity in quantities:
                trajectories = dataset.trajectories(model, quantity, making.ratio_of)
                steps, values = trajectories["step"].values, trajectories.values
                if making.drop_suspects:
                    values = _without_suspects(steps, values, making.method)
                series.append(_Series(model, quantity, steps, values))
        except DatasetError as e:
            faults.append(e)
    return series


def _together(series: list[_Series]) -> Iterator[list[_Series]]:
    """Series with the same steps, some hundreds of layers at a time: a call for one takes as long as for fifty."""
    groups: dict[bytes, list[_Series]] = {}
    for one in series:
        groups.setdefault(one.steps.tobytes(), []).append(one)
    for group in groups.values():
        part: list[_Series] = []
        for one in group:
            part.append(one)
            if sum(other.values.shape[1] for other in part) >= AT_ONCE:
                yield part
                part = []
        if part:
            yield part


def _fit(
    dataset: Dataset, series: list[_Series], chosen: Sequence[SeparableModel], making: _Making, fitted: set[str]
) -> list[MadynError]:
    """Fit and write series that share their steps; gives what could not be fitted in any layer of one of them, and adds
    the models of which something could be to `fitted`.
    """
    values = np.concatenate([one.values for one in series], axis=1)
    records = iter(fit_records(series[0].steps, values, chosen, method=making.method, robust=making.robust))
    faults: list[MadynError] = []
    made = [(one, list(islice(records, one.values.shape[1]))) for one in series]
    # What is there is read, joined with what was made and written again: by one process at a time.
    with writing(dataset.path, "fits"):
        for model in dict.fromkeys(one.model for one in series):
            faults += _write(dataset, model, [pair for pair in made if pair[0].model == model], chosen, making)
    for one, layers in made:
        if any(layer[hypothesis.name]["r2"] is not None for layer in layers for hypothesis in chosen):
            fitted.add(one.model)
    return faults


def _write(
    dataset: Dataset,
    model: str,
    made: Sequence[tuple[_Series, list[dict[str, Record]]]],
    chosen: Sequence[SeparableModel],
    making: _Making,
) -> list[MadynError]:
    """Write what was made of a model's quantities."""
    faults: list[MadynError] = []
    wanted: dict[str, list[dict[str, Record]]] = {}
    bounds = {hypothesis.name: _bounds(hypothesis, making.method) for hypothesis in chosen}
    for one, layers in made:
        made_with = {
            "statistics_sha256": dataset.statistics_hash(model),  # of the bytes that were fitted
            "method": making.method,
            "robust": making.robust,
            "seed": None,  # no method that draws random numbers was used
            "ratio_of": making.ratio_of if one.quantity == "ratio" else None,
            "suspects_dropped": making.drop_suspects,
            "madyn": madyn.__version__,
        }
        for layer in layers:
            for name in bounds:
                layer[name]["provenance"] = {**made_with, "bounds": bounds[name]}
        kept = _kept(dataset, one)
        if _is_newer(kept, dataset, model):
            faults.append(
                DatasetError(
                    f"{dataset.path / model}: {one.quantity}: its statistics changed as they were fitted, and another "
                    "process has fitted what is there now; run `madyn fit` again"
                )
            )
            continue
        wanted[one.quantity] = _join(kept, layers, made_with)
        for name in bounds:
            if all(layer[name]["r2"] is None for layer in layers):
                faults.append(SeriesError(f"{dataset.path / model}: {one.quantity}: {layers[0][name]['message']}"))
    if wanted:
        write_fit_records(dataset.path, model, wanted)
    return faults


def _bounds(hypothesis: SeparableModel, method: str) -> dict[str, list[float | None]]:
    """The bounds of every bounded parameter, in normalised units: below and above."""
    if method == "trf" and hypothesis.published is not None:
        lower = dict(zip(hypothesis.param_names, hypothesis.published.lower, strict=True))
        return {name: [bound, None] for name, bound in lower.items() if np.isfinite(bound)}
    if hypothesis.same_as is not None:
        return _bounds(HYPOTHESES[hypothesis.same_as], method)
    return {name: [float(low), float(high)] for name, (low, high) in hypothesis.nonlinear.items()}


def _without_suspects(steps: np.ndarray, values: np.ndarray, method: str) -> np.ndarray:
    """The values with suspect points missing, the same ones for all hypotheses, so that their AIC can be compared."""
    kept = values.copy()
    for number, layer in enumerate(fit_records(steps, values, ["reparam"], method=method)):
        kept[np.isin(steps, layer["reparam"]["suspects"]), number] = np.nan
    return kept


def _kept(dataset: Dataset, one: _Series) -> list[dict[str, Record]]:
    """The records that are there by layer; none where there are none yet, or not readable: they are replaced."""
    try:
        return read_fit_records(dataset.path, one.model, one.quantity)
    except DatasetError:
        return []


def _is_newer(kept: Sequence[Mapping[str, Record]], dataset: Dataset, model: str) -> bool:
    """Whether records that are there were made from the statistics that are there now, and ours from those before."""
    made_from = {
        (record.get("provenance") or {}).get("statistics_sha256") for layer in kept for record in layer.values()
    }
    others = made_from - {None, dataset.statistics_hash(model)}
    return bool(others) and Dataset(dataset.path, [model]).statistics_hash(model) in others


def _join(
    old: Sequence[Mapping[str, Record]], layers: list[dict[str, Record]], made_with: Mapping[str, Any]
) -> list[dict[str, Record]]:
    """The new records, and those already on disk of other hypotheses if they were fitted to the same numbers."""
    if len(old) != len(layers):
        return layers
    numbers = ("statistics_sha256", "ratio_of", "suspects_dropped", "method", "robust")
    merged = []
    for before, new in zip(old, layers, strict=True):
        same = {
            name: record
            for name, record in before.items()
            if all((record.get("provenance") or {}).get(key) == made_with[key] for key in numbers)
        }
        records = {**same, **new}
        merged.append({name: records[name] for name in (*HYPOTHESES, *records) if name in records})
    return merged


def _write_table(dataset: Dataset) -> None:
    """Write the rows of the models that were fitted, from the ratio's reparam fits; those of other models stay."""
    try:
        rows = [row for row in read_table_rows(dataset.path) if row["model"] not in dataset.models]
    except DatasetError as e:
        raise DatasetError(f"{e}; mend it, or delete it and run `madyn fit` again") from e
    for model in dataset.models:
        try:
            records = dataset.fit_records(model, "ratio")
            last_step = dataset.steps(model)[-1]
        except (DatasetError, IndexError):
            continue  # nothing measured or no fits of the ratio, and that was said
        if any("reparam" not in layer for layer in records):
            continue
        rows += table_rows(dataset, model, records, last_step)
    if rows:
        write_parameter_table(dataset.path, sorted(rows, key=lambda row: (row["model"], int(row["layer_index"]))))


def table_rows(
    dataset: Dataset, model: str, records: Sequence[Mapping[str, Record]], last_step: int
) -> list[dict[str, Any]]:
    """The rows of the parameter table for a model, from the records of its ratio, which all have a reparam fit."""
    shape = _shape_columns(dataset, model)
    return [
        _row(model, shape, number, len(records), layer["reparam"], last_step) for number, layer in enumerate(records)
    ]


def _shape_columns(dataset: Dataset, model: str) -> dict[str, Any]:
    try:
        return dataset.architecture(model).to_dict()
    except ArchitectureError:
        return {"num_hidden_layers": dataset.statistics(model).sizes["layer"]}


def _row(
    model: str, shape: Mapping[str, Any], layer: int, layers: int, record: Record, last_step: int
) -> dict[str, Any]:
    popt = dict(zip(record.get("param_names") or [], record["popt"] or [], strict=False))
    fitted = {name: popt.get(name) for name in PARAMETER_COLUMNS.values()}
    t_peak, height = peak(**{name: np.nan if value is None else value for name, value in fitted.items()})
    provenance = record.get("provenance") or {}
    of_card, ours = shape_cells(shape)
    return {
        "model": model,
        "layer_index": layer,
        "layer_index_norm": layer / (layers - 1) if layers > 1 else 0.0,
        **of_card,
        **{column: fitted[name] for column, name in PARAMETER_COLUMNS.items()},
        **ours,
        "r2": record.get("r2"),
        "aic": record.get("aic"),
        "peak_step": _finite(t_peak),
        "peak_height": _finite(height),
        "peak_observable": None if None in fitted.values() else bool(observable(t_peak, last_step)),
        "last_step": last_step,
        "message": record.get("message", ""),
        "method": provenance.get("method"),
        "ratio_of": provenance.get("ratio_of"),
        "bounds": provenance.get("bounds"),
        "robust": provenance.get("robust"),
        "seed": provenance.get("seed"),
        "statistics_sha256": provenance.get("statistics_sha256"),
        "madyn": provenance.get("madyn"),
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
