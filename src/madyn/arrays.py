"""Arrays as users have them, read by their masks and labels: the one place where input becomes numbers on axes.

`numpy.asarray` drops the mask of a masked array, the names of an xarray's dimensions, and half of a complex number
without a word, and reads text and dates as numbers. Here a mask is kept as one, labels are kept beside the numbers, and
what is no real number is refused. Whatever the type and byte order of the input, the numbers are float64.

xarray, pandas and torch are recognised without being imported: who has none of their arrays does not load them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madyn.errors import UsageError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_REFUSED = {"c": "complex numbers", "U": "text", "S": "text", "M": "dates", "m": "time spans", "V": "records"}


@dataclass(frozen=True)
class Labelled:
    """Numbers on axes, with what is known of the axes.

    Attributes:
        values: float64; nan where `missing`.
        missing: what was masked, or pandas' NA, or None. A nan is a number here that its reader may refuse.
        named: whether the axes are told apart by name (xarray, pandas), and not by their order (all else).
        dims: a name an axis, or None for one without.
        labels: the labels along each axis, or None for one without. pandas' numbering of rows is no label.
        coords: other labels, by name: the axes that they are along, and their values.
        stacked: axes along which several labels are stacked into one.
    """

    values: Array
    missing: Mask
    named: bool = False
    dims: tuple[str | None, ...] = ()
    labels: tuple[NDArray[Any] | None, ...] = ()
    coords: dict[str, tuple[tuple[int, ...], NDArray[Any]]] = field(default_factory=dict)
    stacked: tuple[int, ...] = ()

    @property
    def ndim(self) -> int:
        return self.values.ndim


def read(given: Any, what: str, truth: bool = False) -> Labelled:
    """The numbers and labels of an array, list, xarray DataArray, pandas Series or DataFrame, or tensor.

    Args:
        given: the input.
        what: it is called in errors, in the plural ("values").
        truth: whether it may be truth values, which are 0 and 1.

    Raises:
        UsageError: it does not hold real numbers, or is ragged, or holds several labelled arrays.
    """
    if _is(given, "xarray", "DataArray", "Variable"):
        return _of_xarray(given, what, truth)
    if _is(given, "xarray", "Dataset"):
        raise UsageError(f"{what} are a Dataset; give one of its arrays, {', '.join(map(str, given.data_vars))}")
    if _is(given, "pandas", "Series", "DataFrame"):
        return _of_pandas(given, what, truth)
    values, missing = _numbers(given, what, truth)
    return Labelled(values, missing, False, (None,) * values.ndim, (None,) * values.ndim)


def read_row(given: Any, what: str) -> Array:
    """One row of numbers, (n,), nan where one is missing; a single number is a row of one.

    Raises:
        UsageError: it does not hold real numbers, or has more than one axis.
    """
    row = np.atleast_1d(read(given, what).values)
    if row.ndim != 1:
        raise UsageError(f"{what} have shape {row.shape}; expected one row of numbers")
    return row


def whole_numbers(given: Any, what: str, first: str) -> Any:
    """Whole numbers as an array of int64, of which the axis named `first` goes first, where axes have names.

    A DataFrame has them in its rows, unless its columns are named so. A tensor is given back as it is, and what holds
    no whole numbers as an array of what it holds, for the caller to judge.

    Raises:
        UsageError: some are missing (masked, NA), or no axis has that name.
    """
    if hasattr(given, "detach"):
        return given
    axis = 0
    if _is(given, "xarray", "DataArray", "Variable"):
        if given.ndim == 2 and first not in given.dims:
            raise UsageError(
                f"{what} have the dimensions {named(_dims(given))}; call the one that goes first {first!r}"
            )
        axis, given = (_dims(given).index(first) if first in given.dims else 0), given.values
    elif _is(given, "pandas", "Series", "DataFrame"):
        gaps = int(np.sum(given.isna().to_numpy()))
        if gaps:
            raise UsageError(f"{gaps} of the {what} are missing; each sequence is given whole")
        whole = all(getattr(dtype, "kind", "O") in "iu" for dtype in np.atleast_1d(given.dtypes))
        axis, given = int(_dims(given)[1:] == (first,)), given.to_numpy(np.int64 if whole else None)
    if isinstance(given, (list, tuple)) and _holds(given, np.ma.MaskedArray):
        given = np.ma.stack([np.ma.asarray(one) for one in given])
    if np.ma.isMaskedArray(given) and np.ma.count_masked(given):
        raise UsageError(f"{np.ma.count_masked(given)} of the {what} are masked; each sequence is given whole")
    try:
        array = np.moveaxis(np.asarray(given), axis, 0) if axis else np.asarray(given)
    except (TypeError, ValueError) as e:
        raise UsageError(f"{what} are not an array of numbers: {e}") from e
    # A copy: what is read-only or of another byte order cannot become a tensor.
    return np.array(array, np.int64 if array.dtype.kind in "iu" else array.dtype.newbyteorder("="))


def in_another_order(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two rows of labels are the same labels in another order."""
    if a.shape != b.shape or np.array_equal(a, b):
        return False
    try:
        return bool(np.array_equal(np.sort(a), np.sort(b)))
    except TypeError:
        return sorted(map(repr, a.tolist())) == sorted(map(repr, b.tolist()))


def named(dims: tuple[str | None, ...]) -> str:
    """Dimensions in words: (step, layer)."""
    return f"({', '.join('?' if dim is None else dim for dim in dims)})"


def _of_xarray(given: Any, what: str, truth: bool) -> Labelled:
    values, missing = _numbers(given.values, what, truth)
    dims = tuple(str(dim) for dim in given.dims)
    coords, labels, stacked = {}, [None] * len(dims), []
    for name, coord in getattr(given, "coords", {}).items():
        axes = tuple(given.dims.index(dim) for dim in coord.dims)
        if coord.dims == (name,):
            several = _is(coord.to_index(), "pandas", "MultiIndex")
            labels[axes[0]] = None if several else coord.values
            stacked += [axes[0]] if several else []
        else:
            coords[str(name)] = (axes, coord.values)
    return Labelled(values, missing, True, dims, tuple(labels), coords, tuple(stacked))


def _of_pandas(given: Any, what: str, truth: bool) -> Labelled:
    if given.ndim == 1:
        values, missing = _column(given, what, truth)
    else:
        columns = [_column(given.iloc[:, j], what, truth) for j in range(given.shape[1])]
        values = np.stack([c[0] for c in columns], axis=1) if columns else np.empty(given.shape)
        missing = np.stack([c[1] for c in columns], axis=1) if columns else np.zeros(given.shape, bool)
    labels, coords, stacked = [], {}, []
    for axis, index in enumerate(given.axes):
        several = _is(index, "pandas", "MultiIndex")
        numbered = _is(index, "pandas", "RangeIndex") and index.start == 0 and index.step == 1 and index.name is None
        labels.append(None if several or numbered else index.to_numpy())
        if several:
            stacked.append(axis)
            for level, name in enumerate(index.names):
                coords[str(name) if name is not None else f"level_{level}"] = (
                    (axis,),
                    index.get_level_values(level).to_numpy(),
                )
    return Labelled(values, missing, True, _dims(given), tuple(labels), coords, tuple(stacked))


def _dims(given: Any) -> tuple[str | None, ...]:
    if hasattr(given, "dims"):
        return tuple(str(dim) for dim in given.dims)
    return tuple(None if index.name is None else str(index.name) for index in given.axes)


def _column(given: Any, what: str, truth: bool) -> tuple[Array, Mask]:
    """(values, missing) of a pandas Series, of one of pandas' own types too."""
    kind = getattr(given.dtype, "kind", "O")
    if isinstance(given.dtype, np.dtype) or kind not in "iufb" or (kind == "b" and not truth):
        return _numbers(given.to_numpy(), what, truth)
    return given.to_numpy(float, na_value=np.nan), given.isna().to_numpy(bool)


def _numbers(given: Any, what: str, truth: bool) -> tuple[Array, Mask]:
    """(values, missing) of anything without labels."""
    if isinstance(given, (list, tuple)):
        if _holds_labelled(given):
            raise UsageError(
                f"{what} are a list of labelled arrays; join them with xarray.concat or pandas.concat, so that their "
                "labels can be compared, or give their numbers alone"
            )
        if _holds(given, np.ma.MaskedArray):
            parts = [_numbers(one, what, truth) for one in given]
            if len({part[0].shape for part in parts}) > 1:
                raise UsageError(f"{what} are ragged; fill the shorter rows up with nan")
            return np.stack([part[0] for part in parts]), np.stack([part[1] for part in parts])
    elif hasattr(given, "detach"):
        given = given.detach().cpu()
        given = (given if given.is_complex() or not given.is_floating_point() else given.double()).numpy()
    mask = np.ma.getmaskarray(given) if np.ma.isMaskedArray(given) else None
    try:
        array = np.asarray(given if mask is None else np.ma.getdata(given))
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"{what} must be an array of numbers: {e}") from e
    kind = array.dtype.kind
    if kind in _REFUSED or (kind == "b" and not truth):
        raise UsageError(f"{what} are {_REFUSED.get(kind, 'truth values')}; they must be real numbers")
    missing = np.zeros(array.shape, bool) if mask is None else mask
    if kind == "O":
        array, nothing = _one_by_one(array, missing, what, truth)
        missing = missing | nothing
    with np.errstate(over="ignore"):
        return np.where(missing, np.nan, array.astype(float)), missing


def _one_by_one(array: NDArray[Any], masked: Mask, what: str, truth: bool) -> tuple[Array, Mask]:
    values, missing = np.full(array.shape, np.nan), np.zeros(array.shape, bool)
    for i in np.ndindex(array.shape):
        value = array[i]
        if masked[i]:
            continue
        if value is None or value is np.ma.masked or type(value).__name__ == "NAType":
            missing[i] = True
        elif isinstance(value, (bool, np.bool_)) and not truth:
            raise UsageError(f"{what} are truth values; they must be real numbers")
        elif isinstance(value, Real) or type(value).__name__ == "Decimal":
            try:
                values[i] = float(value)
            except OverflowError as e:
                raise UsageError(f"one of the {what} is beyond the largest number: {value!s:.20}...") from e
        else:
            raise UsageError(f"one of the {what} is {value!r:.60}; they must be real numbers")
    return values, missing


def _is(given: Any, package: str, *names: str) -> bool:
    """Whether something is of one of a package's classes; the package is not imported for it."""
    module = sys.modules.get(package)
    return module is not None and isinstance(given, tuple(getattr(module, name) for name in names))


def _holds(given: Any, kind: type) -> bool:
    return any(isinstance(one, kind) or (isinstance(one, (list, tuple)) and _holds(one, kind)) for one in given)


def _holds_labelled(given: Any) -> bool:
    return any(
        (_is(one, "xarray", "DataArray", "Variable") and one.ndim)
        or _is(one, "pandas", "Series", "DataFrame")
        or (isinstance(one, (list, tuple)) and _holds_labelled(one))
        for one in given
    )
