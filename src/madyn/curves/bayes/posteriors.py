"""What a series says of its curve, as a distribution: `posterior`.

For nonlinear parameters theta, noise level sigma and correlation length l, the linear parameters are integrated out in
closed form (`evidence`). What is left has q + 2 dimensions: a grid over theta that refines itself where the mass is
(`cells`), nodes of sigma about its mode, and a few lengths (`marginal`). A curve's value and a forecast are linear in
the linear parameters, so that their quantiles are those of a mixture of normal distributions (`components`), found from
its distribution function; what is not linear, such as the peak, is taken over draws from a fixed quasi-random sequence.
There is no Markov chain, and the same series gives the same numbers.

The variance of the noise is a plug-in: `noise.noise_scale` needs the curve, and takes it from a first pass over the
coarse grid with equal variances.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import read_row
from madyn.curves.alignment import Lead
from madyn.curves.bayes.components import DRAWS, Components, Part
from madyn.curves.bayes.levels import LADDER, above, tails_of, thresholds_of
from madyn.curves.bayes.marginal import COMPONENTS
from madyn.curves.bayes.priors import MOST_DRAWS, Prior, count_of, curve_of, last_of_run
from madyn.curves.fitting.series import beyond, checked
from madyn.curves.grouping import alike
from madyn.curves.hypotheses.peaks import observable
from madyn.curves.hypotheses.registry import resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.renaming import renamed
from madyn.curves.responses import intervals_of
from madyn.errors import UsageError, quoted
from madyn.labels import describe, interval
from madyn.notebook import Shown
from madyn.typing import Array, Rows

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


AT_ONCE = 40  # series
POINTS_AT_ONCE = 20_000  # of all of them together
STEPS_AT_ONCE = 4_000_000  # of a forecast, of all components of all series together
_RARE = 0.01
_MEANINGS = interval(unit="unit of the values, or steps")


@renamed(model="hypothesis")
def posterior(
    t: ArrayLike | None,
    y: ArrayLike,
    hypothesis: str | SeparableModel = "reparam",
    prior: Prior | None = None,
    last_step: float | None = None,
) -> Posterior:
    """The posterior distribution of a curve's parameters and of its noise, for each series by itself.

    It is computed, not sampled: the same series give the same numbers.

    Args:
        t: steps, (n,), or one row for each series, of y's shape; in any order. None where y is labelled with its steps.
        y: values, (..., n); nan is a missing point. Masks and labels are read as in `fit_curves`.
        hypothesis: the name of a hypothesis without a penalty, or a `SeparableModel`. original is reparam's curve in
            other parameters, and only `sample` and `interval` tell them apart.
        prior: by default `Prior.default(hypothesis)`, which is wide; `learn_prior` makes one from finished runs.
        last_step: of the run, as planned; by default the last step of each series. A prior is one over curves whose
            time is the share of the run that is over, so that a wrong last step gives a wrong posterior.

    Raises:
        UsageError: shapes do not match, steps are negative or not finite, the prior is one of another curve, or the
            last step lies before a step that was seen.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> plateau = posterior(t, y, hypothesis="step1").plateau(0.9)
    >>> bool(plateau["lower"] < 7 < plateau["upper"])
    True
    """
    chosen, asked = curve_of(hypothesis), resolve([hypothesis])[0]
    if prior is not None and not isinstance(prior, Prior):
        raise UsageError(
            f"prior is {quoted(prior)}; a prior is learned from finished runs: see learn_prior and forecast"
        )
    prior = Prior.default(chosen) if prior is None else prior
    if prior.hypothesis is not chosen:
        raise UsageError(f"the prior is one of {prior.hypothesis.name}; the curve is {chosen.name}")
    series = checked(t, y, None, chosen)
    shape, (steps, values, weights) = series.y.shape[:-1], series.rows
    there = weights > 0
    end = None if last_step is None else last_of_run(last_step)
    messages = [
        _refusal(*series, planned=end is not None)
        for series in zip(steps, values, there, beyond(chosen, steps, values, there & np.isfinite(values)), strict=True)
    ]
    parts = [
        Part.of(prior, steps[rows], values[rows], there[rows], rows, end)
        for rows in _alike(steps, there, np.array([not m for m in messages], bool))
    ]
    message = np.array(messages, dtype=object).reshape(shape)
    return Posterior(asked, prior, shape, message, tuple(parts), series.lead, (steps, values), end)


@renamed(model="hypothesis")
@dataclass(frozen=True, eq=False)
class Posterior(Shown):
    """The posterior distributions of many series; `...` is the leading shape of y.

    Attributes:
        hypothesis: the curve.
        prior: that went in.
        shape: the leading shape of y.
        message: (...), why a series has no posterior: all results for it are nan; "" for one that has.
        seen: steps and values that it was told from, a row a series in each.
        last_step: of the runs, where it was given.

    Results have the leading dimensions of y, by its names where y was labelled.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> belief = posterior(t, y)
    >>> dict(belief.interval(0.9).sizes), belief.to_dataframe().columns.tolist()
    ({'parameter': 5}, ['parameter', 'median', 'lower', 'upper'])
    >>> belief.value([10_000.0])["median"].round(1).values.tolist()
    [6.0]
    >>> sorted(belief.forecast([40_000.0]).data_vars)
    ['lower', 'median', 'upper']
    >>> belief.sample(5).shape, belief.log_evidence.shape
    ((5, 5), ())
    >>> bool(belief.exceed(5.0, [40_000.0]).max() > 0.5)
    True
    >>> belief.plateau()["median"].round(0).item()
    7.0
    >>> belief.plot().axes[0].get_xlabel()
    'training step'
    >>> sorted(belief.peak().data_vars), sorted(belief.quantities().data_vars)[:3]
    (['ahead', 'inside', 'lower', 'median', 'upper'], ['class_probability', 'half_rise_step', 'peak_height'])
    """

    hypothesis: SeparableModel
    prior: Prior
    shape: tuple[int, ...]
    message: NDArray[Any]
    parts: tuple[Part, ...] = field(repr=False)
    lead: Lead = field(repr=False)
    seen: tuple[Array, Array] = field(repr=False)
    last_step: float | None = None

    def __repr__(self) -> str:
        known = sum(not message for message in np.ravel(self.message))
        shape = " x ".join(map(str, self.shape)) or "one"
        return (
            f"<madyn Posterior of {self.hypothesis.name}, prior: {self.prior.source}\n {shape} series, {known} with a "
            "posterior\n interval(level), forecast(steps), value(steps), peak(), plateau(), sample(n), ...>"
        )

    def to_dataframe(self, level: float = 0.9) -> pd.DataFrame:
        """The parameters' intervals in long form.

        Args:
            level: the probability of each interval.

        Returns:
            a row a series and parameter: columns for the leading axes of y (its labels, else numbers from 0),
            parameter, median, lower and upper, in steps and the values' unit; nan for a series without a posterior.

        Raises:
            UsageError: level is no probability.
        """
        return self.interval(level).to_dataframe().reset_index()

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        p = self.hypothesis.num_params
        needed = tuple(part for part in self.parts if np.min(part.rows) < most)  # each part's draws take a while
        return replace(self, parts=needed).to_dataframe().head(most), int(np.prod(self.shape)) * p

    def plot(self, level: float = 0.9) -> Figure:
        """The points of each series, at most twelve, and median and interval of the curve over its run.

        Args:
            level: the probability of the interval, at each step by itself.

        Raises:
            UsageError: level is no probability, or there is no series.
        """
        return self._drawn(level=level)

    @property
    def log_evidence(self) -> Array:
        """(...), log p(y | hypothesis, prior), in the values' units; to compare hypotheses or priors on one series."""
        return self._collected(lambda part: part.mix.log_evidence, ())

    def sample(self, n: int, seed: int = 0) -> Array:
        """Independent draws of the parameters, (..., n, p), in the order of `hypothesis.param_names`.

        Args:
            n: how many of each series.
            seed: of the random numbers.

        Raises:
            UsageError: n or the seed is no whole number, or is negative.
        """
        n, seed = count_of(n, "the number of draws", MOST_DRAWS), count_of(seed, "seed")
        return self._collected(
            lambda part: self._as_asked(part.draws(n, np.random.default_rng(seed))), (n, self.hypothesis.num_params)
        )

    def interval(self, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of each parameter, in steps and the values' unit.

        Args:
            level: the probability of each interval, between 0 and 1.

        Returns:
            median, lower and upper; dims are those of y's leading shape, then parameter.

        Raises:
            UsageError: level is no probability.
        """
        tails, p = tails_of(level), self.hypothesis.num_params
        lower, median, upper = self._summed(
            lambda draws: _quantiles(self._as_asked(draws), tails, -2, "linear"), (p,), len(tails)
        )
        return self._labelled(
            {"median": median, "lower": lower, "upper": upper},
            ("parameter",),
            {"parameter": list(self.hypothesis.param_names)},
        )

    def value(self, t: ArrayLike, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of the curve itself, without noise.

        Args:
            t: (m,) steps.
            level: the probability of each interval, at each step by itself.

        Returns:
            median, lower and upper, in the values' unit; dims are those of y's leading shape, then step.

        Raises:
            UsageError: a step is not finite, or negative where the curve counts training steps, or level is no
                probability.
        """
        return self._over_steps(t, level, noisy=False)

    def forecast(self, t_new: ArrayLike, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of what would be measured.

        Noise is correlated from step to step. So after the last point seen the band starts from how far that point lies
        off the curve; at a step before it, the band is that of a fresh measurement.

        Args:
            t_new: (m,) steps.
            level: the probability of each band, at each step by itself.

        Returns:
            median, lower and upper, in the values' unit; dims are those of y's leading shape, then step.

        Raises:
            UsageError: as `value`.
        """
        return self._over_steps(t_new, level, noisy=True)

    def exceed(self, thresholds: ArrayLike, steps: ArrayLike) -> Array:
        """The probability that a measurement lies above each threshold, at that of the steps where it is largest.

        A run that passes it may do so at another step, so that this is the least that it can be.

        Args:
            thresholds: (T,), above 0, in the values' unit.
            steps: (m,), at least one.

        Returns:
            (..., T).

        Raises:
            UsageError: a threshold is not above 0, or there is no step, or one is not finite.
        """
        values, t = thresholds_of(thresholds), read_row(steps, "steps")
        if not t.size or not np.all(np.isfinite(t)):
            raise UsageError("thresholds are held against at least one step, all of them finite")
        return self._collected(lambda part: above(part.over_steps(t, LADDER, noisy=True), values), (values.size,))

    def plateau(self, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of what the curve tends to as the step grows for ever.

        Args:
            level: the probability of the interval.

        Returns:
            median, lower and upper, in the values' unit, infinite where the curve grows for ever; dims are those of y's
            leading shape.

        Raises:
            UsageError: it is not known what the curve tends to, or level is no probability.
        """
        tails = tails_of(level)

        def limits(draws: Array) -> Array:
            limit = self.prior.hypothesis.limit_of(draws)
            return np.where(limit < 0, np.nan, limit) if self.prior.positive else limit

        known = (not np.all(np.isnan(self.prior.hypothesis.limit_of(part.quasi_draws()))) for part in self.parts)
        if self.parts and not any(known):
            raise UsageError(f"it is not known what {self.hypothesis.name} tends to")
        lower, median, upper = self._summed(
            lambda draws: _quantiles(limits(draws), tails, -1, "inverted_cdf"), (), len(tails)
        )
        return self._labelled({"median": median, "lower": lower, "upper": upper}, (), {})

    def quantities(self, level: float = 0.9, at: ArrayLike = ()) -> xr.Dataset:
        """Peak, top, half-rise step, plateau, values at steps `at` and class, each with its interval or probability.

        The run ends at its planned last step; see `madyn.curves.responses` for the definitions.

        Args:
            level: the probability of each interval.
            at: (m,) steps at which the curve's value is wanted.

        Returns:
            what `quantity_intervals` returns.

        Raises:
            UsageError: the series' runs end at different steps, or level is no probability.
        """
        ends = {part.time.start + part.time.length for part in self.parts}
        if len(ends) > 1:
            raise UsageError(f"the runs end at different steps, {min(ends):g} to {max(ends):g}; give their last step")
        draws = ((part.rows, part.quasi_draws()) for part in self.parts)
        return intervals_of(self.prior.hypothesis, draws, self.shape, self.lead, ends.pop() if ends else 1.0, level, at)

    def peak(self, level: float = 0.9) -> xr.Dataset:
        """Step and height of the curve's maximum, and whether it lies inside the run.

        Args:
            level: the probability of each interval.

        Returns:
            median, lower and upper of dims (..., quantity), the quantities step and height, given that the maximum lies
            inside the run, after step 0 and not after its last; `inside` (...), the probability of that; and `ahead`
            (...), that it lies inside and after the last point seen. nan where `inside` is below 1 %.

        Raises:
            UsageError: there is no formula for the curve's maximum (`quantities` looks for it), or level is no
                probability.
        """
        tails = tails_of(level)
        lower, median, upper = np.moveaxis(self._collected(lambda part: self._peaks(part, tails)[0], (3, 2)), -2, 0)
        inside, ahead = np.moveaxis(self._collected(lambda part: self._peaks(part, tails)[1], (2,)), -1, 0)
        labelled = self._labelled(
            {"median": median, "lower": lower, "upper": upper}, ("quantity",), {"quantity": ["step", "height"]}
        )
        return labelled.merge(self._labelled({"inside": inside, "ahead": ahead}, (), {}))

    def _peaks(self, part: Part, tails: tuple[float, ...]) -> tuple[Array, Array]:
        """Of one part: (quantiles (S, tails, 2) of step and height, chances (S, 2) of inside and ahead)."""
        if self.prior.hypothesis.peak is None:
            raise UsageError(f"{self.hypothesis.name} has no formula for its peak; see quantities()")
        step, height = self.prior.hypothesis.peak(*np.moveaxis(part.quasi_draws(), -1, 0))
        there = observable(step, part.time.start + part.time.length)
        chances = np.stack([np.mean(there, axis=-1), np.mean(there & (step > part.last), axis=-1)], axis=-1)
        ends = np.full((len(step), len(tails), 2), np.nan)
        for i, told in enumerate(there & ((height >= 0) | (not self.prior.positive))):
            if chances[i, 0] >= _RARE and np.any(told):
                ends[i] = np.quantile(np.stack([step[i][told], height[i][told]]), tails, axis=1)
        return ends, chances

    def quasi_draws(self) -> Array:
        """(..., draws, p), draws of equal weight from a fixed quasi-random sequence."""
        return self._as_asked(self._curve_draws())

    def _curve_draws(self) -> Array:
        """The same, in the parameters of the prior's curve."""
        return self._collected(lambda part: part.quasi_draws(), (COMPONENTS * DRAWS, self.prior.hypothesis.num_params))

    def components(self) -> Components:
        """The mixture that each posterior is, in the prior's coordinates and units; for learning."""
        q, k = self.prior.hypothesis.num_nonlinear, len(self.prior.hypothesis.linear)
        J = COMPONENTS
        shapes = ((J, q), (J, k), (J, k, k), (J,), (J,), (J,))
        return Components(*(
            self._collected(lambda part, i=i: part.components()[i], shape).reshape(-1, *shape)
            for i, shape in enumerate(shapes)
        ))  # fmt: skip

    def _as_asked(self, params: Array) -> Array:
        if self.hypothesis.mapped is not None:
            return self.hypothesis.mapped(params)[0]
        return params

    def _over_steps(self, t: ArrayLike, level: float, noisy: bool) -> xr.Dataset:
        t = read_row(t, "steps")
        if not np.all(np.isfinite(t)):
            raise UsageError("a step is missing or not finite")
        if self.hypothesis.normalised and np.any(t < 0):
            raise UsageError(f"a step is {t.min():g}; training steps are not negative")
        tails = tails_of(level)

        def over(part: Part) -> Array:
            size = max(1, STEPS_AT_ONCE // part.mix.weight.size)
            each = [part.over_steps(t[i : i + size], tails, noisy) for i in range(0, t.size, size)]
            return np.moveaxis(np.concatenate(each, axis=-1), 0, -1) if each else np.empty((len(part.rows), 0, 3))

        bands = self._collected(over, (t.size, 3))
        names = ("lower", "median", "upper")
        return self._labelled({name: bands[..., i] for i, name in enumerate(names)}, ("step",), {"step": t})

    def _summed(self, of: Callable[[Array], Array], shape: tuple[int, ...], count: int) -> Array:
        """`count` numbers of draws (S, draws, p) -> (count, S, ...), part by part, since draws take most room."""
        by_series = self._collected(lambda part: np.moveaxis(of(part.quasi_draws()), 0, -1), (*shape, count))
        return np.moveaxis(by_series, -1, 0)

    def _collected(self, of: Any, shape: tuple[int, ...]) -> Array:
        collected = np.full((int(np.prod(self.shape)), *shape), np.nan)
        for part in self.parts:
            collected[part.rows] = of(part)
        return collected.reshape((*self.shape, *shape))

    def _labelled(self, variables: dict[str, Any], dims: Sequence[str], coords: dict[str, Any]) -> xr.Dataset:
        import xarray as xr

        taken = {*variables, *dims, *coords, "quantity", "step", "parameter"}  # alike in all results, to be merged
        lead, labels = self.lead.names(taken), self.lead.labels(taken)
        variables = {name: ((*lead, *dims), value) for name, value in variables.items()}
        return describe(xr.Dataset(variables, coords={**labels, **coords}), _MEANINGS)


def _quantiles(draws: Array, tails: tuple[float, ...], axis: int, method: Literal["linear", "inverted_cdf"]) -> Array:
    """(len(tails), ...), without draws that are nan; nan where all are, as those of a series without a posterior."""
    if not draws.size:  # NumPy gives no quantiles at all of no series
        return np.empty((len(tails), *np.delete(draws.shape, axis)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanquantile(draws, tails, axis=axis, method=method), float)


def _refusal(t: Array, y: Array, there: NDArray[np.bool_], unfit: str, planned: bool) -> str:
    if np.any(np.isinf(y[there])):
        return "a value is infinite: mark missing points with nan, and measure broken ones again"
    if np.sum(there) < 2:
        return f"too few points: {np.sum(there)} finite; a posterior needs 2"
    if np.ptp(t[there]) == 0 and not planned:
        return f"all points are at step {t[there][0]:g}: the run has no length; give its last step"
    return unfit


def _alike(t: Array, there: NDArray[np.bool_], ready: NDArray[np.bool_]) -> list[Rows]:
    """The series that were seen at the same steps, a few dozen at a time."""
    rows = np.flatnonzero(ready)
    if not rows.size:
        return []
    at_once = max(1, min(AT_ONCE, POINTS_AT_ONCE // t.shape[1]))
    groups = [rows[some] for some in alike(np.where(there, t, -1.0)[rows])]
    return [part for group in groups for part in np.array_split(group, -(-len(group) // at_once))]
