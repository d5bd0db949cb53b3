"""What a card says of a dataset, taken from its tables and manifests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madyn.checking.manifests import failures_of
from madyn.checking.records import Records
from madyn.dataset import Dataset, layout
from madyn.dataset.manifest import ProbeRecord, Unit, read_probe
from madyn.errors import DatasetError


@dataclass(frozen=True)
class Facts:
    """All that a card is made from.

    Attributes:
        rows: of each table, by name; those that are absent are not in it.
        models: of each, a row of the table `models`, with `largest_ratio` at the last step and in which layer.
        hypotheses: the curves that were fitted.
        probe: the text that was measured on, where it is known.
        units: of each model, its manifests by step.
        failures: what could not be measured, a sentence each, with no path of this machine.
        pictures: their paths in the dataset.
        folders: that are published, their names at the root or below a model.
        beside: the files at the root.
    """

    rows: dict[str, int]
    models: list[dict[str, Any]]
    hypotheses: list[str]
    probe: ProbeRecord | None
    units: dict[str, dict[int, Unit]]
    failures: list[str]
    pictures: list[str]
    folders: frozenset[str]
    beside: frozenset[str]


def gather(
    dataset: Dataset, records: Mapping[str, Records], tables: Path, rows: Mapping[str, int], paths: Iterable[str]
) -> Facts:
    """The facts of a dataset whose tables are written as Parquet.

    Args:
        records: of all models.
        tables: the folder that they are in.
        rows: of each of its files.
        paths: what is published of the dataset's own files.

    Raises:
        DatasetError: steps are missing in the tables, since they are damaged.
    """
    import pandas as pd

    parts = [tuple(path.split("/")) for path in paths]

    models = pd.read_parquet(tables / "models.parquet", dtype_backend="numpy_nullable")
    known = [
        {**{name: None if pd.isna(value) else value for name, value in row.items()}, **_at_the_end(tables, row)}
        for row in models.to_dict("records")
    ]
    for one in known:
        if one["steps"] != len(dataset.steps(one["model"])):
            raise DatasetError(f"{one['model']}: some of its steps are damaged; see `madyn check {dataset.path}`")
    try:
        probe = read_probe(dataset.path)
    except DatasetError:
        probe = None
    failed = [fault for one in records.values() for fault in failures_of(one)]
    return Facts(
        rows={Path(name).stem: count for name, count in rows.items()},
        models=sorted(known, key=lambda one: (one["parameters"] or math.inf, one["model"])),
        hypotheses=_hypotheses(dataset),
        probe=probe,
        units={model: one.units for model, one in records.items()},
        failures=[fault.replace(f"{dataset.path}/", "") for fault in failed],
        pictures=["/".join(one) for one in parts if one[-1].endswith(".png")],
        folders=frozenset(name for one in parts for name in one[:-1]),
        beside=frozenset(one[0] for one in parts if len(one) == 1),
    )


def _at_the_end(tables: Path, row: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd

    found: Any = pd.read_parquet(
        tables / "statistics.parquet",
        columns=["layer", "ratio"],
        filters=[("model", "==", row["model"]), ("step", "==", row["last_step"])],
    )
    ratio = found.groupby("layer")["ratio"].mean().dropna()
    if not len(ratio):
        return {"largest_ratio": None, "in_layer": None}
    return {"largest_ratio": float(ratio.max()), "in_layer": int(ratio.to_numpy().argmax())}


def _hypotheses(dataset: Dataset) -> list[str]:
    names: dict[str, None] = {}
    for model in dataset:
        for quantity in layout.FITTED_QUANTITIES:
            for layer in dataset.readable_fits(model, quantity) or ():
                names |= dict.fromkeys(layer)
    return list(names)
