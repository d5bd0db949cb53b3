"""Steps, values and weights brought onto the same axes, the steps last; parameters of curves, in the curve's order.

Axes without names go by their order: steps are the last. Axes with names (xarray, pandas) go by name, whatever their
order: the steps are along the dimension of `t`, where that has one, or along the one called "step"; what cannot be told
is an error and never a guess by size, which would be right for one shape and silently wrong for a square one. Labels
that are there on both sides have to agree.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madyn.arrays import Array, Labelled, in_another_order, named, read
from madyn.errors import UsageError

STEP = "step"
PARAMETER = "parameter"

Coords = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


@dataclass(frozen=True)
class Lead:
    """The axes of an input but one, the steps' or the parameters': what its results are labelled with.

    Attributes:
        dims: a name an axis, or None for one without.
        coords: labels by name: the axes that they are along, and their values.
    """

    dims: tuple[str | None, ...]
    coords: dict[str, tuple[tuple[int, ...], NDArray[Any]]] = field(default_factory=dict)

    @classmethod
    def without(cls, given: Labelled, axis: int) -> Lead:
        """Of all axes of an input but one."""
        dims = _filled([dim for i, dim in enumerate(given.dims) if i != axis])
        own = dict(zip((i for i in range(given.ndim) if i != axis), dims, strict=True))
        labels = {own[i]: ((i,), labels) for i, labels in enumerate(given.labels) if i in own and labels is not None}
        return cls(given.dims, {**given.coords, **labels}).less(axis)

    def less(self, axis: int) -> Lead:
        """Without one of the axes."""
        place = {i: i - (i > axis) for i in range(len(self.dims)) if i != axis}
        kept = {name: (axes, values) for name, (axes, values) in self.coords.items() if axis not in axes}
        dims = tuple(self.dims[i] for i in place)
        return Lead(dims, {name: (tuple(place[i] for i in axes), values) for name, (axes, values) in kept.items()})

    def names(self, taken: Collection[str] = ()) -> tuple[str, ...]:
        """A name an axis: its own, or "series" where it is the only one without, or "series_0", "series_1" and so on.

        Args:
            taken: names that the results need themselves; an axis called so becomes "series_" and its name.
        """
        return tuple(f"series_{name}" if name in taken else name for name in _filled(self.dims))

    def labels(self, taken: Collection[str] = ()) -> Coords:
        """The coordinates of these axes, for xarray; those whose names the results need are left out."""
        names = self.names(taken)
        own = dict(zip(_filled(self.dims), names, strict=True))
        return {
            own.get(name, name): (tuple(names[i] for i in axes), values)
            for name, (axes, values) in self.coords.items()
            if name in own or name not in taken
        }


def _filled(dims: Sequence[str | None]) -> tuple[str, ...]:
    if len(dims) == 1:
        return (dims[0] or "series",)
    return tuple(name or f"series_{i}" for i, name in enumerate(dims))


@dataclass(frozen=True)
class Aligned:
    """What was given, the steps on the last axis.

    Attributes:
        t: (n,), or of y's shape.
        y: (..., n), nan where a value or its step is masked.
        weights: (), (n,) or of y's shape; 0 where one is masked. None if none were given.
        lead: the other axes.
    """

    t: Array
    y: Array
    weights: Array | None
    lead: Lead


def aligned(t: Any, y: Any, weights: Any = None) -> Aligned:
    """Steps, values and weights on the same axes.

    Args:
        t: steps; None where the values are labelled with them, by a dimension, coordinate or index called "step".
        y: values.
        weights: if there are any.

    Raises:
        UsageError: one does not hold numbers, which axis the steps are along cannot be told, or labels do not agree.
    """
    values = read(y, "values")
    steps = None if t is None else read(t, "steps")
    axis = _step_axis(values, steps)
    if steps is None:
        steps = _own_steps(values, axis)
    elif values.named and values.ndim and not steps.named and steps.ndim == 1:
        _require_order(steps.values, values.labels[axis], "steps")
    if steps.merged is not None:
        raise UsageError(
            f"different steps are the same number of 64 bits, {steps.merged:.17g}; they are too large to be told "
            "apart: count them from a later start"
        )
    y_there = np.moveaxis(values.values, axis, -1) if values.ndim else values.values
    t_there, lost = (_placed(part, steps, values, axis, "steps") for part in (steps.values, steps.missing))
    if np.any(lost) and lost.shape[-1:] == y_there.shape[-1:]:
        y_there = np.where(lost, np.nan, y_there)
    given = None
    if weights is not None:
        read_weights = read(weights, "weights", truth=True)
        kept = np.where(read_weights.missing, 0.0, read_weights.values)
        given = _placed(kept, read_weights, values, axis, "weights")
    # In one order in memory, so that the same numbers give the same sums, whatever the axes' order was.
    return Aligned(np.asarray(t_there, order="C"), np.asarray(y_there, order="C"), given, Lead.without(values, axis))


def parameters(given: Any, names: Sequence[str], curve: str) -> tuple[Array, Lead]:
    """Parameters of curves, (..., p) in the order of `names`, nan where one is missing, and what the others axes are.

    Where axes have names, the parameters are along "parameter", or along the axis that has them all for labels, and are
    taken by name; others, and other columns of a DataFrame, are left out. Else they are the last axis.

    Raises:
        UsageError: they are not numbers, or not of this length, or the names are not there.
    """
    columns = getattr(given, "columns", None)
    if columns is not None and set(names) <= set(columns):
        given = given[list(names)]
    labelled = read(given, "parameters")
    values, axis = labelled.values, max(labelled.ndim - 1, 0)
    if labelled.named and labelled.ndim:
        having = [i for i, labels in enumerate(labelled.labels) if labels is not None and set(names) <= set(labels)]
        if PARAMETER not in labelled.dims and len(having) != 1:
            raise UsageError(f"no axis of the parameters is labelled with {', '.join(names)}")
        axis = labelled.dims.index(PARAMETER) if PARAMETER in labelled.dims else having[0]
        labels = labelled.labels[axis]
        if labels is not None and axis not in having:
            raise UsageError(f"the parameters are {', '.join(map(str, labels))}; needed are {', '.join(names)}")
        if labels is not None:
            values = np.take(values, [list(labels).index(name) for name in names], axis)
    values = np.moveaxis(values, axis, -1) if values.ndim else values
    if values.ndim == 0 or values.shape[-1] != len(names):
        raise UsageError(
            f"parameters have shape {values.shape}; the last axis holds the {len(names)} of {curve}: {', '.join(names)}"
        )
    return values, Lead.without(labelled, axis)


def one_for_each(given: Any, what: str, lead: Lead, shape: tuple[int, ...]) -> Array:
    """Numbers given for series with these leading axes, brought to their shape.

    Raises:
        UsageError: they are not numbers, or do not fit the axes.
    """
    numbers = read(given, what)
    if numbers.named and numbers.ndim and any(lead.dims):
        labels = tuple(next((v for a, v in lead.coords.values() if a == (i,)), None) for i in range(len(shape)))
        series = Labelled(np.broadcast_to(0.0, shape), np.zeros((), bool), True, lead.dims, labels)
        return _spread(numbers.values, numbers, series, len(shape) - 1, what)
    try:
        return np.broadcast_to(numbers.values, shape)
    except ValueError as e:
        raise UsageError(f"{what} have shape {numbers.values.shape}; expected one number a series, {shape}") from e


def _step_axis(values: Labelled, steps: Labelled | None) -> int:
    """The axis of the values that the steps are along."""
    if not values.named or values.ndim == 0:
        return max(values.ndim - 1, 0)
    for axis in values.stacked:
        if STEP in (name for name, (axes, _) in values.coords.items() if axes == (axis,)):
            raise UsageError('the steps of the values are stacked with other labels; unstack("step") them first')
    if steps is not None and steps.named and steps.ndim == 1 and steps.dims[0] in values.dims and steps.dims[0]:
        return values.dims.index(steps.dims[0])
    if STEP in values.dims:
        return values.dims.index(STEP)
    if len(values.coords.get(STEP, ((), None))[0]) == 1:
        return values.coords[STEP][0][0]
    if values.ndim == 1:
        return 0
    if steps is not None and steps.ndim == 1:
        same = [i for i, labels in enumerate(values.labels) if labels is not None and _equal(labels, steps.values)]
        if len(same) == 1:
            return same[0]
    raise UsageError(
        f"the values have the dimensions {named(values.dims)}, and which of them are the steps cannot be told: call "
        'one "step" (of a DataFrame, its index.name or columns.name), or give steps that are labelled with it'
    )


def _own_steps(values: Labelled, axis: int) -> Labelled:
    """The steps that the values are labelled with."""
    labels = values.labels[axis] if values.named and values.dims[axis] == STEP else None
    if labels is None and values.coords.get(STEP, ((), None))[0] == (axis,):
        labels = values.coords[STEP][1]
    if labels is None:
        raise UsageError(
            "no steps: give them as t, or label the values with them (xarray: a coordinate called step; pandas: an "
            "index called step)"
        )
    steps = read(labels, "steps")
    return Labelled(steps.values, steps.missing, True, (values.dims[axis],), (labels,), merged=steps.merged)


def _placed(array: NDArray[Any], of: Labelled, values: Labelled, axis: int, what: str) -> NDArray[Any]:
    """An array that belongs to the input `of`, on the axes of the values with the steps last: (n,), or of y's shape."""
    if of.ndim == 0 or (of.ndim == 1 and not (of.named and values.named)):
        return array
    if not values.named:
        if of.named:
            raise UsageError(f"{what} have the dimensions {named(of.dims)}, and the values have none: label them too")
        return array
    if not of.named:
        if array.shape != values.values.shape:
            raise UsageError(f"{what} have shape {array.shape}; expected one row, or that of the values as they were "
                             f"given, {values.values.shape}")  # fmt: skip
        return np.moveaxis(array, axis, -1)
    if of.ndim == 1 and _places(of, values, axis, what) == [axis]:
        return array
    return np.moveaxis(_spread(array, of, values, axis, what), axis, -1)


def _spread(array: NDArray[Any], of: Labelled, values: Labelled, axis: int, what: str) -> NDArray[Any]:
    """An array that belongs to the input `of`, in the shape of the values; its axes are found by their names."""
    places = _places(of, values, axis, what)
    shape = tuple(size if i in places else 1 for i, size in enumerate(values.values.shape))
    return np.broadcast_to(np.transpose(array, np.argsort(places)).reshape(shape), values.values.shape)


def _places(of: Labelled, values: Labelled, axis: int, what: str) -> list[int]:
    """The axes of the values that those of another input belong to, `axis` for a single one without a name."""
    places = [_place(of, i, values, axis, what) for i in range(of.ndim)]
    if len(set(places)) < len(places):
        raise UsageError(f"{what} have the dimensions {named(of.dims)}, the values {named(values.dims)}")
    for i, place in enumerate(places):
        _require_agreement(of, i, values, place, what)
    return places


def _place(of: Labelled, i: int, values: Labelled, axis: int, what: str) -> int:
    """The axis of the values that axis i of another input belongs to."""
    name = of.dims[i]
    if name is not None and name in values.dims:
        place = values.dims.index(name)
    elif of.ndim == 1:
        place = axis
    elif of.ndim == values.ndim and (name is None or values.dims[i] is None):
        place = i
    else:
        raise UsageError(f"{what} have the dimensions {named(of.dims)}, the values {named(values.dims)}")
    if of.values.shape[i] != values.values.shape[place]:
        raise UsageError(
            f"{what} have {of.values.shape[i]} entries along {name or 'an axis'}, the values "
            f"{values.values.shape[place]}"
        )
    return place


def _require_agreement(of: Labelled, i: int, values: Labelled, place: int, what: str) -> None:
    """Raise UsageError where both are labelled along an axis, and not alike."""
    mine, theirs = of.labels[i], values.labels[place]
    if mine is None or theirs is None or _equal(mine, theirs):
        return
    if of.dims[i] is not None and of.dims[i] == values.dims[place]:
        raise UsageError(f"{what} and values have different labels along {of.dims[i]}; align them first")
    _require_order(mine, theirs, what)


def _require_order(mine: NDArray[Any], theirs: NDArray[Any] | None, what: str) -> None:
    if theirs is not None and in_another_order(mine, theirs):
        raise UsageError(f"{what} are those that the values are labelled with, in another order; align them first")


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))
