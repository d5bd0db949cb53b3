"""Arrays as users have them, read by their masks and labels: the one place where input becomes numbers on axes.

`numpy.asarray` drops the mask of a masked array, the names of an xarray's dimensions, and half of a complex number
without a word, and reads text and dates as numbers. Here a mask is kept as one, labels are kept beside the numbers, and
what is no real number is refused. Whatever the type and byte order of the input, the numbers are float64: one that is
beyond the largest of these is refused and never infinite, and where different ones become the same, `Labelled.merged`
says so.

xarray, pandas and torch are recognised without being imported: who has none of their arrays does not load them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madyn.errors import UsageError, one_line, quoted
from madyn.typing import Array, Mask

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
        merged: one of the numbers, where different ones of the input (whole numbers past 2**53, say) are the same as
            float64; else None.
    """

    values: Array
    missing: Mask
    named: bool = False
    dims: tuple[str | None, ...] = ()
    labels: tuple[NDArray[Any] | None, ...] = ()
    coords: dict[str, tuple[tuple[int, ...], NDArray[Any]]] = field(default_factory=dict)
    stacked: tuple[int, ...] = ()
    merged: float | None = None

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
    values, missing, merged = _numbers(given, what, truth)
    return Labelled(values, missing, False, (None,) * values.ndim, (None,) * values.ndim, merged=merged)


def read_row(given: Any, what: str) -> Array:
    """One row of numbers, (n,), nan where one is missing; a single number is a row of one.

    Raises:
        UsageError: it does not hold real numbers, or has more than one axis.
    """
    row = np.atleast_1d(read(given, what).values)
    if row.ndim != 1:
        raise UsageError(f"{what} have shape {row.shape}; expected one row of numbers")
    return row


def number(given: Any, what: str) -> float:
    """One number, which may be infinite but is there.

    Args:
        given: the input.
        what: it is called in errors, in the singular ("the last step").

    Raises:
        UsageError: it is missing, no real number, or several.
    """
    try:
        found = read(given, what)
    except UsageError as e:
        raise UsageError(f"{what} is {quoted(given)}; it must be a real number") from e
    if found.ndim or np.isnan(found.values):
        raise UsageError(f"{what} is {quoted(given)}; it must be a real number")
    return float(found.values)


def whole_number(given: Any, what: str, most: int = 2**53) -> int:
    """One whole number, as `number`.

    Raises:
        UsageError: it is none, or above `most`.
    """
    found = number(given, what)
    if not np.isfinite(found) or found != int(found):
        raise UsageError(f"{what} is {quoted(given)}; it must be a whole number")
    if found > most:
        raise UsageError(f"{what} is {quoted(given)}; it is {most} at most")
    return int(found)


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
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"{what} are not an array of numbers: {one_line(e, 200)}") from e
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"one of the {what} is {array.max()}, beyond the largest whole number of 64 bits")
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
    values, missing, merged = _numbers(given.values, what, truth)
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
    return Labelled(values, missing, True, dims, tuple(labels), coords, tuple(stacked), merged)


def _of_pandas(given: Any, what: str, truth: bool) -> Labelled:
    columns = [given] if given.ndim == 1 else [given.iloc[:, j] for j in range(given.shape[1])]
    parts = [_column(column, what, truth) for column in columns]
    values = np.stack([part[0] for part in parts], axis=-1) if parts else np.empty(given.shape)
    missing = np.stack([part[1] for part in parts], axis=-1) if parts else np.zeros(given.shape, bool)
    values, missing = values.reshape(given.shape), missing.reshape(given.shape)
    merged = next((part[2] for part in parts if part[2] is not None), None)
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
    return Labelled(values, missing, True, _dims(given), tuple(labels), coords, tuple(stacked), merged)


def _dims(given: Any) -> tuple[str | None, ...]:
    if hasattr(given, "dims"):
        return tuple(str(dim) for dim in given.dims)
    return tuple(None if index.name is None else str(index.name) for index in given.axes)


def _column(given: Any, what: str, truth: bool) -> tuple[Array, Mask, float | None]:
    """As `_numbers`, of a pandas Series, of one of pandas' own types too."""
    kind = getattr(given.dtype, "kind", "O")
    if isinstance(given.dtype, np.dtype) or kind not in "iufb" or (kind == "b" and not truth):
        return _numbers(given.to_numpy(), what, truth)
    values, missing = given.to_numpy(float, na_value=np.nan), given.isna().to_numpy(bool)
    return values, missing, _numbers(given.dropna().to_numpy(), what, truth)[2]


def _numbers(given: Any, what: str, truth: bool) -> tuple[Array, Mask, float | None]:
    """(values, missing, where different numbers became one) of anything without labels."""
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
            merged = next((part[2] for part in parts if part[2] is not None), None)
            return np.stack([part[0] for part in parts]), np.stack([part[1] for part in parts]), merged
    elif hasattr(given, "detach"):
        given = _of_tensor(given, what)
    mask = np.ma.getmaskarray(given) if np.ma.isMaskedArray(given) else None
    try:
        array = np.asarray(given if mask is None else np.ma.getdata(given))
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"{what} must be an array of numbers: {one_line(e, 200)}") from e
    kind = array.dtype.kind
    if kind in _REFUSED or (kind not in "iufbO") or (kind == "b" and not truth):
        raise UsageError(f"{what} are {_REFUSED.get(kind, 'truth values')}; they must be real numbers")
    missing = np.zeros(array.shape, bool) if mask is None or mask.shape != array.shape else mask
    if kind == "O":
        values, nothing = _one_by_one(array, missing, what, truth)
        missing = missing | nothing
    else:
        with np.errstate(over="ignore"):
            values = np.where(missing, np.nan, array.astype(float))
        lost = np.isinf(values) & ~missing & np.isfinite(array) if array.dtype.itemsize > 8 else np.zeros((), bool)
        if np.any(lost):
            raise UsageError(f"one of the {what} is beyond the largest number: {quoted(array[lost].flat[0])}")
    return values, missing, _merged(array, values, missing)


def _of_tensor(given: Any, what: str) -> Any:
    try:
        given = given.detach().cpu()
        return (given if given.is_complex() or not given.is_floating_point() else given.double()).numpy()
    except (TypeError, RuntimeError) as e:  # sparse, quantised, on no device
        raise UsageError(f"{what} are a tensor that is no array of numbers: {one_line(e, 200)}") from e


def _merged(array: NDArray[Any], values: Array, missing: Mask) -> float | None:
    """One of the values that several different numbers of an array have become, if there is any."""
    kind, there = array.dtype.kind, ~missing & np.isfinite(values)
    exact = kind == "b" or (kind == "f" and array.dtype.itemsize <= 8) or (kind in "iu" and array.dtype.itemsize < 8)
    if exact or not np.any(np.abs(values[there]) >= (2**53 if kind in "iu" else 0.0)):
        return None
    found: dict[float, Any] = {}
    for one, value in zip(array[there].tolist() if kind in "iu" else array[there], values[there].tolist(), strict=True):
        if found.setdefault(value, one) != one:
            return value
    return None


def _one_by_one(array: NDArray[Any], masked: Mask, what: str, truth: bool) -> tuple[Array, Mask]:
    values, missing = np.full(array.shape, np.nan), np.zeros(array.shape, bool)
    for i in np.ndindex(array.shape):
        value = array[i]
        if masked[i]:
            continue
        if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
            missing[i] = True
        elif isinstance(value, (bool, np.bool_)):
            if not truth:
                raise UsageError(f"{what} are truth values; they must be real numbers")
            values[i] = float(value)
        elif isinstance(value, Real | Decimal):
            values[i] = _float(value, what)
        else:
            raise UsageError(f"one of the {what} is {quoted(value)}; they must be real numbers")
    return values, missing


def _float(value: Real | Decimal, what: str) -> float:
    """A real number of any type; only what is infinite or no number already is so afterwards."""
    if value.is_nan() if isinstance(value, Decimal) else value != value:
        return np.nan
    try:
        with np.errstate(over="ignore"):
            found = float(value)
        if np.isfinite(found) or value == found:
            return found
    except (OverflowError, ValueError):
        pass
    raise UsageError(f"one of the {what} is beyond the largest number: {quoted(value)}")


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
