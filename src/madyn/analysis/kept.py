"""Learned priors that are kept: learning one from a hundred runs takes a minute, and every forecast of a run needs it.

A prior is kept in the user's cache as JSON, under a name made of everything that it was learned from: the numbers
themselves, what was asked, madyn's version and the format's. A file that is damaged, or is not what its name says, is
as good as none; a cache that cannot be written to is done without.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import madyn
from madyn.curves.bayes.priors import Prior
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.dataset.files import read_json, sha256, write_json
from madyn.dataset.leftovers import sweep_beside
from madyn.errors import DatasetError, StorageError, UsageError

FORMAT = 1
_IN_FILES = {"proportional_share": "growth"}
"""Fields of a prior that keep their first name in files."""

_UNITS = ("range", "level", "given")


def learned_once(
    learn: Callable[[], Prior], hypothesis: SeparableModel, arrays: Sequence[NDArray[Any]], asked: dict[str, Any]
) -> Prior:
    """The prior that `learn` gives, learned only if it is not kept already.

    Args:
        learn: learns it.
        hypothesis: the curve; a user's own is learned every time, since a function cannot be told from another.
        arrays: what is learned from.
        asked: all else that it depends on, as JSON takes it.
    """
    if HYPOTHESES.get(hypothesis.name) is not hypothesis:
        return learn()
    key = _key(hypothesis, arrays, asked)
    path = folder() / f"{hypothesis.name}-{key[:32]}.json"
    kept = _read(path, hypothesis, key)
    if kept is not None:
        return kept
    prior = learn()
    with suppress(StorageError):  # a home that is full or read-only: the next call learns it again
        sweep_beside(path)
        write_json(path, {"format": FORMAT, "key": key, **_as_json(prior)})
    return prior


def folder() -> Path:
    """Where priors are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("madyn") / "priors"


def _key(hypothesis: SeparableModel, arrays: Sequence[NDArray[Any]], asked: dict[str, Any]) -> str:
    said = json.dumps([FORMAT, madyn.__version__, hypothesis.name, asked, [[str(a.dtype), a.shape] for a in arrays]])
    return sha256(said.encode(), *(np.ascontiguousarray(array).tobytes() for array in arrays))


def _as_json(prior: Prior) -> dict[str, Any]:
    values = {_IN_FILES.get(f.name, f.name): getattr(prior, f.name) for f in fields(prior) if f.name != "hypothesis"}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _read(path: Path, hypothesis: SeparableModel, key: str) -> Prior | None:
    """The prior in a file; None where there is none, or not this one."""
    try:
        content = read_json(path)
    except DatasetError:
        return None
    if not isinstance(content, dict) or (content.pop("format", None), content.pop("key", None)) != (FORMAT, key):
        return None
    try:
        return _from_json(hypothesis, content)
    except (UsageError, TypeError, ValueError, OverflowError):
        return None


def _from_json(hypothesis: SeparableModel, content: dict[str, Any]) -> Prior:
    """Raises one of several errors where the values are not those of a prior."""
    prior = Prior.default(hypothesis)
    names = {_IN_FILES.get(f.name, f.name): f.name for f in fields(prior) if f.name != "hypothesis"}
    if set(content) != set(names):
        raise ValueError("other fields")
    values: dict[str, Any] = {}
    for in_file, value in content.items():
        name = names[in_file]
        kind = getattr(prior, name)
        if isinstance(kind, (str, bool)):
            values[name] = value
            if type(value) is not type(kind):
                raise TypeError(name)
            continue
        numbers = np.array(value, float)
        if numbers.shape != np.shape(kind) or not np.isfinite(numbers).all():
            raise ValueError(name)
        values[name] = numbers if isinstance(kind, np.ndarray) else numbers.tolist()
        if isinstance(kind, tuple):
            values[name] = tuple(values[name])
    if values["units"] not in _UNITS or values["widening"] < 1:
        raise ValueError("units or widening")
    return replace(prior, **values)
