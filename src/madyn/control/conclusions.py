"""What can be concluded of one remedy, in a sentence: what it does to the ratio, by what, and at what loss.

An effect is called shown where its p-value is below 0.05 after the correction for how many remedies are compared, and
likely where only the interval by itself leaves out "no effect". What is not shown is said to be not shown, with how
many seeds would show a difference as large as the one that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SHOWN = 0.05
_NOT_BEYOND = "not beyond chance among all that are compared"
_MOSTLY = 2 / 3  # of the ratio's change, by its logarithm: what makes it up is then named alone


def conclusion(row: Mapping[str, Any]) -> str:
    """What a row of `Control.table` says, in a sentence or two.

    Args:
        row: of a remedy, not of the plain models.
    """
    if row["seeds"] == 0:
        return f"diverged in all of its {row['diverged']} runs" if row["diverged"] else "no pair is trained to the end"
    said = [_of_ratio(row), _of_loss(row)]
    if row["diverged"]:
        said.append(f"{row['diverged']} of {row['diverged'] + row['seeds']} runs diverged")
    return "; ".join(said)


def is_shown(row: Mapping[str, Any], what: str) -> bool:
    """Whether a difference in "ratio" or "loss" is beyond chance, for all remedies at once."""
    return row[f"{what}_p"] < SHOWN


def _of_ratio(row: Mapping[str, Any]) -> str:
    times, lower, upper = (row[f"ratio_{end}"] for end in ("times", "lower", "upper"))
    if not math.isfinite(lower):
        return f"the ratio is {_factor(times)} in the one pair there is, which says nothing of chance"
    if lower <= 1 <= upper:
        return f"no effect on the ratio is shown ({_factor(times)}, {_between(lower, upper)}){_seeds(row, 'ratio')}"
    way = "lowers" if times < 1 else "raises"
    if not is_shown(row, "ratio"):
        return (
            f"likely {way} the ratio ({_factor(times)}, {_between(lower, upper)}), {_NOT_BEYOND}{_seeds(row, 'ratio')}"
        )
    return f"{way} the ratio: {_factor(times)} ({_between(lower, upper)}), {_by_what(row)}{_at_equal_loss(row)}"


def _by_what(row: Mapping[str, Any]) -> str:
    """Which part of the ratio's change is the largest value's, and which the median's."""
    change, of_top = math.log(row["ratio_times"]), math.log(row["top1_times"])
    share = of_top / change
    top, median = f"top 1 is {_factor(row['top1_times'])}", f"the median {_factor(row['median_times'])}"
    if share > _MOSTLY:
        return f"by the largest values ({top}, {median})"
    if share < 1 - _MOSTLY:
        return f"by the median ({median}, {top})"
    return f"by both ({top}, {median})"


def _at_equal_loss(row: Mapping[str, Any]) -> str:
    times, lower, upper = (row[f"equal_loss_ratio_{end}"] for end in ("times", "lower", "upper"))
    if not math.isfinite(times) or (upper < 1 if row["ratio_times"] < 1 else lower > 1):
        return ""
    return f", but at equal loss that is not shown ({_factor(times)}, {_between(lower, upper)})"


def _of_loss(row: Mapping[str, Any]) -> str:
    times, lower, upper = (row[f"loss_{end}"] for end in ("times", "lower", "upper"))
    if not math.isfinite(times):
        return "its loss is not held against the plain model's"
    more = _percent(times)
    if not math.isfinite(lower):
        return f"the loss is {more} in that pair"
    interval = f"{_percent(lower)} to {_percent(upper)}"
    if lower <= 1 <= upper:
        return f"no difference in loss is shown ({more}, {interval}){_seeds(row, 'loss')}"
    if not is_shown(row, "loss"):
        likely = "costs" if times > 1 else "gains"
        return f"likely {likely} loss ({more}, {interval}), {_NOT_BEYOND}"
    return f"{'costs' if times > 1 else 'gains'} loss: {more} ({interval})"


def _seeds(row: Mapping[str, Any], what: str) -> str:
    """How many seeds would show what was seen."""
    seeds = row[f"{what}_seeds"]
    if not math.isfinite(seeds):
        return "; more than 1000 seeds would show one so small" if math.isfinite(row[f"{what}_lower"]) else ""
    return f"; {seeds:.0f} seeds would show one as large as this" if seeds > row["seeds"] else ""


def _factor(times: float) -> str:
    """What something is multiplied by: x0.021, x1.03, x24."""
    return f"x{times:.{3 if 0.5 < times < 2 else 2}g}" if times < 99.5 else f"x{times:.0f}"


def _between(lower: float, upper: float) -> str:
    return f"{_factor(lower)[1:]} to {_factor(upper)[1:]}"


def _percent(times: float) -> str:
    return f"{100 * (times - 1):+.2g} %"
