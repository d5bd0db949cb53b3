"""Training records: how a model of the lab was trained, and its losses on the way. `training/{model}.json`.

The published layout has no place for them; they stand beside it. One file a model, written anew at every measured
step by the process that trains the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from madyn.dataset import layout
from madyn.dataset.files import read_json, write_json
from madyn.errors import DatasetError


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

    plan: dict[str, Any]
    parameters: int
    losses: dict[int, dict[str, float | None]] = field(default_factory=dict)
    complete: bool = False
    failure: str | None = None


def write_record(root: Path, model: str, record: TrainingRecord) -> None:
    value = asdict(record)
    value["losses"] = {str(step): losses for step, losses in sorted(record.losses.items())}
    write_json(layout.training_path(root, model), value)


def read_record(root: Path, model: str) -> TrainingRecord | None:
    """The record of a model; None for one that no lab has trained.

    Raises:
        DatasetError: the file is not what `write_record` writes. Fields of later versions are passed over.
    """
    path = layout.training_path(root, model)
    if not path.exists():
        return None
    value = read_json(path)
    try:
        known = {f.name: value[f.name] for f in fields(TrainingRecord) if f.name in value}
        return TrainingRecord(**{**known, "losses": {int(step): dict(ls) for step, ls in value["losses"].items()}})
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise DatasetError(f"{path}: not a training record of madyn: {e}") from e
