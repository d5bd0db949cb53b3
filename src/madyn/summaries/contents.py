"""What `madyn show` and `madyn check` say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.dataset.checking import failures_of, missing_units
from madyn.summaries.fitting import has_fits
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.dataset import Dataset


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
        fitted = [q for q in FITTED_QUANTITIES if has_fits(dataset, model, q)]
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
