"""Whether a folder is what the layout says, file by file: shapes, values, names, and whether fits match statistics.

`check_dataset` finds everything that is wrong instead of stopping at the first fault, and tells what is merely absent
(pictures that were not drawn, a step that failed) from what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from madyn.checking.fits import fit_faults
from madyn.checking.manifests import failures_of, manifest_faults, remarks_of
from madyn.checking.statistics import statistics_faults
from madyn.checking.table import table_faults
from madyn.dataset import layout, manifest, open_dataset
from madyn.dataset.repeats import describe_repeats
from madyn.errors import DatasetError


@dataclass
class CheckReport:
    """What was found: `faults` are wrong, `absences` are not there and need not be, `remarks` are worth knowing."""

    faults: list[str] = field(default_factory=list)
    absences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        first = f"\n {self.faults[0]}" if self.faults else ""
        return (
            f"<madyn CheckReport: {len(self.faults)} faults, {len(self.remarks)} remarks, {len(self.absences)} absences"
            f"{first}>"
        )


def check_dataset(path: str | Path) -> CheckReport:
    """Validate a dataset's layout, shapes and values.

    Raises:
        DatasetError: there is no dataset at all.
    """
    dataset = open_dataset(path)
    report = CheckReport()
    try:
        manifest.read_probe(dataset.path)
    except DatasetError as e:
        report.faults.append(str(e))
    for model in layout.manifest_models(dataset.path):
        if model not in dataset.models:
            report.faults += failures_of(dataset.path, model)
    for model in dataset:
        report.faults += statistics_faults(dataset, model)
        report.faults += manifest_faults(dataset, model, report.absences)
        for fault, said in describe_repeats(dataset, model):
            (report.faults if fault else report.remarks).append(f"{dataset.path / model}: {said}")
        report.faults += fit_faults(dataset, model, report.absences)
        report.remarks += remarks_of(dataset, model)
        for folder in ("series", "per_layer_evolution", "example_fits", "metrics"):
            if not any((dataset.path / model / folder).rglob("*.png")):
                report.absences.append(f"{dataset.path / model / folder}: no figures")
    report.faults += table_faults(dataset, report.absences)
    return report
