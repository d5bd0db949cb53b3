"""What counts as massive: the published rule, and two whose threshold comes from the model itself.

*The published rule* (Sun et al. 2024, arXiv 2402.17762): |a| > 100 and |a| >= 1000 times the median. Its two numbers
were read off large models, and it has no false-alarm rate: small models, and deep layers whose median has grown, fall
short of it whatever stands out in them.

The other rules ask whether the largest value is one that the rest of the layer explains. Both rest on one fact. Let a
layer's n values |h| be independent draws of one distribution, and y = -log P(|h| > x), so that log|h| = g(y) with g
increasing. Of n draws, the y are n exponential variables, whatever the distribution. Suppose that g is concave. This is
the class of increasing generalised failure rate (Lariviere 2006): the tail, on a doubly logarithmic scale, nowhere
flattens. Half-normal, exponential (Laplace's |h|) and half-Student distributions of any degrees of freedom are in it,
Cauchy's too; g is a straight line for Pareto's, the limit of the class. For y1 > yi > yj concavity gives

    (g(y1) - g(yi)) / (g(yi) - g(yj))  <=  (y1 - yi) / (yi - yj),

and the right side is a ratio of exponential spacings, the same for all distributions. So a bound on it that holds with
probability 1 - a is one on the left side, exactly for Pareto tails of any index and with room to spare for lighter
ones. There is nothing to be estimated whose error would have to be allowed for, and no sample is too small.

*By its own tail*: ranks 1, i and j of one sequence at one layer. Then y1 - yi is the largest of i - 1 unit
exponentials, B = exp(-(yi - yj)) is Beta(i, j - i), and the two are independent (Renyi 1953):

    P(alarm) <= E[1 - (1 - B^r)^(i - 1)],  B ~ Beta(i, j - i),   threshold = x_i (x_i / x_j)^r.

The first i - 1 values may all be massive without hiding one another. The rule is applied twice, each time with half of
the rate: to the n values with ranks 64 and 640, and to the d features with ranks 8 and 64, a feature's value being its
largest |h| over the tokens. The maximum of S draws from the class is in the class: its y, seen as a function of the
maximum's own, has the slope (1/S) sum of F^-k for k = 0..S-1, F the distribution function, which falls. The first finds
a few tokens that are large in many features, the second a few features that are large in many tokens.

*By its start*: where only the largest value and the median are kept (a dataset of madyn's), the ratios of a layer at
step 0 stand for its tail. With z the median's y, log 2, and y0 that of the largest of all B sequences at step 0,

    log(ratio) / log(largest ratio at step 0)  <=  (y - z) / (y0 - z),   y > y0,

where y is the largest of n exponentials and y0 that of B n. Again the right side has a known distribution, and its
bound r makes the threshold (largest ratio at step 0)^r. The scatter of the median is left out: it is of the order of
n^(-1/2) beside log n.

What these rates hold for is independence. Values of one token share its size, and a token that returns brings its
values back, so that in a real layer there are fewer independent draws than values. On models at initialisation, where
nothing is massive, no false alarm was seen (tests hold some of them); that is no proof. A layer whose features differ
by orders of magnitude, or whose first token is large in every feature, has a heavy tail of its own; there the rules say
nothing, where the published one may.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import lgamma, log
from typing import Any

import numpy as np

from madyn.arrays import number, read, whole_number
from madyn.errors import UsageError

PUBLISHED_VALUE = 100
PUBLISHED_RATIO = 1000
FALSE_ALARMS = 0.01  # of a scan, or of a checkpoint in a dataset: all its layers and sequences together

_VALUE_RANKS = (64, 640)
_FEATURE_RANKS = (8, 64)
_STARTING = ("the largest values", "the medians", "the largest values of the start", "the medians of the start")
_POINTS = 4001  # of a grid for integrals over one variable; twice as many change no digit that is shown


@dataclass(frozen=True)
class Verdict:
    """What a rule says. Both arrays have the shape of the values that it was asked about.

    Attributes:
        massive: whether a value is above its threshold.
        threshold: in the units of the values; infinite where a layer has too few values to tell.
        false_alarms: the probability that any of them is called massive where none is.
    """

    massive: np.ndarray
    threshold: np.ndarray
    false_alarms: float


def massive_published(top1: Any, median: Any) -> np.ndarray:
    """The published rule: |a| > 100, and at least 1000 times the median of its sequence.

    What is missing (nan, masked, NA) is not massive.

    Raises:
        UsageError: these are not real numbers, or their shapes do not go together.

    >>> massive_published([90.0, 2000.0], [0.05, 1.0]).tolist()
    [False, True]
    """
    top1, median = read(top1, "the largest values").values, read(median, "the medians").values
    try:
        with np.errstate(over="ignore"):  # nothing is a thousand times such a median
            return (top1 > PUBLISHED_VALUE) & (top1 >= PUBLISHED_RATIO * median)
    except ValueError:
        raise UsageError(
            f"largest values of shape {top1.shape} and medians of {median.shape} do not go together"
        ) from None


def massive_by_tail(hidden: Any, false_alarms: float = FALSE_ALARMS) -> Verdict:
    """Whether the largest value of each hidden state lies beyond what its own tail explains.

    Args:
        hidden: shape (..., S, d): the hidden states of any number of sequences and layers.
        false_alarms: of all of them together; each is given an equal share.

    Returns:
        arrays of shape (...).

    Raises:
        UsageError: there are no tokens or features, a value is missing or not finite, or the rate is not between 0
            and 1.

    >>> values = np.random.default_rng(0).standard_normal((2, 128, 64))
    >>> values[1, 0, 5] = 60
    >>> massive_by_tail(values).massive.tolist()
    [False, True]
    """
    size = np.abs(read(hidden, "hidden states").values)
    if size.ndim < 2 or 0 in size.shape[-2:]:
        raise UsageError(f"hidden states of shape {size.shape}; they need tokens and features (..., S, d)")
    lost = int(np.sum(~np.isfinite(size)))
    if lost:
        raise UsageError(f"{lost} of the hidden states are missing or not finite; a tail is told from all of them")
    flat = size.reshape(-1, *size.shape[-2:])
    tails = np.array([_tail(rows) for rows in flat]).reshape(*size.shape[:-2], 4)
    return judge_tails(size.max((-2, -1)), tails, size.shape[-2] * size.shape[-1], size.shape[-1], false_alarms)


def tail_ranks(values: int, features: int) -> tuple[int, int, int, int]:
    """The ranks, counted from 1, of the values and of the features' maxima that a tail is read from.

    Where there are too few for the usual ranks, the outer one is half of what there is.

    >>> tail_ranks(values=128 * 64, features=64)
    (64, 640, 4, 32)
    """
    found = []
    for count, (inner, outer) in ((values, _VALUE_RANKS), (features, _FEATURE_RANKS)):
        last = min(outer, max(1, count // 2))
        found += [min(last, max(2, last * inner // outer)), last]
    return found[0], found[1], found[2], found[3]


def judge_tails(
    top1: np.ndarray, tails: np.ndarray, values: Any, features: Any, false_alarms: float = FALSE_ALARMS
) -> Verdict:
    """As `massive_by_tail`, of hidden states of which only this was kept.

    Args:
        top1: the largest values, any shape.
        tails: the values at `tail_ranks`, on one more axis, the last.
        values: how many values |h| there were, in a shape that goes with that of `top1`.
        features: how many features, in such a shape too.

    >>> import numpy as np
    >>> tails = np.array([[8.0, 4.0, 8.0, 6.0]])
    >>> judge_tails(np.array([60.0]), tails, values=128 * 64, features=64).massive.tolist()
    [True]
    """
    share = _share(false_alarms, top1.size) / 2
    sizes = np.broadcast_to(values, top1.shape), np.broadcast_to(features, top1.shape)
    threshold = np.full(top1.shape, np.inf)
    for at in np.ndindex(top1.shape):
        ranks = tail_ranks(int(sizes[0][at]), int(sizes[1][at]))
        for k in (0, 2):
            inner, outer = (float(v) for v in tails[at][k : k + 2])
            reach = _tail_factor(share, ranks[k], ranks[k + 1])
            if reach < np.inf and outer > 0:
                with np.errstate(over="ignore"):
                    threshold[at] = min(threshold[at], inner * np.float64(inner / outer) ** reach)
    return Verdict(top1 > threshold, threshold, false_alarms)


def massive_by_start(
    top1: Any, median: Any, start_top1: Any, start_median: Any, values: int, false_alarms: float = FALSE_ALARMS
) -> Verdict:
    """Whether the ratio of the largest value to the median lies beyond what the same layer showed at step 0.

    Args:
        top1: the largest values of one checkpoint, shape (B, L): sequences and layers.
        median: the medians, of the same shape. What is missing of either is not massive.
        start_top1: the largest values of step 0, shape (B0, L).
        start_median: its medians. What is missing of either says nothing of the start.
        values: how many values |h| a sequence has at a layer: S*d.
        false_alarms: of all sequences and layers of the checkpoint together.

    Returns:
        arrays of shape (B, L); the threshold is of `top1`.

    Raises:
        UsageError: these are not real numbers, the shapes do not go together, or the rate is not between 0 and 1.

    >>> import numpy as np
    >>> start_top1, start_median = np.full((4, 1), 5.0), np.ones((4, 1))
    >>> massive_by_start([[40.0]], [[1.0]], start_top1, start_median, values=128 * 64).massive.tolist()
    [[True]]
    """
    top1, median, start_top1, start_median = (
        read(a, what).values for a, what in zip((top1, median, start_top1, start_median), _STARTING, strict=True)
    )
    shapes = top1.shape, median.shape, start_top1.shape, start_median.shape
    if top1.ndim != 2 or start_top1.shape[1:] != top1.shape[1:] or shapes[0] != shapes[1] or shapes[2] != shapes[3]:
        raise UsageError(
            f"arrays of shapes {', '.join(map(str, shapes))}; (B, L) twice, then (B0, L) twice, are needed"
        )
    values = whole_number(values, "values")
    if values < 8:
        raise UsageError(f"values is {values}; a sequence of fewer than 8 has no tail")
    reach = _start_factor(_share(false_alarms, top1.size), values, len(start_top1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = start_top1 / start_median
        # Where nothing is known of a layer's start, there is no telling.
        largest = np.max(ratio, axis=0, where=~np.isnan(ratio), initial=-np.inf)
        threshold = median * np.where(np.isneginf(largest), np.inf, largest) ** reach
    return Verdict(top1 > threshold, threshold, false_alarms)


def _share(false_alarms: float, tests: int) -> float:
    """Of one test, such that all together (however they depend on one another) keep the rate: Bonferroni."""
    false_alarms = number(false_alarms, "the rate of false alarms")
    if not 0 < false_alarms < 1:
        raise UsageError(f"the rate of false alarms is {false_alarms}; it lies between 0 and 1")
    return false_alarms / max(1, tests)


def _tail(rows: np.ndarray) -> list[float]:
    """The values at the ranks, of |h| of one sequence at one layer, shape (S, d)."""
    i, j, k, m = tail_ranks(rows.size, rows.shape[1])
    values, maxima = np.sort(rows, axis=None)[::-1], np.sort(rows.max(axis=0))[::-1]
    return [float(v) for v in (values[i - 1], values[j - 1], maxima[k - 1], maxima[m - 1])]


@lru_cache(maxsize=256)
def _tail_factor(rate: float, inner: int, outer: int) -> float:
    """The power r of x_i / x_j at which the rule by the tail has this rate; infinite where ranks do not allow one."""
    if inner < 2 or outer <= inner:
        return np.inf
    shape = outer - inner
    # y = -log B; nearly all of its mass is within ten deviations, 1/i each, of log(j/i).
    y = np.linspace(0, log(outer / inner) + 12 / np.sqrt(inner) + 12 / inner, _POINTS)[1:]
    density = np.exp(lgamma(outer) - lgamma(inner) - lgamma(shape) - inner * y + (shape - 1) * np.log(-np.expm1(-y)))
    weight = density / density.sum()
    return _solve(lambda r: float(weight @ -np.expm1((inner - 1) * np.log1p(-np.exp(-r * y)))), rate)


@lru_cache(maxsize=256)
def _start_factor(rate: float, values: int, sequences: int) -> float:
    """The power r of the largest ratio at step 0 at which the rule by the start has this rate."""
    middle, draws = log(2), values * sequences
    y0 = np.linspace(max(log(draws) - 5, middle * 1.01), log(draws) + 30, _POINTS)
    weight = np.diff(np.exp(draws * np.log1p(-np.exp(-y0))))
    at = (y0[1:] + y0[:-1]) / 2 - middle
    return _solve(lambda r: float(weight @ -np.expm1(values * np.log1p(-np.exp(-(middle + r * at))))), rate)


def _solve(rate_of: Any, rate: float) -> float:
    """Where a falling function of r > 0 reaches a rate."""
    low, high = 0.0, 1.0
    while rate_of(high) > rate:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rate_of(middle) > rate else (low, middle)
    return high
