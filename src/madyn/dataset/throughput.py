"""How fast the models of a family train beside one another: `throughput.json`, at the root of a dataset.

Statistics and training records hold nothing of time, so that the same suite gives the same bytes. What was timed, and
on what machine, stands in a file of its own, which whoever has the suite can make anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import MaxLen

from madyn.dataset import layout
from madyn.dataset.files import is_there, write_json
from madyn.dataset.schema import Count, Line, Name, Number, read_as

_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class Speed:
    """How many times the tokens a second of the model that it was timed beside: median over the rounds, quartiles."""

    times: Number
    lower: Number
    upper: Number


@dataclass(frozen=True)
class Throughput:
    """What was timed.

    Attributes:
        machine: what it was timed on, in words: processor, versions, threads.
        rounds: how often each model and its own were timed, in turn.
        models: by the name of the model.
    """

    machine: Line
    rounds: Count
    models: Annotated[Mapping[Name, Speed], MaxLen(10_000)]


def write_throughput(root: Path, found: Throughput) -> None:
    """Write what was timed into a dataset. Raises StorageError."""
    write_json(layout.inside(root, layout.throughput_path(root)), asdict(found))


def read_throughput(root: Path) -> Throughput | None:
    """What was timed; None where nothing was. Raises DatasetError for a file that says something else."""
    path = layout.throughput_path(root)
    return read_as(path, Throughput, _MOST_BYTES, "the throughput of a family") if is_there(path) else None
