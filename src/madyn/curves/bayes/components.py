"""A posterior as a mixture: what its components say of the curve and of what will be measured.

Each component has one theta, noise level and correlation length, and the normal distribution of the linear parameters
that goes with them. The curve at any step, and the noise that goes on from the last point seen, are linear in those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from madyn.curves.bayes import noise
from madyn.curves.bayes.marginal import Marginal, Mixture
from madyn.curves.bayes.mixture import quantiles
from madyn.curves.bayes.priors import Prior, RunTime, raw_parameters, sizes
from madyn.curves.bayes.widening import widened
from madyn.curves.units import Units
from madyn.errors import UsageError
from madyn.typing import Array, Rows

DRAWS = 4  # of the linear parameters in each component, for what is not linear in them


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


@dataclass(frozen=True, eq=False)
class Part:
    """Series that were seen at the same steps, and the components of their posteriors.

    Attributes:
        rows: (S,), which series they are.
        time: of the run.
        x, xi: (n,), what the basis takes and the noise's coordinate, ascending.
        v: (S, n), values in their units, less the center.
        units: of the series.
        largest: (S,), the largest |curve| seen.
        mix: the components.
    """

    prior: Prior
    rows: Rows
    time: RunTime
    x: Array
    xi: Array
    v: Array
    units: Units
    largest: Array
    mix: Mixture

    @classmethod
    def of(
        cls, prior: Prior, t: Array, y: Array, there: NDArray[np.bool_], rows: Rows, last_step: float | None
    ) -> Part:
        steps, y = t[0, there[0]], y[:, there[0]]
        if last_step is not None and np.max(steps) > last_step:
            raise UsageError(f"the run's last step is {last_step:g}, and step {np.max(steps):g} was seen")
        order = np.argsort(steps, kind="stable")
        steps, y = steps[order], y[:, order]
        time = RunTime.of(prior.hypothesis, steps, last_step)
        units = _units(prior, time, y)
        v = units.scaled(y)
        search = Marginal(prior, time, time.x(steps), noise.coordinate(time.share(steps)), v, units.low / units.scale)
        mix = search.components()
        mix = mix._replace(log_evidence=mix.log_evidence - len(steps) * np.log(units.scale))
        return cls(prior, rows, time, search.x, search.xi, v, units, search.largest, mix)

    @property
    def last(self) -> float:
        """The last step seen."""
        return float(self.x[-1] * self.units.T)

    def components(self) -> Components:
        hypothesis = self.prior.hypothesis
        size = sizes(hypothesis, self.mix.theta, self.time)
        factor = self.mix.factor * size[..., np.newaxis]
        u = np.where(hypothesis.log_scale, np.log(np.where(hypothesis.log_scale, self.mix.theta, 1.0)), self.mix.theta)
        return Components(
            u,
            self.mix.mean * size,
            factor @ np.swapaxes(factor, -2, -1),
            self.mix.sigma,
            self.mix.length,
            self.mix.weight,
        )

    def draws(self, n: int, rng: np.random.Generator) -> Array:
        """(S, n, p), independent."""
        S, J, k = self.mix.mean.shape
        chosen = np.stack([rng.choice(J, n, p=w) for w in self.mix.weight])
        return self._parameters(chosen, rng.normal(size=(S, n, k)))

    def quasi_draws(self) -> Array:
        """(S, J DRAWS, p), of equal weight."""
        S, J, k = self.mix.mean.shape
        n = J * DRAWS
        places = (np.arange(n) + 0.5) / n
        chosen = np.stack([np.searchsorted(np.cumsum(w) / np.sum(w), places).clip(0, J - 1) for w in self.mix.weight])
        z = _normal(n, k)
        # In one order in memory, so that what is made of them rounds alike, however many series there are.
        return np.ascontiguousarray(self._parameters(chosen, np.broadcast_to(z, (S, n, k))))

    def _parameters(self, chosen: Rows, z: Array) -> Array:
        pick = np.arange(len(chosen))[:, np.newaxis]
        coefficients = self.mix.mean[pick, chosen] + np.einsum("sjab,sjb->sja", self.mix.factor[pick, chosen], z)
        return raw_parameters(self.prior.hypothesis, self.mix.theta[pick, chosen], coefficients, self.units)

    def over_steps(self, t: Array, probabilities: Sequence[float], noisy: bool) -> Array:
        """Quantiles at steps t of the curve, or of what would be measured: (len(probabilities), S, m)."""
        columns = self.prior.hypothesis.columns(self.time.x(t), self.mix.theta)
        columns = np.where(np.isfinite(columns), columns, 0.0)
        curve = np.einsum("sjmk,sjk->smj", columns, self.mix.mean)
        if noisy:
            mean, variance = self._measured(t, columns, curve)
        else:
            mean, variance = curve, np.sum(np.square(np.einsum("sjmk,sjkb->sbmj", columns, self.mix.factor)), axis=1)
        weight = np.broadcast_to(self.mix.weight[:, np.newaxis], mean.shape)
        floor = np.where(self.prior.positive, -self.units.low / self.units.scale, -np.inf)[:, np.newaxis]
        ends = quantiles(weight, mean, np.sqrt(variance), probabilities, floor)
        ends = self.units.unscaled(ends)
        if not noisy:
            return ends
        middle = ends[list(probabilities).index(0.5)]
        return widened(ends, middle, self.prior.widening, self.prior.positive)

    def _measured(self, t: Array, columns: Array, curve: Array) -> tuple[Array, Array]:
        """Mean and variance (S, m, J) of a measurement at t: a z_n carried on from the last point, and new noise."""
        share, shift = self.prior.proportional_share, (self.units.low / self.units.scale)[:, np.newaxis, np.newaxis]
        largest = self.largest[:, np.newaxis, np.newaxis]
        at_last = self.prior.hypothesis.columns(self.x[-1:], self.mix.theta)[:, :, 0]
        g = noise.noise_scale(curve + shift, largest, share)
        g_last = noise.noise_scale(
            np.einsum("sjk,sjk->sj", at_last, self.mix.mean) + shift[..., 0], largest[..., 0], share
        )
        ahead = noise.coordinate(self.time.share(t)) - self.xi[-1]
        a = noise.autocorrelation(ahead[:, np.newaxis], self.mix.length[:, np.newaxis])
        a = np.where(ahead[:, np.newaxis] > 0, a, 0.0)
        kept = a * g / g_last[:, np.newaxis]
        moved = columns - np.moveaxis(kept, 1, 2)[..., np.newaxis] * at_last[:, :, np.newaxis]
        mean = np.einsum("sjmk,sjk->smj", moved, self.mix.mean) + kept * self.v[:, -1:, np.newaxis]
        variance = np.sum(np.square(np.einsum("sjmk,sjkb->sbmj", moved, self.mix.factor)), axis=1)
        return mean, variance + np.square(self.mix.sigma[:, np.newaxis] * g) * (1 - a * a)


def _units(prior: Prior, time: RunTime, y: Array) -> Units:
    """The units of series (S, n), by the prior's rule; values that do not move at all are divided by their size."""
    if prior.units == "given":
        return prior.own_units(time, len(y))
    size = np.max(np.abs(y), axis=1)
    size = np.where(size > 0, size, 1.0)
    if prior.units == "level":
        level = np.mean(np.abs(y[:, -3:]), axis=1)
        return Units(time.unit, np.where(level > 0, level, size), np.zeros(len(y)))
    units = Units.of(prior.hypothesis, time.unit, np.min(y, axis=1), np.max(y, axis=1))
    return units._replace(scale=np.where(units.scale > 0, units.scale, size))


def _normal(n: int, dimensions: int) -> Array:
    """(n, dimensions), a quasi-random sequence of the standard normal distribution."""
    return ndtri(np.clip(qmc.Sobol(dimensions, rng=7).random(n), 1e-9, 1 - 1e-9))
