"""Training records: how a model of the lab was trained, and its losses on the way. `training/{model}.json`.

The published layout has no place for them; they stand beside it. One file a model, written anew at every measured
step by the process that trains the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MaxLen

from madyn.dataset import layout
from madyn.dataset.files import is_there, sha256, write_json
from madyn.dataset.schema import Count, Line, Name, Number, Step, read_as
from madyn.dataset.seals import canonical, sealed
from madyn.errors import one_line

_MOST_BYTES = 1 << 25


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How one model was trained.

    Attributes:
        plan: all that determines the run, as JSON: suite, blueprint, seed, recipe, text, measure, threads, device.
        parameters: the number of the model's parameters.
        losses: by measured step: `train`, the mean loss of the updates since the measured step before (None at the
            first), and `held_out`, that on text that is not learned from; nats a token.
        complete: all steps were made.
        failure: why they were not, where the run itself was at fault.
    """

    plan: dict[Name, Any]
    parameters: Count
    losses: Annotated[dict[Step, dict[Name, Number | None]], MaxLen(100_000)] = field(default_factory=dict)
    complete: bool = False
    failure: Line | None = None

    @property
    def run_sha256(self) -> str:
        """Which run this is: what its units and its saved state carry."""
        return hash_plan(self.plan)


def hash_plan(plan: Mapping[str, Any]) -> str:
    """The hash of all that determines a run; what its suite is called does not."""
    told = {key: value for key, value in plan.items() if key != "suite"}
    return sha256(canonical(told).encode())


def write_record(root: Path, model: str, record: TrainingRecord) -> None:
    value = asdict(record)
    value["failure"] = record.failure and one_line(record.failure, 2000)
    value["losses"] = {str(step): losses for step, losses in sorted(record.losses.items())}
    write_json(layout.inside(root, layout.training_path(root, model)), sealed(value, model))


def read_record(root: Path, model: str) -> TrainingRecord | None:
    """The record of a model; None for one that no lab has trained.

    Raises:
        DatasetError: the file is not what `write_record` writes. Fields of later versions are passed over.
    """
    path = layout.training_path(root, model)
    if not is_there(path):
        return None
    return read_as(path, TrainingRecord, _MOST_BYTES, "a training record of madyn")
