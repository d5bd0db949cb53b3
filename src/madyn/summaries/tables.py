"""What `madyn scan` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.terminal import console, print_table

if TYPE_CHECKING:
    import pandas as pd


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
    for remark in table.attrs.get("remarks", ()):
        console.print(remark)


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] as 1-3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(str(end) for end in run) for run in runs)
