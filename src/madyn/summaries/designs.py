"""What a search for designs says: the designs, the trained model nearest to each, and how far to believe both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.architecture import SEARCHED
from madyn.summaries.numbers import band
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.prediction.design_search import Designs
    from madyn.prediction.losses import Evidence

_SIZES = [one for one in SEARCHED.values() if one.is_given]
_DETERMINED = 20.0  # an interval wider than this many times the value says nothing


def print_designs(designs: Designs, limit: int = 12) -> None:
    """Two tables of at most `limit` designs, spread evenly from the best in what is wanted to the best in the other."""
    found = len(designs.table)
    shown = np.unique(np.linspace(0, found - 1, min(limit, found)).round().astype(int))
    rows = [(int(i) + 1, designs.table.iloc[i].to_dict()) for i in shown]
    name = designs.objective.partition(" ")[2]
    has_loss = designs.against == "held-out loss"
    title = (
        f"{designs.objective} against {designs.against}: {found} of {designs.searched:,} {designs.candidates} are "
        "beaten by no other" + (f", {len(rows)} shown" if len(rows) < found else "")
    )
    wiring = ["wiring"] if "wiring" in designs.table else []
    columns = ["", *wiring, *(one.words for one in _SIZES), "parameters", f"{name} (90 %)"]
    columns += ["held-out loss (90 %)"] if has_loss else []
    print_table(title, columns, [_design(number, row, has_loss) for number, row in rows], left=wiring)
    columns = ["", "nearest trained model", "distance", f"its {name}", "its loss"]
    kept = len(columns) if has_loss else len(columns) - 1
    print_table(
        "measured nearby", columns[:kept], [_nearest(number, row)[:kept] for number, row in rows], left=[columns[1]]
    )
    console.print(
        "Values are medians and 90 % intervals for a single run. The distance is in standard deviations of the trained "
        f"shapes, 0 is the same shape{' and wiring' if wiring else ''}; what was measured is a mean over its seeds."
    )
    for what, one in designs.evidence.items():
        console.print(_evidence(name if what.startswith("objective") else "held-out loss", one))
    for number, row in rows:
        if row["outside"]:
            console.print(f"{number}: outside the data, so extrapolated: {row['outside']}", style="yellow")
    for note in designs.notes:
        console.print(note, style="yellow")


def _design(number: int, row: Mapping[str, Any], has_loss: bool) -> list[Any]:
    sizes = [f"{row[one.name]:g}" if isinstance(row[one.name], float) else row[one.name] for one in _SIZES]
    ends = ("", "_lower", "_upper")
    wanted, loss = ([row[f"{what}{end}"] for end in ends] for what in ("objective", "loss"))
    cells = [number, *sizes, row["parameters"], band(*wanted, known=_DETERMINED * wanted[0])]
    cells[1:1] = [row["wiring"]] if "wiring" in row else []
    return [*cells, band(*loss)] if has_loss else cells


def _nearest(number: int, row: Mapping[str, Any]) -> list[Any]:
    value, loss = row["nearest_objective"], row["nearest_loss"]
    measured = None if value != value else f"{value:,.{0 if value >= 100 else 1}f}"
    return [number, row["nearest"], f"{row['distance']:.2f}", measured, None if loss != loss else f"{loss:.2f}"]


def _evidence(name: str, one: Evidence) -> str:
    if one.coverage != one.coverage:
        what = one.left_out.removesuffix("s")
        return f"{name}: there is no {what} to leave out, so nothing says how good the predictions are"
    r2 = "not defined" if one.r2 != one.r2 else f"{one.r2:.2f}"
    return (
        f"{name} of {one.calibration.architectures} {one.left_out} left out: R2 {r2}, and {100 * one.coverage:.0f} % "
        "of the runs lie in their 90 % interval"
    )
