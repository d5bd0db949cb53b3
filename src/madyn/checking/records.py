"""What the manifests and the training record of a model say, read once for all that is checked in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from madyn.dataset import layout, manifest
from madyn.dataset.training import TrainingRecord, read_record
from madyn.errors import DatasetError


@dataclass(frozen=True)
class Records:
    """The records of one model of a dataset.

    Attributes:
        root: the dataset's folder.
        units: the manifests that can be read, by step.
        damaged_units: what is wrong with the others, a sentence each.
        training: its record, if a lab trained the model.
        damaged_training: what is wrong with that, where it cannot be read.
        manifests, measured: the files of manifests and of statistics, by step.
        unit_faults: why units that have statistics do not count as measured, a sentence each.
    """

    root: Path
    model: str
    units: dict[int, manifest.Unit]
    damaged_units: list[str]
    training: TrainingRecord | None
    damaged_training: str | None
    manifests: dict[int, Path]
    measured: dict[int, Path]
    unit_faults: list[str]

    @property
    def damaged(self) -> list[str]:
        """What is wrong with all that cannot be read, or is not what was measured."""
        training = [self.damaged_training] if self.damaged_training else []
        return list(dict.fromkeys([*self.damaged_units, *self.unit_faults, *training]))

    @property
    def again(self) -> str:
        """What is to be done where a unit is damaged: nothing is to be deleted, since what is there may be the last."""
        if layout.training_path(self.root, self.model).exists():
            return "put it back, or run `madyn lab` again, which measures the step again"
        known = "put it back, or run" if self.manifests else "fetch it again, or run"
        return f"{known} `madyn trace` again with the step's checkpoint, which measures the step again"


def read_records(root: Path, model: str) -> Records:
    """The records of a model; none of them is needed for the others.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> madyn.checking.read_records(root, "tiny").units
    {}
    """
    units, damaged = manifest.read_sound_units(root, model)
    try:
        training, damaged_training = read_record(root, model), None
    except DatasetError as e:
        training, damaged_training = None, str(e)
    manifests, measured = layout.manifest_files(root, model), layout.statistics_files(root, model)
    faults = [fault for step, path in measured.items() for fault in manifest.faults_of(root, model, step, path)]
    return Records(root, model, units, damaged, training, damaged_training, manifests, measured, faults)
