"""What a predictor is told of a layer: its model's shape and its depth in it, and nothing that training reveals.

The features are those of Table 4 of Gallego-Feliciano et al. (arXiv 2508.03616) and the plain sizes beside them. Each
is one entry of `FEATURES`, computed from the columns of the published table, so that the same lines serve a table of
layers that were measured and an architecture that was never trained. Adding a feature is adding an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from madyn.architecture import Architecture
from madyn.errors import DatasetError

SHAPE_FIELDS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "rotary_pct",
    "rotary_emb_base",
)
"""The fields of an architecture that the features read: models that agree in all look the same to a predictor."""

# A model without rotary embeddings has no rotary settings, and older tables leave the columns out.
_MAY_BE_ABSENT = ("rotary_pct", "rotary_emb_base")


Columns = Mapping[str, NDArray[np.float64]]


def _depth(t: Columns) -> NDArray[np.float64]:
    """l/L from the layer's index: the table's own `layer_index_norm` counts differently."""
    return t["layer_index"] / t["num_hidden_layers"]


FEATURES: Mapping[str, Callable[[Columns], NDArray[np.float64]]] = {
    "l/L": _depth,
    "(l/L)^2": lambda t: _depth(t) ** 2,
    "(l/L)^3": lambda t: _depth(t) ** 3,
    "sqrt(l/L)": lambda t: _depth(t) ** 0.5,
    "H/d": lambda t: t["num_attention_heads"] / t["hidden_size"],
    "d_ff/d": lambda t: t["intermediate_size"] / t["hidden_size"],
    "d/L": lambda t: t["hidden_size"] / t["num_hidden_layers"],
    "H/L": lambda t: t["num_attention_heads"] / t["num_hidden_layers"],
    "log d": lambda t: np.log(t["hidden_size"]),
    "l*L": lambda t: t["layer_index"] * t["num_hidden_layers"],
    "hidden size": lambda t: t["hidden_size"],
    "layers": lambda t: t["num_hidden_layers"],
    "heads": lambda t: t["num_attention_heads"],
    "MLP width": lambda t: t["intermediate_size"],
    "rotary base": lambda t: t["rotary_emb_base"],
    "rotary share": lambda t: t["rotary_pct"],
}
"""The features by name. l is the layer, 0 for the first; L layers, H heads, d hidden size, d_ff MLP width."""


def features_of(parameters: pd.DataFrame) -> pd.DataFrame:
    """The features of every row of a parameter table.

    Returns:
        A row for each row of the table, under the same index, and a column for each feature. The rotary base is nan
        where a model has no rotary embeddings.

    Raises:
        DatasetError: a column is missing, or holds something other than finite numbers.
    """
    columns = _numbers(parameters, "layer_index", *SHAPE_FIELDS)
    return pd.DataFrame({name: formula(columns) for name, formula in FEATURES.items()}, index=parameters.index)


def feature_table(architecture: Architecture) -> pd.DataFrame:
    """The features of every layer of an architecture: L rows, the first layer first.

    >>> shape = Architecture(num_hidden_layers=6, hidden_size=128, num_attention_heads=4)
    >>> feature_table(shape)[["l/L", "H/d", "d_ff/d", "l*L"]].loc[3].tolist()
    [0.5, 0.03125, 4.0, 18.0]
    """
    layers = np.arange(architecture.num_hidden_layers)
    shape = {name: getattr(architecture, name) for name in SHAPE_FIELDS}
    return features_of(pd.DataFrame({"layer_index": layers, **shape}))


def architecture_groups(parameters: pd.DataFrame) -> pd.Series:
    """A number for each row, the same for models of one shape (runs with other seeds, say), counted from 0.

    Two models are of one shape where `SHAPE_FIELDS` agree. What no feature reads does not tell models apart here:
    a model left out whose twin stays in the training rows would not be unseen.
    """
    shapes = pd.DataFrame(dict(_numbers(parameters, *SHAPE_FIELDS)), index=parameters.index)
    return shapes.groupby(list(SHAPE_FIELDS), dropna=False, sort=False).ngroup()


def _numbers(parameters: pd.DataFrame, *names: str) -> Columns:
    """These columns of the table as floats; the rotary ones are nan where the table has none."""
    missing = [name for name in names if name not in parameters and name not in _MAY_BE_ABSENT]
    if missing:
        raise DatasetError(
            f"the parameter table has no column {', '.join(missing)}; "
            "it needs those of fitted_param_dataset_reparam.csv"
        )
    columns = {}
    for name in names:
        given = parameters[name] if name in parameters else pd.Series(np.nan, index=parameters.index)
        columns[name] = np.asarray(pd.to_numeric(given, errors="coerce"), float)
        wrong = np.flatnonzero(~np.isfinite(columns[name]))
        if len(wrong) and name not in _MAY_BE_ABSENT:
            raise DatasetError(
                f"column {name} of the parameter table holds {given.iloc[wrong[0]]!r} in its row {wrong[0] + 1}; "
                "it needs a number"
            )
    return columns
