"""The prior that comes with madyn, for a run whose dataset has no finished runs of its kind: `data/young-runs.json`.

It is a population (`curves.population`) of tiny-suite's 162 models and of runs of other recipes, one for each
quantity, learned by `benchmarks/default_prior.py` and kept as numbers. The file is read as any other: what is not as it
should be is refused in one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import MaxLen, MinLen

from madyn.curves.population.populations import Population
from madyn.dataset.files import write_text
from madyn.dataset.schema import Line, Number, read_as
from madyn.errors import DatasetError, UsageError

SHIPPED = "tiny-suite"
"""What the prior is called, by most of what it was learned from."""

PATH = Path(str(files("madyn") / "data" / "young-runs.json"))

QUANTITIES = ("ratio", "top1", "median")
_STANDS_FOR = {"top2": "top1", "top3": "top1"}

_MOST = 200  # shares
_MOST_BYTES = 1 << 20
_DIGITS = 6
_Row = Annotated[list[Number], MinLen(1), MaxLen(_MOST)]


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    """A population; of `cov`, which is symmetric, each row up to the diagonal."""

    mean: _Row
    cov: Annotated[list[_Row], MinLen(1), MaxLen(_MOST)]
    noise: Number
    forgetting: Number
    dof: Number
    firmness: Number
    widening: Number
    growth: Number
    together: Number


@dataclass(frozen=True, kw_only=True)
class _Shipped:
    format: Literal[1]
    source: Line
    shares: _Row
    quantities: dict[Literal["ratio", "top1", "median"], _Numbers]


def shipped_population(quantity: str, path: Path = PATH) -> Population:
    """The population of a quantity; of top2 and top3, which it was not learned for, that of top1.

    Raises:
        UsageError: there is none.
        DatasetError: the file is damaged.
    """
    kept, name = _read(path), _STANDS_FOR.get(quantity, quantity)
    if name not in kept:
        raise UsageError(f"no prior comes with madyn for {quantity}; there is one for {', '.join(kept)}")
    return kept[name]


@cache
def _read(path: Path) -> dict[str, Population]:
    content: _Shipped = read_as(path, _Shipped, _MOST_BYTES, "the prior that comes with madyn")
    try:
        return {name: _population(content, own) for name, own in content.quantities.items()}
    except UsageError as e:
        raise DatasetError(f"{path}: {e}") from e


def _population(content: _Shipped, own: _Numbers) -> Population:
    size = len(content.shares)
    if [len(row) for row in own.cov] != list(range(1, size + 1)):
        raise UsageError(f"its covariances are not {size} rows of 1 to {size} numbers")
    cov = np.zeros((size, size))
    cov[np.tril_indices(size)] = np.concatenate(own.cov)
    cov += np.tril(cov, -1).T
    return Population(
        np.array(content.shares), np.array(own.mean), cov, own.noise, own.forgetting, own.dof, own.firmness,
        own.widening, own.growth, own.together, content.source,
    )  # fmt: skip


def write_shipped(path: Path, populations: Mapping[str, Population]) -> None:
    """Write populations that have one grid and one source, six digits a number. Raises StorageError."""
    first = next(iter(populations.values()))
    content = {
        "format": 1,
        "source": first.source,
        "shares": first.shares.tolist(),
        "quantities": {name: _as_json(population) for name, population in populations.items()},
    }
    write_text(path, json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n")


def _as_json(population: Population) -> dict[str, Any]:
    names = ("noise", "forgetting", "dof", "firmness", "widening", "growth", "together")
    return {
        "mean": [_short(value) for value in population.mean],
        "cov": [[_short(value) for value in row[: i + 1]] for i, row in enumerate(population.cov)],
        **{name: _short(getattr(population, name)) for name in names},
    }


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
