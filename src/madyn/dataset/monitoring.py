"""What a monitor says of a run that it watches: how far it is, and its alerts. `monitor/{model}.json`.

The published layout has no place for it; it stands beside it. One file a model, written anew at every measured step by
the process that measures, so that whoever watches the dataset from elsewhere sees the run go on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MaxLen

from madyn.dataset import layout
from madyn.dataset.files import is_there, write_json
from madyn.dataset.schema import Count, Line, Name, Number, Step, read_as
from madyn.dataset.seals import sealed
from madyn.errors import one_line

_MOST_BYTES = 1 << 25

ALERTS = {
    "non_finite": "a hidden state holds NaN or infinity",
    "overflow": "a hidden state is larger than float16 can hold",
    "overflow_ahead": "the forecast of the largest value passes what float16 can hold",
    "massive": "a layer turned massive",
    "above_forecast": "a layer's ratio lay above its forecast band twice in a row",
    "not_measured": "a step could not be measured, or not be written; training went on",
}
"""The causes that a monitor warns of, by the names that its alerts have."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One warning. Each is given once for its cause.

    Attributes:
        step: the training step at which it was given.
        kind: one of `ALERTS`.
        layer: the one that shows it most, where it is about layers.
        layers: all that it is about.
        message: what is the matter, and what can be done, in a sentence or two.
        time: when, in UTC (ISO 8601).
    """

    step: Step
    kind: Name
    layer: Count | None = None
    layers: Annotated[list[Count], MaxLen(100_000)] = field(default_factory=list)
    message: Line
    time: Line


@dataclass(frozen=True, kw_only=True)
class MonitorRecord:
    """What is known of a watched run.

    Attributes:
        model: its directory in the dataset.
        every: the schedule of steps, as it was given.
        inputs: what is measured on, in words.
        mode: "probe", for the same sequences at every step; "sample", for batches of the training itself.
        last_step: the run's, as planned; None where nobody said.
        step: the training step when this was written.
        state: "running", also of a run that was killed; "ended".
        started, updated: when the run began and when this was written, in UTC (ISO 8601).
        resumed: the steps at which the run went on after it had been stopped. What was measured later than such a step
            before it is of a run that was taken back.
        measuring_seconds: what measuring, writing and forecasting has taken of the run's time.
        alerts: in the order in which they were given.
    """

    model: Name
    every: Line
    inputs: Line
    mode: Literal["probe", "sample"] = "probe"
    last_step: Step | None = None
    step: Step | None = None
    state: Literal["running", "ended"] = "running"
    started: Line
    updated: Line
    resumed: Annotated[list[Step], MaxLen(100_000)] = field(default_factory=list)
    measuring_seconds: Number = 0.0
    alerts: Annotated[list[Alert], MaxLen(100_000)] = field(default_factory=list)


def write_monitor(root: Path, record: MonitorRecord) -> None:
    """Write what is known of a run. Raises StorageError."""
    alerts = [replace(alert, message=one_line(alert.message, 2000)) for alert in record.alerts]
    value = asdict(replace(record, alerts=alerts))
    write_json(layout.inside(root, layout.monitor_path(root, record.model)), sealed(value, record.model))


def read_monitor(root: Path, model: str) -> MonitorRecord | None:
    """What is known of a watched run; None for one that no monitor watched.

    Raises:
        DatasetError: the file is not what `write_monitor` writes. Fields of later versions are passed over.
    """
    path = layout.monitor_path(root, model)
    if not is_there(path):
        return None
    return read_as(path, MonitorRecord, _MOST_BYTES, "the record of a monitor of madyn")
