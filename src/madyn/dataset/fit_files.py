"""Fit files and the parameter table: `params/layer_fit_params*.json` and `fitted_param_dataset_reparam.csv`.

A fit file is a list by layer of {hypothesis: record}; a record has at least `param_names`, `popt`, `pcov`, `r2`, `aic`
and `residuals`, None standing for each number that is not available. The file for all quantities repeats the ratio's
records at the top of each layer, so that the card's example works on it, and holds all three quantities by name beside
them. Both forms are read, whoever wrote them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MaxLen

# From typing_extensions pydantic reads it on every Python; it comes with pydantic.
from typing_extensions import TypedDict

from madyn.architecture import CARD, FIELDS
from madyn.dataset import json_text, layout, seals, table_cells
from madyn.dataset.files import is_there, read_bytes, write_text
from madyn.dataset.schema import Line, Name, Number, hold_as, read_as
from madyn.dataset.table_cells import as_number
from madyn.errors import DatasetError, one_line

if TYPE_CHECKING:
    import pandas as pd

MOST_PARAMETERS = 32
"""Of a hypothesis: covariances grow with their square."""

_MOST_HYPOTHESES = 64
_MOST_LAYERS = 10_000
_Value = float  # others write NaN and Infinity for what is not available
_Numbers = list[_Value | None]
_Parameters = Annotated[_Numbers, MaxLen(MOST_PARAMETERS)]


class FitRecord(TypedDict, total=False):
    """What a record holds, whoever wrote it; it may hold more, which is left as it is."""

    param_names: Annotated[list[Name], MaxLen(MOST_PARAMETERS)] | None
    popt: _Parameters | None
    pcov: Annotated[list[_Parameters], MaxLen(MOST_PARAMETERS)] | None
    r2: _Value | None
    aic: _Value | None
    residuals: _Numbers | None
    aicc: _Value | None
    bic: _Value | None
    at_edge: Annotated[list[Name], MaxLen(MOST_PARAMETERS)]
    message: Line
    suspects: list[Number]
    provenance: dict[Name, Any] | None


_FitFile = Annotated[list[Annotated[dict[Name, Any], MaxLen(_MOST_HYPOTHESES)]], MaxLen(_MOST_LAYERS)]
_Layer = Annotated[dict[Name, FitRecord], MaxLen(_MOST_HYPOTHESES)]

RECORD_KEYS = ("param_names", "popt", "pcov", "r2", "aic", "residuals")

PARAMETER_COLUMNS = {"param_A": "A1", "param_λ": "A2", "param_γ": "beta", "param_t0": "tau0", "param_K": "K"}
"""The columns of the table, and the parameter of the reparam curve that stands in each (the card's naming)."""

CARD_COLUMNS = ("model", "layer_index", "layer_index_norm", *CARD, *PARAMETER_COLUMNS)

TEXT_COLUMNS = (
    "model",
    *(name for name, one in FIELDS.items() if one.cell == "text"),
    "message",
    "method",
    "ratio_of",
    "bounds",
    "robust",
    "statistics_sha256",
    "madyn",
)
"""The columns whose cells are text, whatever they look like: a model may be called 007, NA or 1e5."""

_KINDS = {
    "model": "name",
    "layer_index": "index",
    "layer_index_norm": "number",
    **{name: one.cell for name, one in FIELDS.items() if one.cell != "text"},
    **dict.fromkeys(PARAMETER_COLUMNS, "number"),
    **dict.fromkeys(("r2", "aic", "peak_step", "peak_height"), "number"),
    "last_step": "size",
}
"""What the cells of the known columns hold."""

LayerRecords = Mapping[str, Mapping[str, Any]]
"""The records of one layer by hypothesis."""


def write_fit_records(root: Path, model: str, made: Mapping[str, Sequence[LayerRecords]]) -> None:
    """Write a model's records of one or more quantities, each record with its seal, then the file for all quantities
    from those that there are.

    Args:
        made: the records by layer of each quantity that is new.
    """
    texts: dict[str, list[str]] = {}
    for quantity, layers in made.items():
        texts[quantity] = _layer_texts(
            [
                {
                    name: dict(record) if seals.KEY in record else seals.sealed(record, model, quantity, number, name)
                    for name, record in layer.items()
                }
                for number, layer in enumerate(layers)
            ]
        )
        _write_layers(layout.inside(root, layout.params_path(root, model, quantity)), texts[quantity])
    for quantity in layout.FITTED_QUANTITIES:
        if quantity not in texts and is_there(layout.params_path(root, model, quantity)):
            texts[quantity] = _layer_texts(read_fit_records(root, model, quantity))
    layers = next(iter(made.values()))
    together = texts.get("ratio", [_NO_RECORDS] * len(layers))
    for quantity in layout.FITTED_QUANTITIES:
        part = texts.get(quantity, [])
        if len(part) == len(together):
            together = [_with_quantity(*both, quantity) for both in zip(together, part, strict=True)]
    _write_layers(layout.inside(root, layout.params_path(root, model)), together)


_NO_RECORDS = json_text.encoded({})


def _layer_texts(layers: Sequence[LayerRecords]) -> list[str]:
    """Each layer's records as they stand in a file; what others wrote as NaN or infinity, for what is not available,
    as null."""
    try:
        return [json_text.encoded(layer, 1) for layer in layers]
    except ValueError:
        return [json_text.encoded(_finite_or_null(layer), 1) for layer in layers]


def _with_quantity(layer: str, records: str, quantity: str) -> str:
    """The text of a layer with a quantity's records under its name too: as text, since to encode them takes longer
    than to fit them."""
    mine = [layer[1:-1].strip()] if layer != _NO_RECORDS else []
    return json_text.joined([*mine, f'"{quantity}": {json_text.deeper(records)}'], 1, "{}")


def _write_layers(path: Path, layers: list[str]) -> None:
    write_text(path, f"{json_text.joined(layers, 0, '[]')}\n")


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite_or_null(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite_or_null(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_fit_records(root: Path, model: str, quantity: str) -> list[dict[str, dict[str, Any]]]:
    """The records of a quantity, a list by layer of {hypothesis: record}.

    They are taken from the quantity's own file, or from the file for all quantities in either of its forms.

    Raises:
        DatasetError: the model has no such fits, or a file is malformed.
    """
    own, combined = layout.params_path(root, model, quantity), layout.params_path(root, model)
    path = own if is_there(own) else combined
    if not is_there(path):
        raise DatasetError(f"{own}: no such file: {model} has no fits of the {quantity}; run `madyn fit` first")
    layers = read_as(path, _FitFile, what="fits by layer")
    return [_hypotheses(path, number, layer, quantity, whole=path == combined) for number, layer in enumerate(layers)]


def _hypotheses(
    path: Path, number: int, layer: dict[str, Any], quantity: str, whole: bool
) -> dict[str, dict[str, Any]]:
    if isinstance(layer.get(quantity), dict):
        layer = layer[quantity]
    elif whole and quantity != "ratio":
        raise DatasetError(f"{path}: layer {number}: no fits of the {quantity}")
    found = {k: v for k, v in layer.items() if k not in layout.FITTED_QUANTITIES}
    hold_as(found, _Layer, f"{path}: layer {number}")
    for name, record in found.items():
        wrong = _shape_fault(record)
        if wrong:
            raise DatasetError(f"{path}: layer {number}, hypothesis {one_line(repr(name), 60)}: {wrong}")
    return found


def _shape_fault(record: Mapping[str, Any]) -> str | None:
    """What of a record's lists does not belong together."""
    if "popt" not in record:
        return "not a fit (it has no 'popt')"
    names, popt, pcov = record.get("param_names") or [], record["popt"], record.get("pcov")
    if len(set(names)) < len(names):
        return "two parameters have one name"
    if popt is not None and len(popt) != len(names):
        return f"{len(popt)} values in popt for {len(names)} parameters"
    if pcov is not None and {len(pcov), *map(len, pcov)} != {len(names)}:
        return f"pcov is not {len(names)} x {len(names)}"
    return None


def write_parameter_table(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table, the card's columns first, then all others in the order met; None becomes an empty cell."""
    text = io.StringIO()
    columns = dict.fromkeys([*CARD_COLUMNS, *(column for row in rows for column in row)])
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: table_cells.written(value, name in TEXT_COLUMNS) for name, value in row.items()})
    write_text(layout.inside(root, root / layout.PARAMETER_TABLE), text.getvalue())


def shape_cells(shape: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cells that describe a model: those of the card's columns, and those that stand behind the parameters.

    Args:
        shape: the fields of an architecture as far as they are known.
    """
    cells = {name: shape.get(name) for name in FIELDS}
    return {name: cells.pop(name) for name in CARD}, cells


def shape_of(row: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an architecture from a row as `read_table_rows` gives it; None for one that is not there."""
    given = {name: one.cell == "text" for name, one in FIELDS.items() if name in row}
    return {name: (row[name] or None) if is_text else as_number(row[name]) for name, is_text in given.items()}


def read_table_rows(root: Path) -> list[dict[str, Any]]:
    """The rows of the table as they are written, cell by cell, under one spelling of the columns; none where there is
    no table yet, or an empty one.

    Raises:
        DatasetError: the table is malformed.
    """
    path = root / layout.PARAMETER_TABLE
    if not is_there(path) or not _table_text(path).strip():
        return []
    columns, rows, _ = _sound_cells(path)
    return [
        {
            name: table_cells.unescape(cell) if name in TEXT_COLUMNS else cell
            for name, cell in zip(columns, cells, strict=True)
        }
        for cells in rows
    ]


def read_parameter_table(root: Path) -> pd.DataFrame:
    """The parameter table, its Greek column names brought to one spelling; unknown columns are kept.

    Raises:
        DatasetError: the table is missing, empty, malformed, or lacks the model, the layer or a parameter; or a row has
            a cell too many or too few, or a cell that is not of its column's kind.
    """
    import pandas as pd

    path = root / layout.PARAMETER_TABLE
    if not is_there(path):
        raise DatasetError(f"{path}: no such file; run `madyn fit` first")
    columns, rows, _ = _sound_cells(path)
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    missing: dict[str, list[str]] = {
        name: [""] if name in TEXT_COLUMNS else list(table_cells.MISSING) for name in columns
    }
    try:
        table = pd.read_csv(
            io.StringIO(text.getvalue()),
            dtype={name: str for name in columns if name in TEXT_COLUMNS},  # pyright: ignore[reportArgumentType]
            na_values=missing,
            keep_default_na=False,
            low_memory=False,
            index_col=False,
        )
    except (ValueError, OverflowError, pd.errors.ParserError) as e:
        raise DatasetError(f"{path}: not a table: {one_line(e)}") from e
    for place, name in enumerate(columns):
        if name in TEXT_COLUMNS:
            table[name] = table[name].map(table_cells.unescape, na_action="ignore")
        elif _KINDS.get(name) == "number":  # to the last bit, which pandas does not promise
            table[name] = [math.nan if value is None else value for value in map(as_number, _column(rows, place))]
    return table


def _column(rows: list[list[str]], place: int) -> list[str]:
    return [cells[place] for cells in rows]


def _sound_cells(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns, rows and lines of a table whose known columns hold what they are to."""
    columns, rows, lines = table_cells.parse(str(path), _table_text(path))
    missing = [c for c in ("model", "layer_index", *PARAMETER_COLUMNS) if c not in columns]
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}")
    table_cells.refuse_values(str(path), columns, rows, lines, _KINDS)
    return columns, rows, lines


def _table_text(path: Path) -> str:
    try:
        return read_bytes(path, table_cells.MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DatasetError(f"{path}: not a table: byte {e.start} is not text") from e
