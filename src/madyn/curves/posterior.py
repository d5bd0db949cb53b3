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
from typing import TYPE_CHECKING, Any, NamedTuple

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
LEVELS = 9  # nodes of sigma, a standard deviation of its logarithm apart


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

    def components(self) -> Components:
        """The mixture that each posterior is, in the prior's coordinates and units; for learning."""
        q, k = self.prior.model.num_nonlinear, len(self.prior.model.linear)
        J = COMPONENTS
        shapes = ((J, q), (J, k), (J, k, k), (J,), (J,), (J,))
        return Components(*(
            self._collected(lambda part, i=i: part.components()[i], shape).reshape(-1, *shape)
            for i, shape in enumerate(shapes)
        ))  # fmt: skip

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


class Components(NamedTuple):
    """J components for each of S series.

    Attributes:
        u: (S, J, q), search coordinates of the nonlinear parameters.
        mean: (S, J, k), of the scaled coefficients.
        cov: (S, J, k, k).
        sigma, length, weight: (S, J).
    """

    u: Array
    mean: Array
    cov: Array
    sigma: Array
    length: Array
    weight: Array


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
    """The series that were seen at the same steps, a few dozen at a time."""
    rows = np.flatnonzero(ready)
    if not rows.size:
        return []
    _, which = np.unique(np.where(there, t, -1.0)[rows], axis=0, return_inverse=True)
    groups = [rows[which == i] for i in range(which.max() + 1)]
    return [part for group in groups for part in np.array_split(group, -(-len(group) // AT_ONCE))]


@dataclass(frozen=True, eq=False)
class _Part:
    """Series that were seen at the same steps, and the components of their posteriors.

    Attributes:
        rows: (S,), which series they are.
        time: of the run.
        x, xi: (n,), what the basis takes and the noise's coordinate, ascending.
        v: (S, n), values in their units, less the center.
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
        steps, y = t[0, there[0]], y[:, there[0]]
        if last_step is not None and np.max(steps) > last_step:
            raise UsageError(f"the run's last step is {last_step:g}, and step {np.max(steps):g} was seen")
        order = np.argsort(steps, kind="stable")
        steps, y = steps[order], y[:, order]
        time = RunTime.of(prior.model, steps, last_step)
        center, scale = _units(prior, y)
        v = (y - center[:, np.newaxis]) / scale[:, np.newaxis]
        search = _Search(prior, time, time.x(steps), noise.coordinate(time.share(steps)), v, center / scale)
        *components, log_evidence = search.components()
        log_evidence -= len(steps) * np.log(scale)
        return cls(
            prior, rows, time, search.x, search.xi, v, center, scale, search.largest, *components, log_evidence
        )

    def components(self) -> Components:
        model = self.prior.model
        size = sizes(model, self.theta, self.time)
        root = self.root * size[..., np.newaxis]
        u = np.where(model.log_scale, np.log(np.where(model.log_scale, self.theta, 1.0)), self.theta)
        return Components(u, self.mean * size, root @ np.swapaxes(root, -2, -1), self.sigma, self.length, self.weight)

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
        at_last = self.prior.model.columns(self.x[-1:], self.theta)[:, :, 0]
        g = noise.loudness(curve + shift, largest, growth)
        g_last = noise.loudness(np.einsum("sjk,sjk->sj", at_last, self.mean) + shift[..., 0], largest[..., 0], growth)
        ahead = noise.coordinate(self.time.share(t)) - self.xi[-1]
        a = noise.carried(ahead[:, np.newaxis], self.length[:, np.newaxis])
        a = np.where(ahead[:, np.newaxis] > 0, a, 0.0)
        kept = a * g / g_last[:, np.newaxis]
        moved = columns - np.moveaxis(kept, 1, 2)[..., np.newaxis] * at_last[:, :, np.newaxis]
        mean = np.einsum("sjmk,sjk->smj", moved, self.mean) + kept * self.v[:, -1:, np.newaxis]
        variance = np.sum(np.square(np.einsum("sjmk,sjkb->sbmj", moved, self.root)), axis=1)
        return mean, variance + np.square(self.sigma[:, np.newaxis] * g) * (1 - a * a)


def _units(prior: Prior, y: Array) -> tuple[Array, Array]:
    """(center, scale) of each series (S, n), by the prior's rule."""
    if prior.units == "given":
        return np.full(len(y), prior.center), np.full(len(y), prior.scale)
    size = np.max(np.abs(y), axis=1)
    size = np.where(size > 0, size, 1.0)
    if prior.units == "level":
        level = np.mean(np.abs(y[:, -3:]), axis=1)
        return np.zeros(len(y)), np.where(level > 0, level, size)
    if isinstance(prior.model, Hypothesis) and not prior.model.has_offset:
        return np.zeros(len(y)), size
    spread = np.ptp(y, axis=1)
    return np.min(y, axis=1), np.where(spread > 0, spread, size)


def _normal(n: int, dimensions: int) -> Array:
    """(n, dimensions), a quasi-random sequence of the standard normal distribution."""
    from scipy.special import ndtri

    return ndtri(np.clip(qmc.Sobol(dimensions, seed=7).random(n), 1e-9, 1 - 1e-9))


class _Search:
    """From series in their units to the components of their posteriors."""

    def __init__(self, prior: Prior, time: RunTime, x: Array, xi: Array, v: Array, shift: Array) -> None:
        self.prior, self.time, self.x, self.xi, self.v = prior, time, x, xi, v
        self.precision = np.linalg.inv(prior.linear_cov)
        self.lengths = [l for l, chance in zip(LENGTHS, prior.lengths, strict=True) if chance > 0]  # noqa: E741
        self.length_logs = np.log([chance for chance in prior.lengths if chance > 0])[:, np.newaxis, np.newaxis]
        self.everyone = np.arange(len(v))
        self.largest, g = self._loudness(shift)
        self.noise = _Precision.of(xi, g, self.lengths)

    def _loudness(self, shift: Array) -> tuple[Array, Array]:
        """The plug-in, (the largest |curve| (S,), g (S, n)): the curve is that of a first pass with equal variances."""
        self.noise = _Precision.of(self.xi, np.ones(self.v.shape), [0.0])
        curve = self._first_curve() + shift[:, np.newaxis]
        largest = np.max(np.abs(curve), axis=1)
        largest = np.where(largest > 0, largest, 1.0)
        return largest, noise.loudness(curve, largest[:, np.newaxis], self.prior.growth)

    def _first_curve(self) -> Array:
        """(S, n), the posterior mean of the curve over the coarse grid, with white noise of equal variance."""
        grid = cells.grid(self.prior.box, COARSE[len(self.prior.mean)])[np.newaxis]
        columns, _, bad = self._columns(grid)
        moments, prior_mean = self._moments(columns, self.everyone), self._prior_mean(grid)
        fixed = np.where(bad, -np.inf, self._u_log(grid))
        found = [
            evidence.conditional(moments, self.precision, prior_mean, np.array(level)) for level in self._levels()
        ]
        logs = np.array(
            [one.log_evidence[0] + self._sigma_log(s) + fixed for one, s in zip(found, self._levels(), strict=True)]
        )
        weight = np.exp(logs - logsumexp(logs, axis=(0, 2), keepdims=True))
        mean = sum(w * one.mean[:, 0] for w, one in zip(weight, found, strict=True))
        return np.einsum("ksN,Nnk->sn", mean, columns[0], optimize=True)

    def _columns(self, u: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """(columns (S, N, n, k) divided by their sizes, the sizes (S, N, k), where they are not finite (S, N))."""
        theta = self.prior.model.nonlinear_at(u)
        with np.errstate(all="ignore"):
            size = sizes(self.prior.model, theta, self.time)
            columns = self.prior.model.columns(self.x, theta) / size[..., np.newaxis, :]
        bad = ~np.isfinite(np.sum(columns, axis=(-2, -1)))
        if np.any(bad):
            columns[bad] = 0.0
        return columns, size, bad

    def _moments(self, columns: Array, rows: Rows) -> Moments:
        """Of columns (S, N, n, k), or (1, N, n, k) that all series share: trailing shape (lengths, S, N)."""
        bands, pull = self.noise.bands[:, rows], self.noise.times(self.v)[:, rows]
        S, N, n, k = columns.shape
        parts = [np.ascontiguousarray(columns[..., i]) for i in range(k)]
        gram = np.empty((k, k, len(bands), len(rows), N))
        cross = np.empty((k, len(bands), len(rows), N))
        pair = np.empty((S, N, 2 * n - 1))
        for i, a in enumerate(parts):
            cross[i] = _dot(a, pull)
            for j, b in enumerate(parts[: i + 1]):
                np.multiply(a, b, out=pair[..., :n])
                np.multiply(a[..., 1:], b[..., :-1], out=pair[..., n:])
                pair[..., n:] += a[..., :-1] * b[..., 1:]
                gram[i, j] = gram[j, i] = _dot(pair, bands)
        power = np.einsum("lsn,sn->ls", pull, self.v[rows])[..., np.newaxis]
        return Moments(gram, cross, power, n, self.noise.log_det[:, rows][..., np.newaxis])

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
        moments, prior_mean = self._moments(columns, rows), self._prior_mean(u)
        sigma = self._best_level(moments, prior_mean)
        logs = evidence.log_evidence(moments, self.precision, prior_mean, sigma) + self._sigma_log(sigma)
        return np.where(bad, -np.inf, np.logaddexp.reduce(logs + self.length_logs, axis=0) + self._u_log(u))

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
        moments = self._moments(columns, self.everyone)
        sigma, spacing = self._nodes(moments, prior_mean, fixed)
        logs = [
            evidence.log_evidence(moments, self.precision, prior_mean, level) + self._sigma_log(level) for level in sigma
        ]
        table = (np.array(logs) + self.length_logs).reshape(-1, *u.shape[:2])
        total = logsumexp(table, axis=0)
        climb = np.cumsum(np.exp(table - total), axis=0)
        level, length = np.divmod(np.sum(climb < chance * climb[-1], axis=0), len(self.lengths))
        sigma = np.take_along_axis(sigma[:, :, 0].T, level, axis=1)
        one = evidence.conditional(moments.at(length), self.precision, prior_mean, sigma)
        root = np.linalg.inv(np.moveaxis(one.root, (0, 1), (-2, -1)))
        spread = np.swapaxes(root, -2, -1) / size[..., :, np.newaxis]
        found = (self.prior.model.nonlinear_at(u), np.moveaxis(one.mean, 0, -1) / size, spread, sigma)
        return (*found, np.array(self.lengths)[length]), total + np.log(spacing) + fixed

    def _nodes(self, moments: Moments, prior_mean: Array, fixed: Array) -> tuple[Array, float]:
        """(noise levels (levels, S, 1) about the most likely ones, their spacing in the logarithm)."""
        sigma = self._best_level(moments, prior_mean)
        logs = evidence.log_evidence(moments, self.precision, prior_mean, sigma) + self._sigma_log(sigma)
        logs += self.length_logs + fixed
        weight = np.exp(logs - logsumexp(logs, axis=(0, 2), keepdims=True))
        middle = np.sum(weight * np.log(sigma), axis=(0, 2))[:, np.newaxis]
        spacing = float(1 / np.sqrt(2 * len(self.x) + self.prior.log_sigma[1] ** -2))
        return np.exp(middle + spacing * (np.arange(LEVELS) - LEVELS // 2)[:, np.newaxis, np.newaxis]), spacing


class _Precision(NamedTuple):
    """Inverse covariances of the noise at sigma = 1, three diagonals each, for every length and series.

    Attributes:
        bands: (lengths, S, 2 n - 1), the diagonal and the one beside it.
        log_det: (lengths, S), log of the square root of the determinant.
    """

    bands: Array
    log_det: Array

    @classmethod
    def of(cls, xi: Array, g: Array, lengths: Sequence[float]) -> _Precision:
        beside = g[:, 1:] * g[:, :-1]
        each = [noise.precision(xi, length) for length in lengths]
        bands = [np.concatenate([diagonal / g**2, off / beside], axis=1) for diagonal, off, _ in each]
        return cls(np.array(bands), np.array([log - np.sum(np.log(g), axis=1) for _, _, log in each]))

    def times(self, v: Array) -> Array:
        """The matrices times series v (S, n): (lengths, S, n)."""
        n = v.shape[1]
        found = self.bands[..., :n] * v
        found[..., 1:] += self.bands[..., n:] * v[:, :-1]
        found[..., :-1] += self.bands[..., n:] * v[:, 1:]
        return found


def _dot(features: Array, weights: Array) -> Array:
    """Features (S, N, m), or (1, N, m) for all, with weights (lengths, S, m): (lengths, S, N)."""
    if len(features) == 1:
        return weights @ features[0].T
    return np.moveaxis(features @ np.moveaxis(weights, 0, -1), -1, 0)


def _systematic(log_mass: Array, count: int) -> Rows:
    """Evenly spaced picks from each row of log masses (S, N): (S, count)."""
    climb = np.cumsum(np.exp(log_mass - np.max(log_mass, axis=1, keepdims=True)), axis=1)
    places = (np.arange(count) + 0.5) / count
    return np.stack([np.searchsorted(row, places * row[-1]) for row in climb]).clip(0, log_mass.shape[1] - 1)
