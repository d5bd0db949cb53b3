"""Drawing architectures from a space-filling design, so that no factor stands for another.

In a suite like Pythia everything grows together, and nothing can be told apart. Here the factors' levels are spread
evenly and independently: scrambled Sobol points (Owen 1998) in the unit cube of the factors are moved to the nearest
shapes that can be built, a level having an equal share of its axis, and of many such designs the one is kept whose
largest correlation between two factors, numbers by their logarithm, is least.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from madyn.architecture import DERIVED, REQUIRED, solved
from madyn.errors import ArchitectureError, UsageError
from madyn.features import features_of
from madyn.lab.blueprints import Blueprint

_TRIALS = 400
_CANDIDATES = 200_000

Levels = Mapping[str, Sequence[Any]]


def draw_design(factors: Levels, fixed: Mapping[str, Any], count: int, seed: int) -> list[Blueprint]:
    """Distinct architectures that spread over the factors' levels.

    Args:
        factors: the levels of each factor; a factor is a field of `Blueprint`, or what stands in for one.
        fixed: fields that all have in common.

    Raises:
        UsageError: a factor has no levels, or fewer shapes than asked for can be built of them.
    """
    candidates = _feasible(factors, fixed)
    if len(candidates) < count:
        raise UsageError(f"the design asks for {count} architectures, and its levels give {len(candidates)}")
    points = [values for values, _ in candidates]
    shares = np.array(
        [[(levels.index(p[name]) + 0.5) / len(levels) for name, levels in factors.items()] for p in points]
    )
    chosen = _choose(shares, coordinates(points, factors), count, seed)
    return [candidates[i][1] for i in chosen]


def coordinates(points: Sequence[Mapping[str, Any]], factors: Levels) -> np.ndarray:
    """Where points lie in the unit cube of the factors, shape (points, factors): numbers by their logarithm."""
    columns = []
    for name, levels in factors.items():
        scale = {level: math.log(level) if _is_number(level) else float(i) for i, level in enumerate(levels)}
        low, high = min(scale.values()), max(scale.values())
        columns.append([(scale[point[name]] - low) / (high - low or 1.0) for point in points])
    return np.array(columns).T


def largest_correlation(places: np.ndarray) -> float:
    """The largest absolute correlation between two columns; 0 where there is one, or where one does not vary."""
    moving = places[:, places.std(axis=0) > 0]
    if moving.shape[1] < 2:
        return 0.0
    r = np.corrcoef(moving.T)
    return float(np.abs(r[np.triu_indices_from(r, 1)]).max())


def spread_out(places: np.ndarray, count: int) -> list[int]:
    """So many of the points, far from one another: the most central, then each time the farthest from all taken."""
    if count < 1:
        return []
    taken = [int(np.linalg.norm(places - places.mean(axis=0), axis=1).argmin())]
    while len(taken) < min(count, len(places)):
        distances = np.linalg.norm(places[:, None] - places[None, taken], axis=2).min(axis=1)
        taken.append(int(distances.argmax()))
    return taken


def _feasible(factors: Levels, fixed: Mapping[str, Any]) -> list[tuple[dict[str, Any], Blueprint]]:
    for name, levels in factors.items():
        if not levels:
            raise UsageError(f"the design's factor {name} has no levels")
        if len(set(levels)) < len(levels) or any(_is_number(level) and level <= 0 for level in levels):
            raise UsageError(f"the design's factor {name}: its levels must differ from one another, and be positive")
    total = math.prod(len(levels) for levels in factors.values())
    if total > _CANDIDATES:
        raise UsageError(f"the design's levels give {total} combinations; at most {_CANDIDATES} can be looked at")
    found: dict[Blueprint, dict[str, Any]] = {}
    refused: UsageError | None = None
    for levels in itertools.product(*factors.values()):
        values = dict(zip(factors, levels, strict=True))
        try:
            found.setdefault(complete_shape({**fixed, **values}), values)
        except UsageError as e:
            refused = e
    if not found and refused is not None:
        raise UsageError(f"the design: none of its combinations can be built; of the last: {refused}")
    for name, levels in factors.items():
        unused = set(levels) - {values[name] for values in found.values()}
        if unused:
            raise UsageError(f"the design's factor {name}: no shape can be built with {sorted(unused, key=str)[0]!r}")
    return [(values, blueprint) for blueprint, values in found.items()]


def complete_shape(values: Mapping[str, Any]) -> Blueprint:
    """A blueprint from its fields, or from what stands in for one: the MLP's width, say, given as `mlp_ratio`.

    Raises:
        UsageError: a size is missing, or no such model can be built.
    """
    given = {name: value for name, value in values.items() if value is not None}
    missing = [name for name in features_of(Blueprint) if name in REQUIRED and name not in given]
    if missing:
        raise UsageError(f"a model needs {', '.join(missing)}")
    usual = {one.name: one.usual for one in DERIVED.values() if one.gives and one.gives not in given}
    try:
        return Blueprint(**solved({**usual, **given}))
    except ArchitectureError as e:
        raise UsageError(str(e)) from e


def _choose(shares: np.ndarray, places: np.ndarray, count: int, seed: int) -> list[int]:
    """Which candidates to take; `shares` are their places with the same room for every level, `places` by logarithm."""
    from scipy.spatial import KDTree
    from scipy.stats import qmc

    tree = KDTree(shares)
    near = min(len(shares), 4 * count)
    best: tuple[float, list[int]] = (math.inf, [])
    for trial in range(_TRIALS):
        sampler = qmc.Sobol(shares.shape[1], rng=np.random.default_rng([seed, trial]))
        points = sampler.random(1 << (count - 1).bit_length())[:count]
        taken: dict[int, None] = {}
        for row in np.atleast_2d(tree.query(points, k=near)[1]).reshape(count, -1):
            taken.setdefault(next(int(i) for i in row if int(i) not in taken))
        score = largest_correlation(places[list(taken)])
        if score < best[0]:
            best = (score, list(taken))
    return best[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
