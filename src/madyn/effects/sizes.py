"""Effect sizes and variance components of a family's responses.

The model is linear in the logarithms: log2 y = b0 + sum_k b_k log2 x_k + architecture + seed, so that 2^b_k is what a
response is multiplied by when factor k doubles and the others stay. Intervals are robust to models of one architecture
being alike (Liang and Zeger 1986, with Student's t and the architectures counted, not the models).

Variance is split as in a lack-of-fit test (Draper and Smith 1998, section 2.1): models that differ in their seed alone
give the variance of chance, and what the factors do not explain beyond it is architecture that these terms do not draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from madyn.effects.responses import FACTORS
from madyn.errors import DatasetError
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


SHARES = ("main effects", "curvature and interactions", "other architecture", "seed")
"""The parts of the variance: of the factors by themselves, of their squares and products, of what the architectures
differ in beyond those, and of the seed."""

_RESAMPLES = 1000


def effect_sizes(table: pd.DataFrame, response: str, level: float = 0.95) -> pd.DataFrame:
    """What a response is multiplied by when one factor doubles.

    Args:
        table: a row a model, as `model_responses` gives it; rows without the response are left out, and models that
            depart in wiring or recipe.
        level: of the intervals.

    Returns:
        a row a factor that varies: per_doubling, lower, upper, and p, of the hypothesis that it is 1. `attrs` hold r2,
        models and architectures.

    Raises:
        DatasetError: there are too few architectures, or the factors do not vary independently.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> responses = madyn.effects.model_responses(data.select(data.models[:36]))
    >>> madyn.effects.effect_sizes(responses, "final ratio")["per_doubling"].round(1).to_dict()
    {'width': 1.6, 'depth': 1.2, 'heads': 1.0, 'MLP ratio': 1.1}
    """
    import pandas as pd
    from scipy.stats import t

    rows = _complete(table, response)
    names = _varying(rows)
    X, y = _design(rows, names), np.log2(rows[response].to_numpy(float))
    groups = rows["architecture"].to_numpy()
    count = len(np.unique(groups))
    freedom = count - X.shape[1]
    if freedom < 2 or np.linalg.cond(X) > 1e6:
        raise DatasetError(
            f"effects of {', '.join(names)} cannot be told apart with {count} architectures: train a family in which "
            "they vary independently (madyn lab)"
        )
    inverse = np.linalg.inv(X.T @ X)
    beta = inverse @ X.T @ y
    residual = y - X @ beta
    scores = np.stack([X[groups == g].T @ residual[groups == g] for g in np.unique(groups)])
    # Liang and Zeger's sandwich with the correction for few groups that is in general use.
    correction = count / (count - 1) * (len(y) - 1) / (len(y) - X.shape[1])
    errors = np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse) * correction)[1:]
    half = float(t.ppf((1 + level) / 2, freedom)) * errors
    frame = pd.DataFrame(
        {
            "per_doubling": 2 ** beta[1:],
            "lower": 2 ** (beta[1:] - half),
            "upper": 2 ** (beta[1:] + half),
            "p": 2 * t.sf(np.abs(beta[1:]) / errors, freedom),
        },
        index=pd.Index(names, name="factor"),
    )
    r2 = 1 - residual.var() / y.var() if y.var() > 0 else np.nan
    frame.attrs.update(r2=float(r2), models=len(y), architectures=count)
    return frame


def variance_shares(table: pd.DataFrame, response: str, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How the variance of a response's logarithm over the models of a family divides.

    Intervals are those of a parametric bootstrap: families of the same architectures and seeds are drawn, with the
    parts as found. (A plain bootstrap draws some architectures again and again, and the terms of second order then
    leave too little unexplained.)

    Args:
        seed: of the bootstrap.

    Returns:
        a row each of `SHARES`: share, lower, upper. `attrs` hold seed_factor, the factor by which a seed alone changes
        the response (one standard deviation), with its interval, and repeated, the architectures that tell it.

    Raises:
        DatasetError: no architecture was trained with more than one seed, or there are too few.

    >>> import madyn
    >>> responses = madyn.effects.model_responses("tiny-suite")
    >>> madyn.effects.variance_shares(responses, "final ratio")["share"].round(1).to_dict()
    {'main effects': 0.5, 'curvature and interactions': 0.0, 'other architecture': 0.0, 'seed': 0.5}
    """
    import pandas as pd
    from scipy.stats import chi2

    rows = _complete(table, response)
    names = _varying(rows)
    y = np.log2(rows[response].to_numpy(float))
    _, first, groups = np.unique(rows["architecture"].to_numpy(), return_index=True, return_inverse=True)
    counts = np.bincount(groups)
    means = np.asarray(np.bincount(groups, y) / counts, float)
    squares = np.asarray(np.bincount(groups, (y - means[groups]) ** 2), float)
    one_each = rows.iloc[first]
    linear, second = _design(one_each, names), _second_order(one_each, names)
    freedom = int((counts - 1).sum())
    if freedom < 2 or len(counts) - second.shape[1] < 2:
        raise DatasetError(
            f"{len(counts)} architectures, {int((counts > 1).sum())} of them with several seeds, are too few to tell "
            "chance from architecture"
        )
    parts = _parts(means, counts, squares, linear, second)
    found = parts / parts.sum()
    drawn = np.stack(
        [_parts(*family, linear, second) for family in _families(parts, means, counts, linear, second, seed)]
    )
    tails = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.quantile(drawn / drawn.sum(axis=1, keepdims=True), tails, axis=0)
    frame = pd.DataFrame({"share": found, "lower": lower, "upper": upper}, index=pd.Index(SHARES, name="part"))
    variance = squares.sum() / freedom
    spread = [float(2 ** np.sqrt(variance * freedom / chi2.ppf(q, freedom))) for q in (tails[1], tails[0])]
    frame.attrs.update(
        seed_factor=float(2 ** np.sqrt(variance)), seed_factor_interval=spread, repeated=int((counts > 1).sum())
    )
    return frame


def _parts(means: Array, counts: NDArray[np.int64], squares: Array, linear: Array, second: Array) -> Array:
    """The parts of the variance, in the order of `SHARES`; none is below 0.

    Args:
        means: of each architecture; `counts` its models, `squares` the sum of their squares about its mean.
        linear, second: the terms of first and of second order of each architecture.
    """
    chance = squares.sum() / (counts - 1).sum()
    of_means = chance * (1 / counts).mean()  # what chance leaves in an architecture's mean
    total = means.var(ddof=1)
    after_linear, after_second = (_unexplained(means, X) for X in (linear, second))
    parts = np.array([total - after_linear, after_linear - after_second, after_second - of_means, chance])
    return np.maximum(parts, 0.0)


def _families(
    parts: Array, means: Array, counts: NDArray[np.int64], linear: Array, second: Array, seed: int
) -> Iterator[tuple[Array, NDArray[np.int64], Array]]:
    """Families with these parts of the variance: means, counts and squares of each."""
    rng = np.random.default_rng(seed)
    by_linear = linear @ np.linalg.lstsq(linear, means, rcond=None)[0]
    by_second = second @ np.linalg.lstsq(second, means, rcond=None)[0] - by_linear
    # A fit also draws a part of the chance; what it draws is brought to the variance that it truly explains.
    fixed = _scaled(by_linear, parts[0]) + _scaled(by_second, parts[1])
    for _ in range(_RESAMPLES):
        spread = np.sqrt(parts[2] + parts[3] / counts)
        yield (
            fixed + spread * rng.standard_normal(len(means)),
            counts,
            parts[3] * np.where(counts > 1, rng.chisquare(np.maximum(counts - 1, 1)), 0.0),
        )


def _scaled(values: Array, variance: float) -> Array:
    centred = values - values.mean()
    spread = centred.std(ddof=1)
    return centred * (np.sqrt(variance) / spread if spread > 0 else 0.0)


def _unexplained(y: Array, X: Array) -> float:
    """The residual variance, with the degrees of freedom that a resample really has."""
    beta, _, rank, _ = np.linalg.lstsq(X, y, rcond=None)
    return float(((y - X @ beta) ** 2).sum() / max(1, len(y) - int(rank)))


def _complete(table: pd.DataFrame, response: str) -> pd.DataFrame:
    """The models that have the response and are wired and trained as usual: shapes are compared among these."""
    usual = table["departure"].to_numpy() == "" if "departure" in table else True
    return table.loc[np.isfinite(table[response].to_numpy(float)) & usual]


def _varying(table: pd.DataFrame) -> list[str]:
    names = [name for name in FACTORS if name in table and len(np.unique(table[name].to_numpy())) > 1]
    if not names:
        raise DatasetError("all models have one architecture; an effect needs two or more")
    return names


def _centred_logs(table: pd.DataFrame, names: Sequence[str]) -> Array:
    logs = np.log2(table[list(names)].to_numpy(float))
    return logs - logs.mean(axis=0)


def _design(table: pd.DataFrame, names: Sequence[str]) -> Array:
    return np.column_stack([np.ones(len(table)), _centred_logs(table, names)])


def _second_order(table: pd.DataFrame, names: Sequence[str]) -> Array:
    logs = _centred_logs(table, names)
    i, j = np.triu_indices(logs.shape[1])
    return np.column_stack([np.ones(len(logs)), logs, logs[:, i] * logs[:, j]])
