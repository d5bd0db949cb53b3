"""Draws of a curve's parameters from the covariance of its fit.

They are normal in the coordinates of the search, in which a positive parameter is its logarithm: a rate whose standard
error is as large as itself has no negative draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from madyn.curves.fitting.fits import Fits
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array, Rows

DRAWS = 1000
AT_ONCE = 100  # series
_SEED = 11


def covariance_draws(fits: Fits, n: int = DRAWS) -> Iterator[tuple[Rows, Array]]:
    """(some of the series, their draws (S, n, p)), the same at every call; nan where there is no fit, or no finite
    covariance."""
    p = fits.hypothesis.num_params
    popt, pcov = fits.popt.reshape(-1, p), fits.pcov.reshape(-1, p, p)
    for i in range(0, len(popt), AT_ONCE):
        rows = np.arange(i, min(i + AT_ONCE, len(popt)))
        yield rows, _drawn(fits.hypothesis, popt[rows], pcov[rows], n)


def _drawn(hypothesis: SeparableModel, popt: Array, pcov: Array, n: int) -> Array:
    p, logs = hypothesis.num_params, np.zeros(hypothesis.num_params, bool)
    logs[: hypothesis.num_nonlinear] = hypothesis.log_scale
    z = np.random.default_rng(_SEED).standard_normal((n, p))
    drawn = np.full((len(popt), n, p), np.nan)
    known = np.all(np.isfinite(popt), axis=-1) & np.all(np.isfinite(pcov), axis=(-2, -1))
    for i in np.flatnonzero(known & np.all((popt > 0) | ~logs, axis=-1)):
        scale = np.where(logs, 1 / np.where(logs, popt[i], 1.0), 1.0)
        moves = z @ _root(scale[:, np.newaxis] * pcov[i] * scale).T
        with np.errstate(over="ignore"):
            drawn[i] = np.where(logs, popt[i] * np.exp(np.where(logs, moves, 0.0)), popt[i] + moves)
    return drawn


def _root(cov: Array) -> Array:
    """B with B B' = cov, by way of correlations: variances may differ by dozens of orders of magnitude."""
    sd = np.sqrt(np.diag(cov))
    safe = np.where(sd > 0, sd, 1.0)
    values, vectors = np.linalg.eigh(cov / safe[:, np.newaxis] / safe)
    return sd[:, np.newaxis] * vectors * np.sqrt(np.maximum(values, 0.0))
