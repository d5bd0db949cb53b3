"""What is held likely of a curve before its series is seen: `Prior`, proper in every parameter.

A flat prior would let the box decide: as beta goes to 0 or infinity, or tau0 to infinity, the curves of reparam run
into ones that no longer change, and the posterior would have its mass wherever the box ends. So

    u ~ N(mean, cov), in the box         search coordinates of the nonlinear parameters (log beta T and log tau0/T)
    c | u ~ N(m + M (u - mean), C)       coefficients of the basis, each column divided by its size, in units
    log sigma ~ N(.., ..), and each correlation length with a probability             the noise, see `noise`

with the units of a series, its `center` and `scale`, given or taken from what was seen of it. The size of a column is
its largest absolute value over the run, so that c is what a term moves the curve by. The size of a column of reparam's
that can be tiny everywhere matters: exp(-beta s) log(1 + s/tau0) is s/tau0 for large tau0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from madyn.arrays import number, read, read_row, whole_number
from madyn.curves.bayes import noise
from madyn.curves.fitting.series import LARGEST_STEP
from madyn.curves.hypotheses.registry import HYPOTHESES, resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.renaming import renamed
from madyn.curves.units import Units
from madyn.errors import UsageError
from madyn.typing import Array

LENGTHS = (0.0, 0.1, 0.3, 1.0)
"""Correlation lengths of the noise that are tried, in the logarithm of the share of the run (see `noise`)."""

_REFERENCE = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 15)])
MOST_DRAWS = 10**8
_SHARE = 6.0  # the default prior's standard deviation is this part of the box
_REACH = 4.0  # standard deviations of the prior within which a posterior is looked for


@renamed(model="hypothesis", growth="proportional_share")
@dataclass(frozen=True, eq=False)
class Prior:
    """A prior over the curves of a hypothesis and the noise about them, in normalised time and a series' own units.

    Attributes:
        hypothesis: the curve.
        mean: (q,), of the nonlinear parameters' search coordinates.
        cov: (q, q), their covariance.
        linear_mean: (k,), of the scaled coefficients at `mean`.
        linear_slope: (k, q), how their mean moves with the search coordinates.
        linear_cov: (k, k), their covariance about that mean.
        log_sigma: (mean, standard deviation) of the logarithm of the noise, in units of the scale.
        lengths: probabilities of the correlation lengths `LENGTHS`.
        proportional_share: of the noise's variance, the share that goes with the squared curve, from 0 to below 1.
        units: "range", for a center and scale that are the minimum and range of what was seen (0 and the largest |y|
            for a curve with no offset, and for a user's own); "level", for 0 and the mean |y| of the last three points
            seen; "given", for `center` and `scale`.
        center: see `units`.
        scale: see `units`.
        widening: the factor, 1 or more, by which the bands of a forecast are widened about their median, as those of
            finished runs that were left out proved too narrow.
        positive: whether a measurement cannot be below 0, as |h| cannot. The curve's normal distributions reach below 0
            all the same; forecasts, values, plateaus and peaks' heights are then those of the part that lies above it.
        source: where it comes from, in words.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> prior = Prior.default("step1")
    >>> prior.source, prior.given(scale=2.0).units, prior.box.shape
    ('default', 'given', (1, 2))
    >>> drawn = prior.sample(3, t)
    >>> drawn.y.shape
    (3, 30)
    """

    hypothesis: SeparableModel
    mean: Array
    cov: Array
    linear_mean: Array
    linear_slope: Array
    linear_cov: Array
    log_sigma: tuple[float, float]
    lengths: tuple[float, ...]
    proportional_share: float
    units: Literal["range", "level", "given"]
    center: float = 0.0
    scale: float = 1.0
    widening: float = 1.0
    positive: bool = False
    source: str = "default"

    def __repr__(self) -> str:
        return (
            f"<madyn Prior of {self.hypothesis.name}: {self.source}\n noise about {np.exp(self.log_sigma[0]):.3g} of "
            f"the scale, units {self.units}, bands widened by {self.widening:.3g}>"
        )

    def __post_init__(self) -> None:
        q, k = self.hypothesis.num_nonlinear, len(self.hypothesis.linear)
        shapes = {"mean": (q,), "cov": (q, q), "linear_mean": (k,), "linear_slope": (k, q), "linear_cov": (k, k)}
        for name, shape in shapes.items():
            value = read(getattr(self, name), f"the prior's {name}").values
            if value.shape != shape or not np.all(np.isfinite(value)):
                raise UsageError(f"the prior's {name} has shape {value.shape}; expected finite numbers, {shape}")
            object.__setattr__(self, name, value)
        for name in ("cov", "linear_cov"):
            if np.any(np.linalg.eigvalsh(getattr(self, name)) <= 0):
                raise UsageError(f"the prior's {name} is not positive definite")
        chances = read(self.lengths, "the prior's lengths").values
        if chances.shape != (len(LENGTHS),) or np.any(chances < 0) or not np.isclose(chances.sum(), 1):
            raise UsageError(f"the prior's lengths are {self.lengths}; expected {len(LENGTHS)} probabilities")
        for name in ("proportional_share", "center", "scale", "widening"):
            if not np.isfinite(number(getattr(self, name), f"the prior's {name}")):
                raise UsageError(f"the prior's {name} is infinite")
        noise_level = read(self.log_sigma, "the prior's log_sigma").values
        if noise_level.shape != (2,) or not np.all(np.isfinite(noise_level)):
            raise UsageError("the prior's log_sigma is not two finite numbers, a mean and a standard deviation")
        if self.center and not self.hypothesis.moves:
            raise UsageError(
                f"the prior's center is {self.center:g}, and {self.hypothesis.name} has no K that takes up a "
                "shift: its center is 0"
            )
        if not 0 <= self.proportional_share < 1 or not self.scale > 0 or not self.log_sigma[1] > 0:
            raise UsageError(
                "the prior needs proportional_share in [0, 1), scale above 0 and a noise that is uncertain"
            )

    @classmethod
    @renamed(model="hypothesis")
    def default(cls, hypothesis: str | SeparableModel = "reparam") -> Prior:
        """A wide prior, for any curve: nonlinear parameters about the middle of the box, coefficients of a few ranges.

        The standard deviation of a search coordinate is a sixth of its box; of a coefficient, three times the range
        seen; the noise is 3 % of the range, within a factor e.

        Args:
            hypothesis: the curve; for original, the prior is one of reparam, the same curve.

        Raises:
            UsageError: the curve is unknown, or has a penalty.
        """
        hypothesis = curve_of(hypothesis)
        low, high = hypothesis.search_box.T
        k = len(hypothesis.linear)
        return cls(
            hypothesis,
            mean=(low + high) / 2,
            cov=np.diag(((high - low) / _SHARE) ** 2),
            linear_mean=np.zeros(k),
            linear_slope=np.zeros((k, hypothesis.num_nonlinear)),
            linear_cov=9.0 * np.eye(k),
            log_sigma=(float(np.log(0.03)), 1.0),
            lengths=(0.4, 0.3, 0.2, 0.1),
            proportional_share=0.5,
            units="range",
        )

    def given(self, center: float = 0.0, scale: float = 1.0) -> Prior:
        """The same prior for series whose units are known, and not taken from what was seen of them.

        Args:
            center: what is subtracted from values; 0 for a curve without a K, which cannot follow a shift.
            scale: what they are divided by, above 0.

        Raises:
            UsageError: a number is not as said.
        """
        return replace(self, units="given", center=center, scale=scale)

    def own_units(self, time: RunTime, n: int) -> Units:
        """The units of n series where they are `center` and `scale`."""
        return Units(time.unit, np.full(n, self.scale), np.full(n, self.center))

    @property
    def box(self) -> Array:
        """(q, 2), where a posterior is looked for, in search coordinates."""
        sd = _REACH * np.sqrt(np.diag(self.cov))
        low, high = self.hypothesis.search_box.T
        low, high = np.maximum(low, self.mean - sd), np.minimum(high, self.mean + sd)
        if np.any(low >= high):
            raise UsageError(f"the prior's mean {self.mean} lies outside the box of {self.hypothesis.name}")
        return np.stack([low, high], axis=1)

    def sample(self, n: int, t: ArrayLike, seed: int = 0, last_step: float | None = None) -> Drawn:
        """Series and the curves behind them, drawn from the very model that `posterior` assumes, in given units.

        Args:
            n: how many.
            t: (m,) steps, ascending.
            seed: of the random numbers.
            last_step: of the run; the last of `t` by default.

        Returns:
            the series `y` (n, m) and the curves `curve` (n, m) that they are noise about, and the curves' parameters
            `params` (n, p).

        Raises:
            UsageError: the steps are not finite and ascending, or go beyond the run, or a number is negative.
        """
        n, seed = count_of(n, "the number of series", MOST_DRAWS), count_of(seed, "seed")
        rng = np.random.default_rng(seed)
        t = read_row(t, "steps")
        if not n or not t.size:
            raise UsageError(f"{n} series of {t.size} steps; at least one of each is drawn")
        if not np.all(np.isfinite(t)) or np.any(np.diff(t) < 0):
            raise UsageError("steps must be finite and ascending: the noise goes on from one to the next")
        last_step = None if last_step is None else last_of_run(last_step)
        if last_step is not None and t[-1] > last_step:
            raise UsageError(f"the run's last step is {last_step:g}, and a series is to go to step {t[-1]:g}")
        time = RunTime.of(self.hypothesis, t, last_step)
        u = _truncated(self.mean, self.cov, self.box, n, rng)
        m = self.linear_mean + (u - self.mean) @ self.linear_slope.T
        c = m + rng.multivariate_normal(np.zeros(len(self.linear_mean)), self.linear_cov, n)
        theta = self.hypothesis.nonlinear_at(u)
        coefficients = c / sizes(self.hypothesis, theta, time)
        units = self.own_units(time, n)
        f = units.unscaled(np.einsum("smk,sk->sm", self.hypothesis.columns(time.x(t), theta), coefficients))
        sigma = np.exp(rng.normal(*self.log_sigma, n))
        length = np.array(LENGTHS)[rng.choice(len(LENGTHS), n, p=self.lengths)]
        g = noise.noise_scale(f, np.max(np.abs(f), axis=1, keepdims=True), self.proportional_share)
        xi = noise.coordinate(time.share(t))
        z = rng.normal(size=f.shape)
        a = noise.autocorrelation(np.diff(xi), length[:, np.newaxis])
        for i in range(1, t.size):
            z[:, i] = a[:, i - 1] * z[:, i - 1] + np.sqrt(1 - a[:, i - 1] ** 2) * z[:, i]
        params = raw_parameters(self.hypothesis, theta, coefficients, units)
        return Drawn(f + sigma[:, np.newaxis] * self.scale * g * z, f, params)


def last_of_run(last_step: object) -> float:
    """A run's last step as a number. Raises UsageError where it cannot be one."""
    end = number(last_step, "the last step")
    if not 0 < abs(end) <= LARGEST_STEP:
        raise UsageError(f"the last step is {end:g}; it is a step after the first, up to {LARGEST_STEP:g}")
    return end


def count_of(given: object, what: str, most: int = 2**53) -> int:
    """A whole number that is not negative, and not above `most`. Raises UsageError for any other."""
    count = whole_number(given, what, most)
    if count < 0:
        raise UsageError(f"{what} is {count}; it must not be negative")
    return count


class Drawn(NamedTuple):
    """Series (n, m), the curves behind them (n, m), and their parameters (n, p), in the steps' and values' units."""

    y: Array
    curve: Array
    params: Array


class RunTime(NamedTuple):
    """The time of a run: `x` is what the basis takes, `share` how much of the run is over."""

    start: float
    length: float
    normalised: bool

    @classmethod
    def of(cls, hypothesis: SeparableModel, t: Array, last_step: float | None) -> RunTime:
        """Of steps t, any shape; a hypothesis that is built in starts at step 0, another curve at its first point."""
        known = hypothesis.normalised
        start = 0.0 if known else float(np.nanmin(t))
        end = float(np.nanmax(t)) if last_step is None else float(last_step)
        if not end > start:
            raise UsageError(f"the run goes from {start:g} to {end:g}; its last step must lie after its first")
        return cls(start, end - start, known)

    @property
    def unit(self) -> float:
        """What steps are divided by."""
        return self.length if self.normalised else 1.0

    def x(self, t: Array) -> Array:
        return t / self.unit

    def share(self, t: Array) -> Array:
        return (t - self.start) / self.length


def curve_of(hypothesis: str | SeparableModel) -> SeparableModel:
    """The curve that a posterior is drawn up of: reparam for original, which is the same family."""
    chosen = resolve([hypothesis])[0]
    if chosen.penalty is not None:
        raise UsageError(f"{chosen.name} has a penalty, which a prior replaces: ask for the curve without it")
    if chosen.same_as is not None:
        return HYPOTHESES[chosen.same_as]
    return chosen


def sizes(hypothesis: SeparableModel, theta: Array, time: RunTime) -> Array:
    """The largest |column| of the basis over the run, (..., k), for nonlinear parameters (..., q)."""
    reference = _REFERENCE * (1.0 if time.normalised else time.length) + (0.0 if time.normalised else time.start)
    with np.errstate(all="ignore"):
        size = np.max(np.abs(hypothesis.columns(reference, theta)), axis=-2)
    return np.where(size > 0, size, 1.0)


def raw_parameters(hypothesis: SeparableModel, theta: Array, coefficients: Array, units: Units) -> Array:
    """Parameters (S, ..., p) in the steps' and values' own units, from coefficients (S, ..., k) in these.

    Args:
        hypothesis: the curve.
        theta: (S, ..., q), in the units of the hypothesis's box.
        coefficients: (S, ..., k), of the columns as they are.
        units: of the series.
    """
    linear = np.einsum("...ij,...j->...i", hypothesis.combine_matrix(theta), coefficients)
    return units.parameters(hypothesis, np.concatenate([theta, linear], axis=-1))


def _truncated(mean: Array, cov: Array, box: Array, n: int, rng: np.random.Generator) -> Array:
    """Draws from a normal distribution inside a box, by rejection."""
    kept = np.empty((0, len(mean)))
    while len(kept) < n:
        u = rng.multivariate_normal(mean, cov, 2 * n + 16)
        kept = np.concatenate([kept, u[np.all((u >= box[:, 0]) & (u <= box[:, 1]), axis=1)]])
    return kept[:n]
