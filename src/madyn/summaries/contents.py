"""What `madyn show` and `madyn check` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from madyn.checking import CheckReport, failures_of, missing_units, read_records
from madyn.summaries.grouping import print_grouped
from madyn.terminal import console, count_wrong, counted, print_table, say_wrong

if TYPE_CHECKING:
    from madyn.dataset import Dataset

_MOST = 25


def dataset_contents(dataset: Dataset) -> dict[str, Any]:
    """What is in a dataset.

    Returns:
        path; models, for each: model, layers, sequences, steps (a list; a damaged file costs its step), complete,
        largest_ratio (at the last step, the mean over sequences of the layer where that is largest), in_layer, massive
        (by rule the layers that are so at the last step in some sequence, as `Dataset.massive` has it), fitted
        (quantities) and missing (what keeps it from being complete, in words). What cannot be told is None.
    """
    from madyn.dataset.layout import FITTED_QUANTITIES, manifest_models
    from madyn.errors import MadynError

    models = []
    for model in dataset:
        records = read_records(dataset.path, model)
        missing = missing_units(records)
        part, damaged = dataset.sound_part(model)
        missing += [fault for fault in damaged if fault not in records.damaged]
        for fault in dict.fromkeys([*damaged, *records.damaged]):
            count_wrong(fault)
        steps: list[int] = []
        known: dict[str, Any] = dict.fromkeys(("layers", "sequences", "largest_ratio", "in_layer", "massive"))
        try:
            statistics, last = part.statistics(model), part.trajectories(model, "ratio").isel(step=-1)
            sizes, steps = statistics.sizes, [int(step) for step in statistics["step"]]
            known = {
                "layers": sizes["layer"],
                "sequences": sizes["sequence"],
                "largest_ratio": float(last.max()),
                "in_layer": int(last.values.argmax()),
                "massive": _massive_layers(part, model),
            }
        except MadynError as e:
            missing += [] if damaged else [str(e)]
        fitted = [quantity for quantity in FITTED_QUANTITIES if dataset.has_fits(model, quantity)]
        own = {"steps": steps, "complete": not missing, "fitted": fitted, "missing": missing}
        models.append({"model": model, **known, **own})
    for model in manifest_models(dataset.path):
        if model not in dataset.models:
            nothing = dict.fromkeys(("layers", "sequences", "largest_ratio", "in_layer", "massive"))
            missing = failures_of(read_records(dataset.path, model))
            own = {"steps": [], "complete": False, "fitted": [], "missing": missing}
            models.append({"model": model, **nothing, **own})
    return {"path": str(dataset.path), "models": models}


def _count(layers: list[int] | None) -> int | None:
    return None if layers is None else len(layers)


def _massive_layers(dataset: Dataset, model: str) -> dict[str, list[int] | None]:
    """The layers by rule, at the last step; None for a rule that the dataset says too little for."""
    counts = dataset.massive(model).isel(step=-1)
    return {
        rule: [int(layer) for layer in counts["layer"][counts[rule].values > 0]] if rule in counts else None
        for rule in ("published", "start")
    }


def print_contents(dataset: Dataset) -> None:
    """What is in a dataset, a row a model, those first that are not complete; and what is missing."""
    models = dataset_contents(dataset)["models"]
    rows = []
    for one in sorted(models, key=lambda one: one["complete"]):
        steps = one["steps"]
        rows.append(
            [one["model"], one["layers"], one["sequences"], len(steps), f"{steps[0]}..{steps[-1]}" if steps else "-",
             "yes" if one["complete"] else "no", one["largest_ratio"], one["in_layer"],
             *(_count((one["massive"] or {}).get(rule)) for rule in ("published", "start")),
             ", ".join(one["fitted"]) or "nothing"]
        )  # fmt: skip
    sizes, verdicts = ["layers", "sequences", "steps", "from..to", "complete"], ["massive", "past start"]
    columns = ["model", *sizes, "last ratio", "in layer", *verdicts, "fitted"]
    layers = sum(one["layers"] or 0 for one in models)
    title = f"{dataset.path}: {counted(len(models), 'model')}, {counted(layers, 'layer')}"
    print_table(title, columns, rows, left=["model", "fitted"], most=_MOST)
    console.print(
        "complete: no step failed, was cut short or is damaged, and a Pythia model has all of the paper's steps; what "
        "is missing stands below\n"
        "last ratio: top1 / median of |h| at the last step, a mean over sequences, of the layer where that is largest; "
        "layers count from 0\n"
        "massive: in how many layers |h| is then above 100 and at least 1000 times the median, in some sequence; past "
        "start: in how many the ratio is beyond what step 0 lets expect, - without a step 0 (or a manifest)"
    )
    print_grouped("missing: ", [said for one in models for said in one["missing"]], dataset.path, [])


def print_locations(dataset: Dataset) -> None:
    """Where the largest value of each layer stands, and at which step it locked in."""
    from madyn.dataset.locations import locked_in, read_locations
    from madyn.errors import DatasetError

    rows, last = [], set()
    for model in dataset:
        try:
            found = read_locations(dataset, model)
        except DatasetError as e:
            if len(dataset) == 1:
                raise
            say_wrong(f"{model} is left out: {e}")
            continue
        table = locked_in(found)
        last.add(int(found["step"].values[-1]))
        rows += [
            [model, layer, row["feature"], f"{100 * row['feature_share']:.0f} %", row["position"],
             f"{100 * row['position_share']:.0f} %", row["locked_in_step"]]
            for layer, row in zip(table.index, table.to_dict("records"), strict=True)
        ]  # fmt: skip
    if not rows:
        raise DatasetError(f"{dataset.path}: no model in it has locations")
    when = f"step {last.pop()}" if len(last) == 1 else "the last step"
    columns = ["model", "layer", "feature", "of sequences", "position", "of sequences", "locked in at step"]
    print_table(f"where the largest |h| stands at {when}", columns, rows, left=["model"], most=_MOST)
    console.print(
        "feature, position: the most frequent ones, with the share of the sequences that have them, counted from 0; "
        "locked in: from that step on, most sequences have their largest value in that feature"
    )


def print_check(report: CheckReport, dataset: Dataset, name: str) -> None:
    """What is absent, what is worth knowing, what is wrong; what is said of many models is said once."""
    models = list(dataset)
    print_grouped("absent: ", report.absences, dataset.path, models)
    print_grouped("note:   ", report.remarks, dataset.path, models)
    print_grouped("wrong:  ", report.faults, dataset.path, models, most=15)
    wrong = f"{len(report.faults)} wrong" if report.faults else "nothing is wrong"
    absent = f"; {len(report.absences):,} absent, which is no fault" if report.absences else ""
    console.print(f"{name}: {counted(len(models), 'model')}, {wrong}{absent}")
