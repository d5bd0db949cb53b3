"""Fits as the published `layer_fit_params_{quantity}.json` holds them: plain Python values, one entry a layer.

JSON has no nan and no infinity, and a reader of the file indexes by layer: so what is not available is None, and every
layer has every hypothesis with every key, fitted or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from madyn.curves.fitting.fits import Fits, fit_each
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.errors import UsageError

Record = dict[str, Any]


def fit_records(
    steps: ArrayLike,
    trajectories: ArrayLike,
    hypotheses: Iterable[str | SeparableModel],
    method: str = "varpro",
    robust: Literal["huber", "student"] | None = None,
) -> list[dict[str, Record]]:
    """Fit every hypothesis to every layer's trajectory.

    Args:
        steps: (n,).
        trajectories: (n, layers), one column a layer; nan where a checkpoint is missing.
        hypotheses: names in `HYPOTHESES`, or hypotheses.
        method, robust: as for `fit_curves`.

    Returns:
        A list by layer of {hypothesis: {param_names, popt, pcov, r2, aic, residuals, aicc, bic, at_edge, message,
        suspects}}. `residuals` has one value a step, `suspects` lists the steps of suspect points, `at_edge` the
        parameters on an edge of the box, and `message` says why there is no fit, or what to know of it. Values that are
        not finite are None.

    Raises:
        UsageError: as `fit_curves`, and where trajectories are not step x layer.
    """
    values = np.asarray(trajectories, float)
    if values.ndim != 2:
        raise UsageError(f"trajectories have shape {values.shape}; they must be step x layer")
    steps = np.asarray(steps)
    fits = fit_each(steps, values.T, hypotheses, method, robust)
    return [{f.hypothesis.name: _record(f, steps.tolist(), layer) for f in fits} for layer in range(values.shape[1])]


def _record(fits: Fits, steps: list[float], layer: int) -> Record:
    return {
        "param_names": list(fits.hypothesis.param_names),
        "popt": _plain(fits.popt[layer]),
        "pcov": _plain(fits.pcov[layer]),
        "r2": _plain(fits.r2[layer]),
        "aic": _plain(fits.aic[layer]),
        "residuals": _plain(fits.residuals[layer]),
        "aicc": _plain(fits.aicc[layer]),
        "bic": _plain(fits.bic[layer]),
        "at_edge": [name for name, edge in zip(fits.hypothesis.nonlinear, fits.at_edge[layer], strict=True) if edge],
        "message": str(fits.message[layer]),
        "suspects": [step for step, suspect in zip(steps, fits.suspects[layer], strict=True) if suspect],
    }


def _plain(values: ArrayLike) -> Any:
    """Nested lists of floats, or one float, with None for what is not finite."""
    values = np.asarray(values, float)
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()
