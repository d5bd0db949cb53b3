"""What a series says of its curve, as a distribution: `posterior`.

For nonlinear parameters theta, noise level sigma and correlation length l, the linear parameters are integrated out in
closed form (`evidence`). What is left has q + 2 dimensions: a grid over theta that refines itself where the mass is
(`cells`), nodes of sigma about its mode, and a few lengths. From that table equally likely components are taken, each
one theta, sigma and l with the normal distribution of the linear parameters that goes with them. A curve's value, its
plateau and a forecast are linear in these, so that their quantiles are those of a mixture of normal distributions, found
from its distribution function; what is not linear, such as the peak, is taken over draws from a fixed quasi-random
sequence. There is no Markov chain, and the same series gives the same numbers.

The variance of the noise is a plug-in: `noise.loudness` needs the curve, and takes it from a first pass over the coarse
grid with equal variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, qmc

from madyn.curves import cells, evidence, noise
from madyn.curves.evidence import Moments
from madyn.curves.hypotheses import Hypothesis, resolve
from madyn.curves.mixture import quantiles
from madyn.curves.priors import LENGTHS, Prior, RunTime, curve_of, raw_parameters, sizes
from madyn.curves.separable import SeparableModel
from madyn.curves.series import checked
from madyn.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

COARSE = {1: 128, 2: 24, 3: 12}  # cells along each axis of the first grid, by the number of nonlinear parameters
COMPONENTS = 256
DRAWS = 4  # of the linear parameters in each component, for what is not linear in them
AT_ONCE = 40  # series
LEVELS = 9  # nodes of sigma
_WIDTH = 1.0  # their distance, in standard deviations of log sigma


def posterior(
    t: ArrayLike,
    y: ArrayLike,
    model: str | SeparableModel = "reparam",
    prior: Prior | None = None,
    last_step: float | None = None,
) -> Posterior:
    """The posterior distribution of a curve, given each series.

    Args:
        t: steps, (n,), or one row for each series, of y's shape; in any order.
        y: values, (..., n); nan is a missing point.
        model: the name of a hypothesis without a penalty, or a `SeparableModel`. original is reparam's curve in other
            parameters, and only `sample` and `interval` tell them apart.
        prior: by default `Prior.default(model)`, which is wide; `learn_prior` makes one from finished runs.
        last_step: of the run, as planned; by default the last step of each series. A prior speaks of shares of the run.

    Raises:
        UsageError: shapes do not match, steps are negative or not finite, the prior is one of another curve, or the
            last step lies before a step that was seen.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> plateau = posterior(t, y, model="step1").plateau(0.9)
    >>> bool(plateau["lower"] < 7 < plateau["upper"])
    True
    """
    chosen, asked = curve_of(model), resolve([model])[0]
    if isinstance(prior, str):
        raise UsageError(
            f"prior {prior!r}: a prior is learned from finished runs; see learn_prior and forecast_dataset"
        )
    prior = Prior.default(chosen) if prior is None else prior
    if prior.model is not chosen:
        raise UsageError(f"the prior is one of {prior.model.name}; the curve is {chosen.name}")
    steps, values, weights = checked(t, y, None, chosen)
    lead = values.shape[:-1]
    steps, values = steps.reshape(-1, steps.shape[-1]), values.reshape(-1, values.shape[-1])
    there = (weights > 0).reshape(values.shape)
    messages = [_refusal(row, seen) for row, seen in zip(values, there, strict=True)]
    parts = [
        _Part.of(prior, steps[rows], values[rows], there[rows], rows, last_step)
        for rows in _alike(steps, there, np.array([not m for m in messages], bool))
    ]
    return Posterior(asked, prior, lead, np.array(messages, dtype=object).reshape(lead), tuple(parts))


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior distributions of many series; `...` is the leading shape of y.

    Attributes:
        model: the curve.
        prior: that went in.
        shape: the leading shape of y.
        message: (...), why there is no posterior, where all results are nan; else "".
    """

    model: SeparableModel
    prior: Prior
    shape: tuple[int, ...]
    message: NDArray[Any]
    parts: tuple[_Part, ...] = field(repr=False)

    @property
    def log_evidence(self) -> Array:
        """(...), log p(y | model, prior), in the values' units; to compare models or priors on the same series."""
        return self._collected(lambda part: part.log_evidence, ())

    def sample(self, n: int, seed: int = 0) -> Array:
        """Independent draws of the parameters, (..., n, p), in the order of `model.param_names`."""
        return self._collected(
            lambda part: self._as_asked(part.draws(n, np.random.default_rng(seed))), (n, self.model.num_params)
        )

    def interval(self, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of each parameter: dims are those of y's leading shape, then parameter."""
        draws = self.quasi_draws()
        lower, median, upper = np.nanquantile(draws[..., :, :], _tails(level), axis=-2) if draws.size else draws
        return self._labelled(
            {"median": median, "lower": lower, "upper": upper},
            ("parameter",),
            {"parameter": list(self.model.param_names)},
        )

    def value(self, t: ArrayLike, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of the curve itself, without noise, at steps t: dims ..., then step."""
        return self._over_steps(t, level, noisy=False)

    def forecast(self, t_new: ArrayLike, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of what would be measured at steps t_new: dims ..., then step.

        After the last point seen the noise goes on from that point's; at a step before it, the band is for a measurement
        with noise of its own.

        Args:
            t_new: (m,) steps.
            level: the probability of each band, at each step by itself.
        """
        return self._over_steps(t_new, level, noisy=True)

    def plateau(self, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of K, which the curve tends to; dims are those of y's leading shape.

        Raises:
            UsageError: the curve has no K.
        """
        if "K" not in self.model.param_names:
            raise UsageError(f"{self.model.name} has no plateau K; its parameters: {', '.join(self.model.param_names)}")
        both = self.interval(level).sel(parameter="K", drop=True)
        return both

    def quasi_draws(self) -> Array:
        """(..., draws, p), draws of equal weight from a fixed quasi-random sequence."""
        return self._collected(
            lambda part: self._as_asked(part.quasi_draws()), (COMPONENTS * DRAWS, self.model.num_params)
        )

    def _as_asked(self, params: Array) -> Array:
        if isinstance(self.model, Hypothesis) and self.model.mapped is not None:
            return self.model.mapped(params)[0]
        return params

    def _over_steps(self, t: ArrayLike, level: float, noisy: bool) -> xr.Dataset:
        t = np.atleast_1d(np.asarray(t, float))
        if t.ndim != 1 or not np.all(np.isfinite(t)):
            raise UsageError(f"steps have shape {t.shape}; expected one row of finite numbers")
        if isinstance(self.model, Hypothesis) and np.any(t < 0):
            raise UsageError(f"a step is {t.min():g}; training steps are not negative")
        tails = _tails(level)
        found = self._collected(lambda part: np.moveaxis(part.over_steps(t, tails, noisy), 0, -1), (t.size, 3))
        names = ("lower", "median", "upper")
        return self._labelled({name: found[..., i] for i, name in enumerate(names)}, ("step",), {"step": t})

    def _collected(self, of: Any, shape: tuple[int, ...]) -> Array:
        found = np.full((int(np.prod(self.shape)), *shape), np.nan)
        for part in self.parts:
            found[part.rows] = of(part)
        return found.reshape(*self.shape, *shape)

    def _labelled(self, variables: dict[str, Array], dims: Sequence[str], coords: dict[str, Any]) -> xr.Dataset:
        import xarray as xr

        axes = len(self.shape)
        lead = ("series",) if axes == 1 else tuple(f"series_{i}" for i in range(axes))
        return xr.Dataset({name: ((*lead, *dims), value) for name, value in variables.items()}, coords=coords)


def _tails(level: float) -> tuple[float, float, float]:
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; it lies between 0 and 1, as 0.9")
    return (1 - level) / 2, 0.5, (1 + level) / 2


def _refusal(y: Array, there: NDArray[np.bool_]) -> str:
    if np.any(np.isinf(y[there])):
        return "a value is infinite: mark missing points with nan, and measure broken ones again"
    if np.sum(there) < 2:
        return f"too few points: {np.sum(there)} finite; a posterior needs 2"
    return ""


def _alike(t: Array, there: NDArray[np.bool_], ready: NDArray[np.bool_]) -> list[Rows]:
    """The series that share their steps and the last one seen, a few dozen at a time."""
    rows = np.flatnonzero(ready)
    if not rows.size:
        return []
    last = np.max(np.where(there, t, -np.inf)[rows], axis=1, keepdims=True)
    _, which = np.unique(np.concatenate([np.nan_to_num(t[rows], nan=-1.0), last], axis=1), axis=0, return_inverse=True)
    groups = [rows[which == i] for i in range(which.max() + 1)]
    return [part for group in groups for part in np.array_split(group, -(-len(group) // AT_ONCE))]


@dataclass(frozen=True, eq=False)
class _Part:
    """Series that share their steps, and the components of their posteriors.

    Attributes:
        rows: (S,), which series they are.
        time: of the run.
        x, xi: (n,), what the basis takes and the noise's coordinate, ascending.
        v: (S, n), values in their units, less the center.
        seen: (S, n).
        center, scale, largest: (S,), the units, and the largest |curve| seen.
        theta: (S, J, q).
        mean: (S, J, k), of the coefficients of the basis.
        root: (S, J, k, k), B with B B' their covariance.
        sigma, length, weight: (S, J).
        log_evidence: (S,).
    """

    prior: Prior
    rows: Rows
    time: RunTime
    x: Array
    xi: Array
    v: Array
    seen: NDArray[np.bool_]
    center: Array
    scale: Array
    largest: Array
    theta: Array
    mean: Array
    root: Array
    sigma: Array
    length: Array
    weight: Array
    log_evidence: Array

    @classmethod
    def of(
        cls, prior: Prior, t: Array, y: Array, there: NDArray[np.bool_], rows: Rows, last_step: float | None
    ) -> _Part:
        steps = np.where(np.any(there, axis=0), t[0], np.nan)
        if last_step is not None and np.nanmax(steps) > last_step:
            raise UsageError(f"the run's last step is {last_step:g}, and step {np.nanmax(steps):g} was seen")
        order = np.argsort(steps, kind="stable")[: np.sum(np.isfinite(steps))]
        steps, y, there = steps[order], y[:, order], there[:, order]
        time = RunTime.of(prior.model, steps, last_step)
        center, scale = _units(prior, y, there)
        v = np.where(there, (np.where(there, y, 0) - center[:, np.newaxis]) / scale[:, np.newaxis], 0.0)
        search = _Search(prior, time, time.x(steps), noise.coordinate(time.share(steps)), v, there, center / scale)
        found = search.components()
        return cls(prior, rows, time, search.x, search.xi, v, there, center, scale, search.largest, *found)

    def draws(self, n: int, rng: np.random.Generator) -> Array:
        """(S, n, p), independent."""
        S, J, k = self.mean.shape
        chosen = np.stack([rng.choice(J, n, p=w) for w in self.weight])
        return self._parameters(chosen, rng.normal(size=(S, n, k)))

    def quasi_draws(self) -> Array:
        """(S, J DRAWS, p), of equal weight."""
        S, J, k = self.mean.shape
        n = J * DRAWS
        places = (np.arange(n) + 0.5) / n
        chosen = np.stack([np.searchsorted(np.cumsum(w) / np.sum(w), places).clip(0, J - 1) for w in self.weight])
        z = _normal(n, k)
        return self._parameters(chosen, np.broadcast_to(z, (S, n, k)))

    def _parameters(self, chosen: Rows, z: Array) -> Array:
        pick = np.arange(len(chosen))[:, np.newaxis]
        coefficients = self.mean[pick, chosen] + np.einsum("sjab,sjb->sja", self.root[pick, chosen], z)
        return raw_parameters(
            self.prior.model, self.theta[pick, chosen], coefficients, self.time, self.center, self.scale
        )

    def over_steps(self, t: Array, probabilities: Sequence[float], noisy: bool) -> Array:
        """Quantiles at steps t of the curve, or of what would be measured: (len(probabilities), S, m)."""
        columns = self.prior.model.columns(self.time.x(t), self.theta)
        columns = np.where(np.isfinite(columns), columns, 0.0)
        curve = np.einsum("sjmk,sjk->smj", columns, self.mean)
        if noisy:
            mean, variance = self._measured(t, columns, curve)
        else:
            mean, variance = curve, np.sum(np.square(np.einsum("sjmk,sjkb->sbmj", columns, self.root)), axis=1)
        weight = np.broadcast_to(self.weight[:, np.newaxis], mean.shape)
        found = quantiles(weight, mean, np.sqrt(variance), probabilities)
        return found * self.scale[:, np.newaxis] + self.center[:, np.newaxis]

    def _measured(self, t: Array, columns: Array, curve: Array) -> tuple[Array, Array]:
        """Mean and variance (S, m, J) of a measurement at t: a z_n carried on from the last point, and new noise."""
        growth, shift = self.prior.growth, (self.center / self.scale)[:, np.newaxis, np.newaxis]
        largest = self.largest[:, np.newaxis, np.newaxis]
        last = self.v.shape[1] - 1 - np.argmax(self.seen[:, ::-1], axis=1)
        at_last = self.prior.model.columns(self.x, self.theta)[np.arange(len(last)), :, last]
        g = noise.loudness(curve + shift, largest, growth)
        g_last = noise.loudness(np.einsum("sjk,sjk->sj", at_last, self.mean) + shift[..., 0], largest[..., 0], growth)
        ahead = noise.coordinate(self.time.share(t)) - self.xi[last][:, np.newaxis]
        a = noise.carried(ahead[:, :, np.newaxis], self.length[:, np.newaxis])
        a = np.where(ahead[:, :, np.newaxis] > 0, a, 0.0)
        kept = a * g / g_last[:, np.newaxis]
        moved = columns - np.moveaxis(kept, 1, 2)[..., np.newaxis] * at_last[:, :, np.newaxis]
        v_last = self.v[np.arange(len(last)), last][:, np.newaxis, np.newaxis]
        mean = np.einsum("sjmk,sjk->smj", moved, self.mean) + kept * v_last
        variance = np.sum(np.square(np.einsum("sjmk,sjkb->sbmj", moved, self.root)), axis=1)
        return mean, variance + np.square(self.sigma[:, np.newaxis] * g) * (1 - a * a)


def _units(prior: Prior, y: Array, there: NDArray[np.bool_]) -> tuple[Array, Array]:
    """(center, scale) of each series, by the prior's rule."""
    if prior.units == "given":
        return np.full(len(y), prior.center), np.full(len(y), prior.scale)
    size = np.max(np.abs(y), axis=1, where=there, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    if prior.units == "level":
        late = there & (np.cumsum(there[:, ::-1], axis=1)[:, ::-1] <= 3)
        level = np.mean(np.abs(y), axis=1, where=late)
        return np.zeros(len(y)), np.where(level > 0, level, size)
    if isinstance(prior.model, Hypothesis) and not prior.model.has_offset:
        return np.zeros(len(y)), size
    low, high = np.min(y, axis=1, where=there, initial=np.inf), np.max(y, axis=1, where=there, initial=-np.inf)
    return low, np.where(high > low, high - low, size)


def _normal(n: int, dimensions: int) -> Array:
    """(n, dimensions), a quasi-random sequence of the standard normal distribution."""
    from scipy.special import ndtri

    return ndtri(np.clip(qmc.Sobol(dimensions, seed=7).random(n), 1e-9, 1 - 1e-9))


class _Search:
    """From series in their units to the components of their posteriors."""

    def __init__(
        self, prior: Prior, time: RunTime, x: Array, xi: Array, v: Array, seen: NDArray[np.bool_], shift: Array
    ) -> None:
        self.prior, self.time, self.x, self.xi, self.v, self.seen = prior, time, x, xi, v, seen
        self.precision = np.linalg.inv(prior.linear_cov)
        self.lengths = [l for l, chance in zip(LENGTHS, prior.lengths, strict=True) if chance > 0]  # noqa: E741
        self.length_logs = np.log([chance for chance in prior.lengths if chance > 0])
        self.everyone = np.arange(len(v))
        self.largest = np.ones(len(v))
        self.g = np.ones(v.shape)
        self._set_loudness(shift)

    def _set_loudness(self, shift: Array) -> None:
        """The plug-in: the curve of a first pass with equal variances, and from it the size of the noise."""
        box, q = self.prior.box, len(self.prior.mean)
        edges = [np.linspace(low, high, 2 * COARSE[q] + 1)[1::2] for low, high in box]
        grid = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(1, -1, q)
        self.white = self._whitenings([0.0])
        curve, raw = self._first_curve(grid), shift[:, np.newaxis]
        self.largest = np.max(np.abs(curve + raw), axis=1, where=self.seen, initial=0.0)
        self.largest = np.where(self.largest > 0, self.largest, 1.0)
        self.g = noise.loudness(curve + raw, self.largest[:, np.newaxis], self.prior.growth)
        self.white = self._whitenings(self.lengths)

    def _first_curve(self, grid: Array) -> Array:
        """(S, n), the posterior mean of the curve over the coarse grid, with white noise of equal variance."""
        sigma = self._levels()
        columns, size, bad = self._columns(grid)
        moments = self._moments(columns, 0, self.everyone)
        total = []
        for level in sigma:
            part = evidence.conditional(moments, self.precision, self._prior_mean(grid), np.array(level))
            total.append((part.log_evidence + self._sigma_log(level), part.mean))
        logs = np.array([one for one, _ in total]) + np.where(bad, -np.inf, self._u_log(grid))
        weight = np.exp(logs - logsumexp(logs, axis=(0, 2), keepdims=True))
        return sum(
            np.einsum("sN,ksN,sNnk->sn", w, mean, np.broadcast_to(columns, (len(self.v), *columns.shape[1:])))
            for w, (_, mean) in zip(weight, total, strict=True)
        )

    def _whitenings(self, lengths: Sequence[float]) -> list[tuple[Array, Array]]:
        xi = np.broadcast_to(self.xi, self.v.shape)
        return [noise.whitening(xi, self.seen, self.g, length) for length in lengths]

    def _columns(self, u: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """(columns (S, N, n, k) divided by their sizes, the sizes (S, N, k), where they are not finite (S, N))."""
        theta = self.prior.model.nonlinear_at(u)
        with np.errstate(all="ignore"):
            size = sizes(self.prior.model, theta, self.time)
            columns = self.prior.model.columns(self.x, theta) / size[..., np.newaxis, :]
        bad = ~np.all(np.isfinite(columns), axis=(-2, -1))
        if np.any(bad):
            columns[bad] = 0.0
        return columns, size, bad

    def _moments(self, columns: Array, which_length: int, rows: Rows) -> Moments:
        """Of the whitened columns and values: trailing shape (S, N)."""
        W, log_det = self.white[which_length]
        W = W[rows]
        S, n = len(rows), columns.shape[2]
        N, k = columns.shape[1], columns.shape[3]
        flat = np.broadcast_to(columns.transpose(0, 2, 3, 1), (S, n, k, N)).reshape(S, n, k * N)
        X = (W @ flat).reshape(S, n, k, N)
        y = np.einsum("sij,sj->si", W, self.v[rows])
        gram = np.empty((k, k, S, N))
        for i in range(k):
            for j in range(i + 1):
                gram[i, j] = gram[j, i] = np.einsum("snN,snN->sN", X[:, :, i], X[:, :, j])
        cross = np.einsum("snkN,sn->ksN", X, y)
        power = np.broadcast_to(np.sum(y * y, axis=1)[:, np.newaxis], (S, N))
        count = np.sum(self.seen[rows], axis=1)[:, np.newaxis]
        return Moments(gram, cross, power, count, log_det[rows][:, np.newaxis])

    def _prior_mean(self, u: Array) -> Array:
        """(k, S, N) for u (S, N, q)."""
        mean = self.prior.linear_mean + (u - self.prior.mean) @ self.prior.linear_slope.T
        return np.moveaxis(mean, -1, 0)

    def _u_log(self, u: Array) -> Array:
        """Log prior of the search coordinates, up to its normalisation over the box."""
        off = u - self.prior.mean
        inverse = np.linalg.inv(self.prior.cov)
        return -0.5 * np.einsum("...i,ij,...j->...", off, inverse, off)

    def _sigma_log(self, sigma: Array | float) -> Array:
        mean, sd = self.prior.log_sigma
        return -0.5 * np.square((np.log(sigma) - mean) / sd) - np.log(sd * np.sqrt(2 * np.pi))

    def _levels(self) -> Array:
        """Noise levels from end to end of the prior, about 0.7 apart in the logarithm."""
        mean, sd = self.prior.log_sigma
        return np.exp(mean + sd * np.linspace(-3.2, 3.2, max(5, int(np.ceil(6.4 * sd / 0.7)))))

    def _log_density(self, u: Array, rows: Rows) -> Array:
        """(S, N), with the lengths summed over and the noise level at its best: it only says where to look."""
        columns, _, bad = self._columns(u)
        mean = self._prior_mean(u)
        total = np.full((len(rows), u.shape[1]), -np.inf)
        for i, chance in enumerate(self.length_logs):
            moments = self._moments(columns, i, rows)
            sigma = self._best_level(moments, mean)
            one = evidence.log_evidence(moments, self.precision, mean, sigma)
            total = np.logaddexp(total, one + chance + self._sigma_log(sigma))
        return np.where(bad, -np.inf, total + self._u_log(u))

    def _best_level(self, moments: Moments, prior_mean: Array) -> Array:
        """About the most likely noise level at each node, (S, N).

        With the prior of log sigma taken as one of the inverse gamma kind with as many degrees of freedom f as have its
        width, sigma^2 = (RSS + f s^2)/(n + f).
        """
        mean, sd = self.prior.log_sigma
        freedom, level = 0.5 / sd**2, np.exp(mean)
        misfit = evidence.misfit(moments, self.precision, prior_mean, np.array(level)) * level**2
        return np.sqrt((misfit + freedom * level**2) / (moments.count + freedom))

    def components(self) -> tuple[Array, ...]:
        """(theta, mean, root, sigma, length, weight, log evidence); see `_Part`.

        Cells are picked by the mass that the search gives them, a place is taken in each, and how much denser the
        posterior is there than the search said is the component's weight. That makes up for cells that are wide still.
        """
        box, q = self.prior.box, len(self.prior.mean)
        u, half, log_f = cells.refined(self._log_density, box, COARSE[q], len(self.v))
        log_mass = log_f + np.sum(np.log(2 * half), axis=2)
        cell = _systematic(log_mass, COMPONENTS)
        place = qmc.Sobol(q + 1, seed=5).random(COMPONENTS)
        pick = self.everyone[:, np.newaxis]
        u = u[pick, cell] + half[pick, cell] * (2 * place[:, :q] - 1)
        found, log_marginal = self._at(u, place[:, q])
        log_w = log_marginal - log_f[pick, cell]
        weight = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
        log_evidence = logsumexp(log_mass, axis=1) + logsumexp(log_w, axis=1) - np.log(COMPONENTS) + self._constant()
        return (*found, weight, log_evidence)

    def _constant(self) -> float:
        """Normalisation of the prior of u in the box."""
        prior, (low, high) = self.prior, self.prior.box.T
        inside = multivariate_normal(prior.mean, prior.cov).cdf(high, lower_limit=low)  # pyright: ignore[reportCallIssue]
        return -0.5 * np.linalg.slogdet(2 * np.pi * prior.cov)[1] - float(np.log(inside))

    def _at(self, u: Array, chance: Array) -> tuple[tuple[Array, ...], Array]:
        """((theta, mean, root, sigma, length) at places u (S, J, q), the log density there with all else summed out).

        Noise level and length are those at which their distribution function, given u, reaches `chance` (J,).
        """
        columns, size, bad = self._columns(u)
        prior_mean, fixed = self._prior_mean(u), np.where(bad, -np.inf, self._u_log(u))
        moments = [self._moments(columns, i, self.everyone) for i in range(len(self.lengths))]
        sigma, spacing = self._nodes(moments, prior_mean, fixed)
        table = np.array([
            [evidence.log_evidence(m, self.precision, prior_mean, level) + log + self._sigma_log(level) for level in sigma]
            for m, log in zip(moments, self.length_logs, strict=True)
        ]).reshape(-1, *u.shape[:2])  # fmt: skip
        total = logsumexp(table, axis=0)
        climb = np.cumsum(np.exp(table - total), axis=0)
        length, level = np.divmod(np.sum(climb < chance * climb[-1], axis=0), LEVELS)
        chosen = Moments(*(_each(np.array([m[i] + np.zeros(u.shape[:2]) for m in moments]), length) for i in range(5)))
        sigma = np.take_along_axis(sigma[:, :, 0].T, level, axis=1)
        one = evidence.conditional(chosen, self.precision, prior_mean, sigma)
        root = np.linalg.inv(np.moveaxis(one.root, (0, 1), (-2, -1)))
        spread = np.swapaxes(root, -2, -1) / size[..., :, np.newaxis]
        found = (self.prior.model.nonlinear_at(u), np.moveaxis(one.mean, 0, -1) / size, spread, sigma)
        return (*found, np.array(self.lengths)[length]), total + np.log(spacing)[:, np.newaxis] + fixed

    def _nodes(self, moments: Sequence[Moments], prior_mean: Array, fixed: Array) -> tuple[Array, Array]:
        """(noise levels (levels, S, 1) about the most likely one, their spacing (S,) in the logarithm)."""
        middle = self._middle_level(moments, prior_mean, fixed)
        spacing = _WIDTH / np.sqrt(2 * np.sum(self.seen, axis=1) + self.prior.log_sigma[1] ** -2)
        around = (np.arange(LEVELS) - LEVELS // 2)[:, np.newaxis, np.newaxis]
        return np.exp((middle + spacing * around[..., 0])[..., np.newaxis]), spacing

    def _middle_level(self, moments: Sequence[Moments], prior_mean: Array, fixed: Array) -> Array:
        """(S,), the mean of the most likely log sigma over the cells and lengths."""
        logs, levels = [], []
        for m, chance in zip(moments, self.length_logs, strict=True):
            sigma = self._best_level(m, prior_mean)
            logs.append(
                evidence.log_evidence(m, self.precision, prior_mean, sigma) + chance + self._sigma_log(sigma) + fixed
            )
            levels.append(np.log(sigma))
        weight = np.exp(np.array(logs) - logsumexp(logs, axis=(0, 2), keepdims=True))
        return np.sum(weight * np.array(levels), axis=(0, 2))

    def _conditionals(self, u: Array, sigma: Array, length: Rows, log_mass: Array) -> tuple[Array, ...]:
        """The components at these places, weighted by how much denser the posterior is there than its cell says."""
        columns, size, bad = self._columns(u)
        S, J, k = len(u), u.shape[1], columns.shape[3]
        mean, root, log_f = np.empty((k, S, J)), np.empty((k, k, S, J)), np.full((S, J), -np.inf)
        prior_mean = self._prior_mean(u)
        for i in range(len(self.lengths)):
            here = length == i
            if not np.any(here):
                continue
            moments = self._moments(columns, i, self.everyone)
            one = evidence.conditional(moments, self.precision, prior_mean, sigma)
            mean[:, here], root[:, :, here] = one.mean[:, here], one.root[:, :, here]
            log_f[here] = (one.log_evidence + self.length_logs[i] + self._sigma_log(sigma))[here]
        log_w = np.where(bad, -np.inf, log_f + self._u_log(u)) - log_mass
        weight = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
        inverse = np.linalg.inv(np.moveaxis(root, (0, 1), (-2, -1)))
        spread = np.swapaxes(inverse, -2, -1) / size[..., :, np.newaxis]
        theta = self.prior.model.nonlinear_at(u)
        lengths = np.array(self.lengths)[length]
        return theta, np.moveaxis(mean, 0, -1) / size, spread, sigma, lengths, weight


def _each(arrays: Array, which: Rows) -> Array:
    """arrays[which[s, j], ..., s, j] for all s and j, arrays of shape (lengths, ..., S, J)."""
    which = which.reshape(1, *(1,) * (arrays.ndim - 3), *which.shape)
    return np.take_along_axis(arrays, which, axis=0)[0]


def _systematic(log_mass: Array, count: int) -> Rows:
    """Evenly spaced picks from each row of log masses (S, N): (S, count)."""
    climb = np.cumsum(np.exp(log_mass - np.max(log_mass, axis=1, keepdims=True)), axis=1)
    places = (np.arange(count) + 0.5) / count
    return np.stack([np.searchsorted(row, places * row[-1]) for row in climb]).clip(0, log_mass.shape[1] - 1)
