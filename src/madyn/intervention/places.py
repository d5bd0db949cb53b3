"""Which values an experiment changes: those that are massive, and as many others to compare them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.errors import UsageError, check_range, one_of
from madyn.massive import massive_published

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from madyn.measurement import Measurement

POSITIONS = ("all", "first", "delimiters")
CONTROLS = ("random", "of median size", "next largest", "same feature elsewhere")
MASSIVE = "massive"


@dataclass(frozen=True)
class Places:
    """Values of a layer's output, as many in every sequence; of one rank in all sequences a column.

    Attributes:
        positions, features: shape (B, n).
        values: what stands there untouched, shape (B, n).
    """

    positions: np.ndarray
    features: np.ndarray
    values: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """The mean over the sequences of the values of each rank, shape (n,)."""
        return self.values.mean(axis=0)


def places_at(hidden: list[torch.Tensor], positions: Any, features: Any) -> Places:
    """What stands at places that were chosen before, each of shape (B, n).

    Raises:
        UsageError: there are other sequences, or no such position or feature.
    """
    rows = [*zip(np.asarray(positions), np.asarray(features), strict=True)]
    inside = all(p.max() < len(state) and f.max() < state.shape[1] for state, (p, f) in zip(hidden, rows, strict=False))
    if len(rows) != len(hidden) or not inside:
        raise UsageError(f"places of {len(rows)} sequences, which are not all in the {len(hidden)} that were read")
    return _places(hidden, rows)


def choose_layer(measured: Measurement, layer: int | str) -> int:
    """The layer behind which values are changed: where massive activations arise, or the one that is asked for.

    They arise where the largest |h|, a mean over the sequences, grows most from one layer to the next.

    Raises:
        UsageError: there is no such layer; or none was asked for and nothing is massive there, by the published rule in
            any sequence or by the layer's own tail.
    """
    from madyn.massive import judge_tails

    top, median = measured.statistics[:, 0, :].astype(float), measured.statistics[:, -1, :].astype(float)
    count = top.shape[1]
    if layer != "auto":
        number = check_range("layer", layer, 0, 1 << 30)
        if number >= count:
            raise UsageError(f"layer is {number}; the model has {count}, 0 to {count - 1}")
        return number
    found = int(np.diff(top.mean(axis=0), prepend=0).argmax())
    tails = measured.tails
    assert tails is not None
    outlying = judge_tails(top, tails.values, tails.count, tails.features).massive
    if not (massive_published(top, median) | outlying)[:, found].any():
        ratio = top / median
        raise UsageError(
            f"no massive activation where the largest |h| grows most (layer {found}, {ratio[:, found].max():.1f} times "
            f"the median; the largest ratio of all layers is {ratio.max():.1f}); name a layer to change its largest "
            "values all the same"
        )
    return found


def choose_places(
    hidden: list[torch.Tensor], top: int, positions: str, is_delimiter: Callable[[int, int], bool] | None
) -> Places:
    """The largest |h| of every sequence.

    Args:
        hidden: of each sequence the layer's output, shape (S, d).
        top: how many.
        positions: "all", "first" (position 0 alone) or "delimiters".
        is_delimiter: whether the token at a position of a sequence is one.

    Raises:
        UsageError: a sequence has not so many values at such positions.
    """
    one_of("positions", positions, POSITIONS)
    top = check_range("top", top, 1, 1 << 20)
    rows = []
    for sequence, state in enumerate(hidden):
        allowed = np.ones(len(state), bool)
        if positions == "first":
            allowed[1:] = False
        elif positions == "delimiters":
            assert is_delimiter is not None
            allowed = np.array([is_delimiter(sequence, position) for position in range(len(state))])
        size = np.abs(_array(state)) * allowed[:, None] - (~allowed[:, None])
        if allowed.sum() * state.shape[1] < top:
            raise UsageError(f"sequence {sequence} has {allowed.sum()} positions of the kind {positions!r}: too few")
        order = np.argsort(-size, axis=None, kind="stable")[:top]
        rows.append(np.stack(np.unravel_index(order, size.shape)))
    return _places(hidden, rows)


def control_places(hidden: list[torch.Tensor], massive: Places, seed: int) -> Iterator[tuple[str, Places]]:
    """Of each control as many values as are massive, by its name.

    random: any others of the sequence. Of median size: those whose |h| is nearest to the sequence's median. Next
    largest: those that follow in size, of other features, at the positions of the massive ones. Same feature
    elsewhere: the massive features, at positions where nothing is changed.
    """
    draws = np.random.default_rng(seed)
    pick = {
        "random": _random, "of median size": _of_median_size, "next largest": _next_largest,
        "same feature elsewhere": _elsewhere,
    }  # fmt: skip
    for name in CONTROLS:
        rows = []
        for sequence, state in enumerate(hidden):
            taken = massive.positions[sequence], massive.features[sequence]
            rows.append(pick[name](np.abs(_array(state)), taken, draws))
        if all(len(row[0]) == massive.positions.shape[1] for row in rows):
            yield name, _places(hidden, rows)


def _random(size: np.ndarray, taken: Any, draws: np.random.Generator) -> Any:
    free = np.ones(size.shape, bool)
    free[taken] = False
    return np.unravel_index(draws.choice(np.flatnonzero(free), len(taken[0]), replace=False), size.shape)


def _of_median_size(size: np.ndarray, taken: Any, draws: np.random.Generator) -> Any:
    distance = np.abs(size - np.median(size))
    distance[taken] = np.inf
    return np.unravel_index(np.argsort(distance, axis=None, kind="stable")[: len(taken[0])], size.shape)


def _next_largest(size: np.ndarray, taken: Any, draws: np.random.Generator) -> Any:
    left = np.full(size.shape, -1.0)
    positions = np.unique(taken[0])
    left[positions] = size[positions]
    left[:, np.unique(taken[1])] = -1
    order = np.argsort(-left, axis=None, kind="stable")[: len(taken[0])]
    return np.unravel_index(order[left.flat[order] >= 0], size.shape)


def _elsewhere(size: np.ndarray, taken: Any, draws: np.random.Generator) -> Any:
    others = np.setdiff1d(np.arange(len(size)), taken[0])
    if len(others) == 0:
        return others, others
    return draws.choice(others, len(taken[0]), replace=len(others) < len(taken[0])), taken[1]


def _places(hidden: list[torch.Tensor], rows: list[Any]) -> Places:
    positions, features = (np.stack([np.asarray(row[axis]) for row in rows]) for axis in (0, 1))
    values = [_array(state)[p, f] for state, p, f in zip(hidden, positions, features, strict=True)]
    return Places(positions, features, np.stack(values))


def _array(state: torch.Tensor) -> np.ndarray:
    return state.double().cpu().numpy()


def place_table(places: Places, layer: int, median: np.ndarray, ids: np.ndarray, tokenizer: Any) -> pd.DataFrame:
    """The changed values, a row each: sequence, layer, position, token, feature, value, median and ratio of |h|."""
    import pandas as pd

    rows = []
    for sequence, rank in np.ndindex(places.values.shape):
        position, value = int(places.positions[sequence, rank]), float(places.values[sequence, rank])
        token = int(ids[sequence, position])
        rows.append(
            {
                "sequence": sequence,
                "layer": layer,
                "position": position,
                "token": f"id {token}" if tokenizer is None else tokenizer.decode([token]),
                "feature": int(places.features[sequence, rank]),
                "value": value,
                "median": float(median[sequence]),
                "ratio": abs(value) / float(median[sequence]),
            }
        )
    return pd.DataFrame(rows)
