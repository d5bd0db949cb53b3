"""What `madyn plan` and `madyn trace` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from madyn.summaries.numbers import duration
from madyn.terminal import console, data_size, print_table

if TYPE_CHECKING:
    from madyn.sweep import SweepCost, TraceReport


def print_costs(costs: SweepCost) -> None:
    """What a sweep will take, a row a model and the sum."""
    columns = ["model", "checkpoints", "to measure", "download", "disk", "time", "memory", ""]
    rows = [
        [c.model, c.checkpoints, c.left, data_size(c.download), data_size(c.disk),
         duration(c.seconds), data_size(c.memory),
         "streamed" if c.streamed else c.note]
        for c in costs
    ]  # fmt: skip
    foot: list[list[Any]] = []
    if len(costs) > 1:
        known = [c.seconds for c in costs if c.seconds is not None]
        foot.append(
            ["all", sum(c.checkpoints for c in costs), sum(c.left for c in costs),
             data_size(sum(c.download or 0 for c in costs)), data_size(sum(c.disk or 0 for c in costs)),
             duration(sum(known)), data_size(max((c.memory or 0) for c in costs)), ""]
        )  # fmt: skip
    print_table("the sweep", columns, rows, left=["model", ""], most=25, foot=foot)
    for sentence in (sentence for c in costs for sentence in c.left_out):
        console.print(sentence)
    start = costs.start_up
    parts = ", ".join(f"{part} {duration(seconds)}" for part, seconds in start.parts.items())
    console.print(f"before the first checkpoint: {duration(start.seconds)} ({parts})")
    for what in start.unknown:
        console.print(f"not in it: {what}")
    console.print(
        "memory is of the weights and activations at their largest; what Python and torch take comes on top\n"
        "the time is of computing on this machine, from a calibration with one and two layers, and comes after that of "
        "the start. The next checkpoint downloads meanwhile, so that the sweep takes the longer of the two. Nothing "
        "was downloaded but configs and tokenizers."
    )
    for line in (line for cost in costs for line in cost.findings):
        console.print(line)


def print_trace(report: TraceReport) -> None:
    failed = f", {len(report.failures)} failed (see madyn show {report.path})" if report.failures else ""
    console.print(f"{report.path}: {len(report.measured)} measured, {len(report.already)} already there{failed}")
