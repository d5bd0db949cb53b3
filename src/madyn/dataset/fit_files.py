"""Fit files and the parameter table: `params/layer_fit_params*.json` and `fitted_param_dataset_reparam.csv`.

A fit file is a list by layer of {hypothesis: record}; a record has at least `param_names`, `popt`, `pcov`, `r2`, `aic`
and `residuals`, None standing for each number that is not available. The file for all quantities repeats the ratio's
records at the top of each layer, so that the card's example works on it, and holds all three quantities by name beside
them. Both forms are read, whoever wrote them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.dataset import layout
from madyn.dataset.files import read_bytes, read_json, write_json, write_text
from madyn.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

RECORD_KEYS = ("param_names", "popt", "pcov", "r2", "aic", "residuals")

PARAMETER_COLUMNS = {"param_A": "A1", "param_λ": "A2", "param_γ": "beta", "param_t0": "tau0", "param_K": "K"}
"""The columns of the table, and the parameter of the reparam curve that stands in each (the card's naming)."""

SHAPE_COLUMNS = (
    "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "rotary_pct", "rotary_emb_base",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip
"""The columns of the table that describe the model."""

CARD_COLUMNS = ("model", "layer_index", "layer_index_norm", *SHAPE_COLUMNS, *PARAMETER_COLUMNS)

_TEXT_COLUMNS = ("model", "model_type", "message", "method", "ratio_of", "bounds", "statistics_sha256", "madyn")
"""The columns whose cells are text, whatever they look like: a model may be called 007, NA or 1e5."""

_MISSING = ["", "nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "#N/A", "<NA>", "None", "null", "NULL"]

# One letter has several code points: Greek small letters against the micro-like mathematical ones, or their names.
_SPELLINGS = {
    "param_lambda": "param_λ", "param_lam": "param_λ", "param_𝜆": "param_λ", "param_𝛌": "param_λ",
    "param_gamma": "param_γ", "param_𝛾": "param_γ", "param_𝛄": "param_γ", "param_ɣ": "param_γ",
    "param_t₀": "param_t0", "param_t_0": "param_t0", "param_τ0": "param_t0", "param_k": "param_K", "param_Κ": "param_K",
    "param_a": "param_A", "param_Α": "param_A",
}  # fmt: skip

LayerRecords = Mapping[str, Mapping[str, Any]]
"""The records of one layer by hypothesis."""


def write_fit_records(root: Path, model: str, quantity: str, layers: Sequence[LayerRecords]) -> None:
    """Write one quantity's records, then the file for all quantities from those that there are."""
    write_json(layout.params_path(root, model, quantity), layers)
    by_quantity = {
        q: read_fit_records(root, model, q)
        for q in layout.FITTED_QUANTITIES
        if layout.params_path(root, model, q).exists()
    }
    combined: list[dict[str, Any]] = [dict(layer) for layer in by_quantity.get("ratio", [{}] * len(layers))]
    for q, records in by_quantity.items():
        if len(records) == len(combined):
            for layer, record in zip(combined, records, strict=True):
                layer[q] = record
    write_json(layout.params_path(root, model), combined)


def read_fit_records(root: Path, model: str, quantity: str) -> list[dict[str, dict[str, Any]]]:
    """The records of a quantity, a list by layer of {hypothesis: record}.

    They are taken from the quantity's own file, or from the file for all quantities in either of its forms.

    Raises:
        DatasetError: the model has no such fits, or a file is malformed.
    """
    own, combined = layout.params_path(root, model, quantity), layout.params_path(root, model)
    path = own if own.exists() else combined
    if not path.exists():
        raise DatasetError(f"{own}: no such file: {model} has no fits of the {quantity}; run `madyn fit` first")
    layers = read_json(path)
    if not isinstance(layers, list):
        raise DatasetError(f"{path}: expected a list by layer, found {type(layers).__name__}")
    return [_hypotheses(path, number, layer, quantity, whole=path == combined) for number, layer in enumerate(layers)]


def _hypotheses(path: Path, number: int, layer: Any, quantity: str, whole: bool) -> dict[str, dict[str, Any]]:
    if isinstance(layer, dict) and isinstance(layer.get(quantity), dict):
        layer = layer[quantity]
    elif whole and quantity != "ratio":
        raise DatasetError(f"{path}: layer {number}: no fits of the {quantity}")
    if not isinstance(layer, dict):
        raise DatasetError(f"{path}: layer {number}: expected hypotheses by name, found {type(layer).__name__}")
    found = {k: v for k, v in layer.items() if k not in layout.FITTED_QUANTITIES}
    for name, record in found.items():
        if not isinstance(record, dict) or "popt" not in record:
            raise DatasetError(f"{path}: layer {number}, hypothesis {name!r}: not a fit (it has no 'popt')")
    return found


def write_parameter_table(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table, the card's columns first, then all others in the order met; None becomes an empty cell."""
    text = io.StringIO()
    columns = dict.fromkeys([*CARD_COLUMNS, *(column for row in rows for column in row)])
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(root / layout.PARAMETER_TABLE, text.getvalue())


def read_table_rows(root: Path) -> list[dict[str, Any]]:
    """The rows of the table as they are written, cell by cell, under one spelling of the columns; none if it is absent.

    Raises:
        DatasetError: the table is malformed.
    """
    if not (root / layout.PARAMETER_TABLE).exists():
        return []
    columns = list(read_parameter_table(root).columns)
    text = _table_text(root)
    cells = list(csv.reader(io.StringIO(text)))[1:]
    return [dict(zip(columns, row, strict=True)) for row in cells if row]


def read_parameter_table(root: Path) -> pd.DataFrame:
    """The parameter table, its Greek column names brought to one spelling; unknown columns are kept.

    Raises:
        DatasetError: the table is missing, malformed, or lacks the model, the layer or a parameter.
    """
    import pandas as pd

    path = root / layout.PARAMETER_TABLE
    if not path.exists():
        raise DatasetError(f"{path}: no such file; run `madyn fit` first")
    try:
        text = _table_text(root)
        table = pd.read_csv(io.StringIO(text), keep_default_na=False, **_reading(text))
    except (ValueError, csv.Error, pd.errors.ParserError) as e:
        raise DatasetError(f"{path}: not a table: {e}") from e
    table = table.rename(columns={name: _one_spelling(name) for name in table.columns})
    missing = [c for c in ("model", "layer_index", *PARAMETER_COLUMNS) if c not in table.columns]
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}")
    return table


def _table_text(root: Path) -> str:
    return read_bytes(root / layout.PARAMETER_TABLE).decode("utf-8-sig")


def _one_spelling(column: Any) -> str:
    name = str(column).strip()
    return _SPELLINGS.get(name, name)


def _reading(text: str) -> dict[str, Any]:
    """How pandas is to read the columns: text as it is written, and only in numbers something that stands for none."""
    header = next(csv.reader(io.StringIO(text)), [])
    kinds = {column: _one_spelling(column) for column in header}
    missing = {column: [""] if kind in _TEXT_COLUMNS else _MISSING for column, kind in kinds.items()}
    return {
        "dtype": {column: str for column, kind in kinds.items() if kind in _TEXT_COLUMNS},
        "na_values": missing,
    }
