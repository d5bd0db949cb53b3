"""What `madyn control` says: a row a remedy, then what can be concluded of each and what its authors report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.control import Control

_COLUMNS = (
    "remedy", "largest ratio", "times plain (95 %)", "top 1", "median", "at equal loss", "loss, % (95 %)", "int8 bits",
    "speed", "seeds",
)  # fmt: skip


def print_control(control: Control, name: str) -> None:
    """The table, lowest ratio first, how to read it, and a paragraph a remedy."""
    from madyn.control import conclusion, reported_effect

    rows = _sorted(control)
    plain, remedies = rows[0], rows[1:]
    title = f"{name}: {len(remedies)} remedies at the last step, each against the plain model of its seed"
    print_table(title, _COLUMNS, [_row(row) for row in rows], left=["remedy"])
    console.print(
        "largest ratio: the largest top1 / median over the layers, a mean over seeds. Top 1 and median, of that layer, "
        "and the ratio where both have the same held-out loss: times plain. *: no other has a lower ratio and a lower "
        "loss. int8 bits: what one scale a tensor would leave to the worst layer's bulk. speed: tokens a second, times "
        "plain."
    )
    if control.throughput is not None:
        console.print(f"speed on {control.throughput.machine}, median of {control.throughput.rounds} rounds")
    console.print(f"plain: held-out loss {plain['loss']:.3f} nats a token")
    console.print()
    for row in remedies:
        console.print(f"{row['remedy']}: {conclusion(row)}.", highlight=False)
        reported = reported_effect(control.levels[row["remedy"]])
        if reported:
            console.print(f"  reported: {reported}", highlight=False, style="dim")
    for what, reason in control.missing.items():
        console.print(f"{what}: {reason}", style="yellow")


def control_records(control: Control, path: str) -> dict[str, Any]:
    """The same for programs."""
    from madyn.control import conclusion, reported_effect

    plain, *remedies = control.table.to_dict("records")
    for row in remedies:
        levels = control.levels[row["remedy"]]
        row.update(levels=dict(levels), conclusion=conclusion(row), reported=reported_effect(levels) or None)
    machine = control.throughput.machine if control.throughput else None
    return {"path": path, "plain": plain, "remedies": remedies, "machine": machine, "missing": control.missing}


def _sorted(control: Control) -> list[dict[Any, Any]]:
    """The plain models, then remedies by what they leave of the ratio; those that never ended stand last."""
    plain, *remedies = control.table.to_dict("records")
    return [plain, *sorted(remedies, key=lambda row: (row["ratio_times"] != row["ratio_times"], row["ratio_times"]))]


def _row(row: Mapping[Any, Any]) -> list[Any]:
    if row["seeds"] == 0:
        return [row["remedy"], *[None] * (len(_COLUMNS) - 2), _seeds(row)]
    return [
        f"{row['remedy']}{' *' if row['front'] else ''}",
        f"{row['ratio']:.3g}",
        _interval(row, "ratio", lambda x: f"{x:.2g}"),
        *(_number(row[f"{name}_times"], "{:.2g}") for name in ("top1", "median", "equal_loss_ratio")),
        _interval(row, "loss", lambda x: f"{100 * (x - 1):+.2f}"),
        _number(row["bits"], "{:.1f}"),
        _number(row["speed"], "{:.2f}"),
        _seeds(row),
    ]


def _seeds(row: Mapping[Any, Any]) -> str:
    return f"{row['seeds']}" + (f", {row['diverged']} diverged" if row["diverged"] else "")


def _number(value: float, form: str) -> str | None:
    return None if value != value else form.format(value)


def _interval(row: Mapping[Any, Any], name: str, say: Any) -> str | None:
    times, lower, upper = (row[f"{name}_{end}"] for end in ("times", "lower", "upper"))
    if times != times:
        return None
    return say(times) if lower != lower else f"{say(times)} ({say(lower)} to {say(upper)})"
