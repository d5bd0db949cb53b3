"""A dataset written for other programs: Parquet, CSV, or Zarr.

Every format has the same tables (see `tidy`), a file each: the statistics in long form, which are written block by
block and never held whole, the parameter table, the fits, the models, the losses. In Zarr the statistics are arrays
instead, a group a model with the dimensions step, sequence, layer; the small tables lie beside it as CSV. The folder
appears when all of it is written, and the same dataset gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.dataset import table_cells
from madyn.dataset.files import is_local, list_folder, root_path, storage_error
from madyn.dataset.partial import making_folder
from madyn.dataset.tidy import BLOCK, STATISTICS, VALUES, Sizes, small_tables, sound_models, statistics_blocks
from madyn.dataset.view import Dataset, open_dataset
from madyn.errors import DatasetError, StorageError, UsageError, missing_dependency, one_of

if TYPE_CHECKING:
    import xarray as xr

TABLE_NAMES = ("statistics", "parameters", "fits", "models", "losses")
_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".zarr")


@dataclass(frozen=True)
class Export:
    """What `export_dataset` wrote.

    Attributes:
        path: the folder.
        rows: of each file, by its name, statistics first; for arrays, the rows that they would be.
        absent: why a table is not there, by its name.
    """

    path: Path
    rows: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def export_dataset(dataset: str | Path | Dataset, out: str | Path, format: str = "parquet") -> Export:
    """Write a dataset's statistics, parameter table, models and losses for other programs.

    Args:
        dataset: as for `open_dataset`.
        out: a folder, which appears when all is written. An earlier export in it is replaced.
        format: parquet, csv (the statistics gzipped), or zarr.

    Raises:
        UsageError: there is no such format.
        DatasetError: there is no such dataset, or no statistics in it are sound.
        StorageError: the folder cannot be written, or holds something else than an export.
        MissingDependencyError: pyarrow or zarr is not installed.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> export = madyn.dataset.export_dataset(root, root / "tables", format="csv")
    >>> sorted(path.name for path in (root / "tables").iterdir())
    ['models.csv', 'statistics.csv.gz']
    """
    write = _WRITERS[one_of("format", format, _WRITERS)]
    opened, folder = open_dataset(dataset), root_path(out)
    _refuse(folder)
    try:
        with making_folder(folder, replace=True) as partial:
            rows, absent = write(opened, partial)
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    except OSError as e:
        raise storage_error(folder, e) from e
    return Export(folder, rows, absent)


def _refuse(folder: Path) -> None:
    """Refuse a folder in which something lies that no export has made."""
    if not is_local(folder):
        raise UsageError(f"{folder}: an export is written into a folder of this machine; give one with --out")
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file; an export is a folder: give another with --out")
    own = {f"{table}{suffix}" for table in TABLE_NAMES for suffix in _SUFFIXES}
    other = sorted(path.name for path in list_folder(folder) if path.name not in own)
    if other:
        raise StorageError(
            f"{folder} holds {other[0]!r}, which is no part of an export; give a folder that is new or empty with --out"
        )


def _some(dataset: Dataset, rows: int) -> int:
    if not rows:
        raise DatasetError(f"{dataset.path}: no statistics in it are sound; see `madyn check {dataset.path}`")
    return rows


Written = tuple[dict[str, int], dict[str, str]]
"""The rows of each file, and why a table is absent."""


# Parquet -------------------------------------------------------------------------------------------------------------


def write_parquet(dataset: Dataset, folder: Path) -> Written:
    """Write all tables into a folder that is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, sizes = 0, {}
    models, schema = pa.array(list(dataset), pa.string()), _schema()
    labels: Any = ["model", "step", "sequence", "layer"]  # pyarrow's types know a truth value alone
    with pq.ParquetWriter(folder / "statistics.parquet", schema, compression="zstd", use_dictionary=labels) as writer:
        for block in statistics_blocks(dataset, sizes):
            code = pa.array([dataset.models.index(block["model"].iloc[0])] * len(block), pa.int32())
            values = [pa.array(block[name].to_numpy(), schema.field(name).type) for name in schema.names[1:]]
            columns = [pa.DictionaryArray.from_arrays(code, models), *values]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=len(block))
            rows += len(block)
    tables, absent = small_tables(dataset, sizes)
    for name, table in tables.items():
        arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(arrow, folder / f"{name}.parquet", compression="zstd")
    counts = {f"{name}.parquet": len(table) for name, table in tables.items()}
    return {"statistics.parquet": _some(dataset, rows), **counts}, absent


def _schema() -> Any:
    """Types and, for readers that show it, what each column holds."""
    import pyarrow as pa

    types = {"model": pa.dictionary(pa.int32(), pa.string()), "step": pa.int64()}
    types |= dict.fromkeys(("sequence", "layer"), pa.int32()) | dict.fromkeys(VALUES, pa.float64())
    return pa.schema(
        [
            pa.field(name, types[name], False, {"description": one.about, **({"unit": one.unit} if one.unit else {})})
            for name, one in STATISTICS.items()
        ]
    )


# CSV -----------------------------------------------------------------------------------------------------------------


def _write_csv(dataset: Dataset, folder: Path) -> Written:
    rows, sizes = 0, {}
    # No name and no time in its header, so that the same dataset gives the same bytes.
    with (
        (folder / "statistics.csv.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        text.write(f"{','.join(STATISTICS)}\n")
        for block in statistics_blocks(dataset, sizes):
            block.to_csv(text, header=False, index=False, lineterminator="\n")
            rows += len(block)
    counts, absent = _write_small(dataset, folder, sizes)
    return {"statistics.csv.gz": _some(dataset, rows), **counts}, absent


def _write_small(dataset: Dataset, folder: Path, sizes: Sizes) -> Written:
    """Tables as CSV, in which no text is a formula to a spreadsheet (see `table_cells`)."""
    tables, absent = small_tables(dataset, sizes)
    for name, table in tables.items():
        text = table.select_dtypes("str").columns
        safe = table.assign(**{column: table[column].map(table_cells.escape, na_action="ignore") for column in text})
        safe.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    return {f"{name}.csv": len(table) for name, table in tables.items()}, absent


# Zarr ----------------------------------------------------------------------------------------------------------------


def _write_zarr(dataset: Dataset, folder: Path) -> Written:
    zarr = import_module("zarr")  # xarray would say less clearly that it is not there
    rows, sizes = 0, {}
    for model, values in sound_models(dataset, sizes):
        arrays = _labelled(model, values)
        size = values.sizes["sequence"] * values.sizes["layer"]
        chunk = (min(values.sizes["step"], max(1, BLOCK // size)), values.sizes["sequence"], values.sizes["layer"])
        # The second version of the format: what reads the third reads it too.
        arrays.to_zarr(
            folder / "statistics.zarr", group=model, mode="a", zarr_format=2, consolidated=False,
            encoding={name: {"chunks": chunk} for name in VALUES},
        )  # fmt: skip
        rows += size * values.sizes["step"]
    if sizes:
        zarr.consolidate_metadata(folder / "statistics.zarr")  # once, since it reads all that there is
    counts, absent = _write_small(dataset, folder, sizes)
    return {"statistics.zarr": _some(dataset, rows), **counts}, absent


def _labelled(model: str, values: xr.DataArray) -> xr.Dataset:
    """A model's statistics, a variable a quantity, with what each is in words."""
    import numpy as np
    import xarray as xr

    quantities = {name: values.sel(quantity=name, drop=True) for name in VALUES if name != "ratio"}
    with np.errstate(divide="ignore", invalid="ignore"):
        quantities["ratio"] = quantities["top1"] / quantities["median"]
    arrays = xr.Dataset({name: one.transpose("step", "sequence", "layer") for name, one in quantities.items()})
    for name in (*VALUES, "step", "sequence", "layer"):
        about = STATISTICS[name]
        arrays[name].attrs = {"long_name": about.about, **({"units": about.unit} if about.unit else {})}
    arrays.attrs = {"model": model}
    return arrays


_WRITERS: Mapping[str, Callable[[Dataset, Path], Written]] = {
    "parquet": write_parquet,
    "csv": _write_csv,
    "zarr": _write_zarr,
}
FORMATS = tuple(_WRITERS)
