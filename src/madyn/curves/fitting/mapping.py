"""Fits of one curve as fits of another that is the same in other parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from madyn.curves.fitting.arrays_of_fits import FitArrays
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array

Kind = TypeVar("Kind", bound=FitArrays)


def reparametrised(fits: Kind, hypothesis: SeparableModel) -> Kind:
    """The same curves in another hypothesis' parameters; where those do not exist, without parameters and saying so."""
    assert hypothesis.mapped is not None
    popt, change = hypothesis.mapped(fits.popt)
    exists = np.all(np.isfinite(popt), axis=-1)
    determined = np.all(np.isfinite(fits.pcov), axis=(-2, -1))
    with np.errstate(all="ignore"):
        pcov = change @ np.where(determined[..., np.newaxis, np.newaxis], fits.pcov, 0.0) @ np.swapaxes(change, -1, -2)
        pcov[~determined | ~np.all(np.isfinite(pcov), axis=(-2, -1))] = np.inf
        pcov[~exists] = np.nan
        jacobian = fits.jacobian @ _inverse(change)
    message = fits.message.copy()
    for i in np.ndindex(message.shape):
        if not fits.success[i]:
            message[i] = str(message[i]).replace(f"of {fits.hypothesis.name}", f"of {hypothesis.name}")
        else:
            message[i] = "; ".join(filter(None, [str(message[i]), _map_remark(fits, hypothesis, i, bool(exists[i]))]))
    edge = np.any(fits.at_edge, axis=-1, keepdims=True).repeat(len(hypothesis.nonlinear), axis=-1)
    return replace(
        fits, hypothesis=hypothesis, popt=popt, pcov=pcov, message=message, jacobian=jacobian, mapped_from=fits,
        success=fits.success & exists, at_edge=edge,
    )  # fmt: skip


def _inverse(matrices: Array) -> Array:
    """Inverses of matrices whose rows and columns differ by hundreds of orders of magnitude; nan where none exists."""
    rows = np.max(np.abs(matrices), axis=-1, keepdims=True)
    columns = np.max(np.abs(matrices / rows), axis=-2, keepdims=True)
    even = matrices / rows / columns
    good = np.all(np.isfinite(even), axis=(-2, -1)) & (np.abs(np.linalg.det(np.nan_to_num(even))) > 0)
    inverse = np.full(matrices.shape, np.nan)
    inverse[good] = np.linalg.inv(even[good])
    return inverse / np.swapaxes(columns, -1, -2) / np.swapaxes(rows, -1, -2)


def _map_remark(fits: FitArrays, hypothesis: SeparableModel, i: tuple[int, ...], exists: bool) -> str:
    if not exists:
        return (
            f"the curve has no parameters of {hypothesis.name}: A1 = 0, or exp(A2/A1) is beyond the largest number; "
            f"see {fits.hypothesis.name}"
        )
    A1 = fits.hypothesis.param_names.index("A1")
    error = np.sqrt(fits.pcov[i][A1, A1])
    if np.isfinite(error) and abs(fits.popt[i][A1]) < error:
        return f"A1 is 0 within its standard error, where {hypothesis.name}'s parameters are not defined"
    return ""
