"""Whether a folder is what the layout says, file by file: shapes, values, names, and whether fits match statistics.

`check_dataset` finds everything that is wrong instead of stopping at the first fault, and tells what is merely absent
(pictures that were not drawn, a step that failed) from what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from madyn.checking.fits import fit_faults
from madyn.checking.lab import lab_faults, run_faults
from madyn.checking.manifests import failures_of, manifest_faults, remarks_of, training_faults
from madyn.checking.monitors import monitor_faults
from madyn.checking.records import Records, read_records
from madyn.checking.statistics import statistics_faults
from madyn.checking.table import table_faults
from madyn.checking.units import location_faults, probe_faults, unit_faults
from madyn.dataset import Dataset, layout, open_dataset
from madyn.dataset.files import is_local
from madyn.dataset.leftovers import find_leftovers
from madyn.dataset.repeats import describe_repeats
from madyn.errors import MadynError, one_line

_LEFT = "left by a process that was killed as it wrote; the next command that writes here removes it"


@dataclass
class CheckReport:
    """What was found: `faults` are wrong, `absences` are not there and need not be, `remarks` are worth knowing."""

    faults: list[str] = field(default_factory=list)
    absences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def take(self, where: Path, find: Callable[[], Iterable[str]]) -> None:
        """Add the faults that a part of the check finds. Nothing that a file holds stops the rest of the check: what a
        part was not prepared for is a fault too, of the file or the folder that it looked into.

        >>> report = CheckReport()
        >>> report.take(Path("file"), lambda: ["file: it is empty"])
        >>> report.faults
        ['file: it is empty']
        """
        try:
            for fault in find():
                self.faults.append(fault)
        except MadynError as e:
            self.faults.append(str(e))
        except Exception as e:
            self.faults.append(f"{where}: cannot be checked: {type(e).__name__}: {one_line(e, 200)}")

    def __repr__(self) -> str:
        first = f"\n {self.faults[0]}" if self.faults else ""
        return (
            f"<madyn CheckReport: {len(self.faults)} faults, {len(self.remarks)} remarks, {len(self.absences)} absences"
            f"{first}>"
        )


def _unread(root: Path) -> Iterator[str]:
    for path in layout.unread(root):
        yield f"{path}: not read: {_of_no_name(path)}"


def _links(root: Path, remarks: list[str]) -> Iterator[str]:
    """Remarks on links that nothing is written through, or that give one model two names; faults of what should be a
    folder and is none."""
    if not is_local(root):
        return
    for name in ("manifest", "locations", "positions", "training", "monitor"):
        if (root / name).exists() and not (root / name).is_dir():
            yield f"{root / name}: not a folder; move it away"
    whole = root.resolve()
    for pattern in ("*", "*/stats", "*/params", "*/params/*"):
        for path in sorted(p for p in root.glob(pattern) if p.is_symlink() and not p.name.startswith(".")):
            there = path.resolve()
            if not there.is_relative_to(whole):
                remarks.append(f"{path}: a link that leads out of the dataset, to {there}; it is read, never written")
            elif (there / "stats").is_dir():
                remarks.append(f"{path}: a link to the model {there.name}: what is made of one is written to the other")


def _of_no_name(path: Path) -> str:
    if path.is_dir():
        return f"no name for a model (it {layout.fault_of_name(path.name)}); give it another"
    return "no name of a unit of the layout, or a second one of its step; a step is a whole number from 0 to 2^53"


def check_dataset(path: str | Path | Dataset) -> CheckReport:
    """Validate a dataset's layout, shapes, values and hashes, and hold what was derived against what it came from.

    Raises:
        DatasetError: there is no dataset at all.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> madyn.checking.check_dataset(root).faults
    []
    """
    dataset = open_dataset(path)
    root, report = dataset.path, CheckReport()
    report.take(layout.probe_path(root), lambda: probe_faults(root))
    report.take(root, partial(_unread, root))
    report.take(root, partial(_links, root, report.remarks))
    known: dict[str, Records] = {}
    for model in layout.manifest_models(root):
        if model not in dataset.models:
            known[model] = read_records(root, model)
            report.take(root / "manifest" / model, partial(failures_of, known[model]))
            report.take(root / "manifest" / model, partial(run_faults, known[model]))
    for model in dataset:
        folder, units = root / model, root / "manifest" / model
        known[model] = records = read_records(root, model)
        report.take(layout.statistics_folder(root, model), partial(statistics_faults, records))
        report.take(units, partial(manifest_faults, records, report.absences))
        report.take(units, partial(unit_faults, records))
        report.take(units, partial(run_faults, records))
        report.take(root / "locations" / model, partial(location_faults, dataset, model))
        report.take(layout.training_path(root, model), partial(training_faults, records))
        report.take(folder, partial(_repeats, dataset, records, report.remarks))
        report.take(folder / "params", partial(fit_faults, dataset, model, report.absences))
        report.remarks += remarks_of(records)
        for pictures in ("series", "per_layer_evolution", "example_fits", "metrics"):
            if not any((folder / pictures).rglob("*.png")):
                report.absences.append(f"{folder / pictures}: no figures")
    report.take(root / layout.PARAMETER_TABLE, partial(table_faults, dataset, report.absences))
    report.take(root / "training", partial(lab_faults, root, known))
    report.take(layout.monitor_folder(root), partial(monitor_faults, root, known))
    report.faults = list(dict.fromkeys(report.faults))
    report.remarks += [f"{path}: {_LEFT}" for path in find_leftovers(root)]
    return report


def _repeats(dataset: Dataset, records: Records, remarks: list[str]) -> Iterator[str]:
    for fault, said in describe_repeats(dataset, records.model, records.units):
        if fault:
            yield f"{dataset.path / records.model}: {said}"
        else:
            remarks.append(f"{dataset.path / records.model}: {said}")
