"""What of a dataset's folder is published: the files of the layout, and nothing else that happens to lie there.

Locks, states of the lab, kept checkpoints and what a monitor noted (a run's first batch is in it) stay; so does
everything that has no name of the layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from madyn.checking.records import Records, read_records
from madyn.dataset import Dataset, layout
from madyn.dataset.files import is_local
from madyn.errors import DatasetError, UsageError

TABLES = "tables"
"""The folder of the tables that are made for the Hub."""

_BESIDE = (
    layout.PARAMETER_TABLE, "LICENSE", "manifest/probe.json", "training/tokenizer/*", "throughput.json",
)  # fmt: skip
_OF_MODEL = ("manifest/{}/*.json", "locations/{}/*.json", "positions/{}/*.json", "intervention/{}/*.json",
             "training/{}.json", "{}/params/*.json")  # fmt: skip
_PICTURES = ("{}/series/*.png", "{}/metrics/*.png", "{}/example_fits/**/*.png", "{}/per_layer_evolution/*.png",
             "analysis/{}/*.png")  # fmt: skip


def files_to_publish(dataset: Dataset, pictures: bool = True) -> dict[str, Path]:
    """The files of a dataset by their path in it, sorted.

    Raises:
        UsageError: it lies in no folder.
        StorageError: a link in it leads out of it.
    """
    root = dataset.path
    if not is_local(root):
        raise UsageError(f"{root}: a dataset is published from a folder; copy it into one first")
    found = sorted({path for path in _found(dataset, pictures) if path.is_file() and not layout.is_hidden(root, path)})
    if dataset.is_own_folder:  # the Hub's cache is all links
        found = [layout.inside(root, path) for path in found]
    return {path.relative_to(root).as_posix(): path for path in found}


def _found(dataset: Dataset, pictures: bool) -> Iterator[Path]:
    root = dataset.path
    patterns = list(_BESIDE) + (["analysis/*.png"] if pictures else [])
    for pattern in patterns:
        yield from root.glob(pattern)
    for model in dict.fromkeys((*dataset, *layout.manifest_models(root))):
        if model in dataset.models:
            yield from layout.statistics_files(root, model).values()
        for pattern in (*_OF_MODEL, *(_PICTURES if pictures else ())):
            folder, _, rest = pattern.partition("{}")  # a name may hold what a pattern has a use for
            if rest.startswith("/"):
                yield from (root / folder / model).glob(rest[1:])
            else:
                yield root / folder / f"{model}{rest}"


def records_of(dataset: Dataset) -> dict[str, Records]:
    """What is recorded of every model that something was tried with.

    Raises:
        DatasetError: something of a dataset is not what was measured, or cannot be read.
    """
    names = dict.fromkeys((*dataset, *layout.manifest_models(dataset.path)))
    records = {model: read_records(dataset.path, model) for model in names}
    faults = [fault for one in records.values() for fault in one.damaged]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DatasetError(f"{faults[0]}{more}; see `madyn check {dataset.path}`: what is damaged is not published")
    return records


def sources_on_this_machine(records: Mapping[str, Records]) -> list[str]:
    """What the manifests name as the source of a model and is a path of somebody's machine, sorted."""
    return sorted(
        {
            unit.source
            for one in records.values()
            for unit in one.units.values()
            if unit.source.startswith(("/", "~", "\\\\")) or unit.source[1:3] in (":\\", ":/")
        }
    )
