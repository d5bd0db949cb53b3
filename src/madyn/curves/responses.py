"""What a curve does, in quantities that a user asks for: its peak, plateau, half-rise, and what kind of curve it is.

They are what data determine even where the parameters trade off against each other. For reparam and original the peak
is exact (`peaks`); for any other curve it is looked for on a fine grid and refined. The definitions:

- peak: the curve's maximum, inside the run if it lies after step 0 and not after the last step;
- top: the highest value within the run, at the peak where that lies inside, else at one of the run's ends;
- half-rise step: the first step at which the curve has covered half of the way from its value at step 0 to its top;
- plateau: what the curve tends to as the step grows for ever;
- class, with f the curve over the run, `rise` = top - f(0), and `range` = top - least value:
  flat          range <= 5 % of the largest |f|, or <= twice the noise where that is given;
  early peak    otherwise, if the top lies inside the run, rise >= 10 % of range, and f falls from it to the last step
                by at least 10 % of rise;
  decay         otherwise, if f ends below f(0);
  log increase  otherwise.

Of curves that are known at steps alone, `sampled` reads peak and half-rise off the values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import number, read_row
from madyn.curves.alignment import Lead, one_for_each, parameters
from madyn.curves.fitting.draws import covariance_draws
from madyn.curves.fitting.fits import Fits
from madyn.curves.hypotheses.peaks import observable
from madyn.curves.hypotheses.registry import resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.renaming import renamed
from madyn.errors import UsageError
from madyn.labels import describe
from madyn.typing import Array

if TYPE_CHECKING:
    import xarray as xr


CLASSES = ("early peak", "log increase", "decay", "flat")
FLAT = 0.05  # of the largest |f|
WITHIN_NOISE = 2.0  # standard deviations of the noise
FALL = 0.1  # of the rise, and of the range

_GRID = np.concatenate([[0.0], np.geomspace(1e-6, 1e-2, 40, endpoint=False), np.linspace(1e-2, 1.0, 160)])
_HALVINGS = 60
_AT_ONCE = 20_000  # curves
# Names of the results, which no leading dimension takes.
_OWN = ("peak_step", "peak_height", "peak_observable", "top", "half_rise_step", "plateau", "class", "value", "step",
        "bound", "class_probability", "draw")  # fmt: skip
_CROSSED = 48


@renamed(model="hypothesis")
def curve_quantities(
    hypothesis: str | SeparableModel | Fits,
    params: ArrayLike | None = None,
    last_step: float | None = None,
    at: ArrayLike = (),
    noise: ArrayLike | None = None,
) -> xr.Dataset:
    """Quantities of curves: peak, top, half-rise, plateau and class, as `madyn.curves.responses` defines them.

    Args:
        hypothesis: the curve; or fits, of which the curves, and the last step seen, are taken.
        params: (..., p), in the order of `hypothesis.param_names`; curves of which one is nan have nan quantities.
            Labelled parameters (a dimension "parameter", the columns of a DataFrame) are taken by name.
        last_step: of the run, T; the run goes from 0 to T.
        at: (m,) steps at which the curve's value is wanted.
        noise: (...), standard deviation of the noise, for the class.

    Returns:
        peak_step and peak_height (nan where the curve has no maximum; reparam's may lie before step 0 or after T),
        peak_observable, top, half_rise_step (nan where the curve does not rise), plateau (infinite where it grows for
        ever), class ("" where a parameter is nan), and value with a dimension step. The leading dimensions are those of
        labelled parameters, or of fits to labelled series; otherwise "series".

    Raises:
        UsageError: parameters of another length or other names, a last step that is not positive, or fits whose series
            end at different steps where no last step is given.

    >>> found = curve_quantities("step1", [5000.0, 7.0], last_step=30_000)
    >>> found["class"].item(), found["plateau"].item(), round(found["half_rise_step"].item())
    ('log increase', 7.0, 3453)
    """
    if isinstance(hypothesis, Fits):
        drawn = _drawn(hypothesis, params)
        return _quantities(drawn.hypothesis, drawn.popt, drawn.lead, _last(hypothesis, last_step), at, noise)
    chosen = resolve([hypothesis])[0]
    if params is None or last_step is None:
        raise UsageError(f"the parameters and the last step are needed of a curve of {chosen.name}")
    return _quantities(chosen, *parameters(params, chosen.param_names, chosen.name), last_step, at, noise)


def _quantities(
    hypothesis: SeparableModel,
    params: Array,
    series: Lead,
    last_step: float,
    at: ArrayLike,
    noise: ArrayLike | None = None,
) -> xr.Dataset:
    """`curve_quantities` of parameters (..., p) whose leading axes are known."""
    import xarray as xr

    last_step = _positive(last_step)
    flat, lead = params.reshape(-1, params.shape[-1]), params.shape[:-1]
    flat_noise = np.zeros(len(flat)) if noise is None else one_for_each(noise, "noise", series, lead).ravel()
    at = read_row(at, "steps")
    parts = [
        _of(hypothesis, flat[i : i + _AT_ONCE], float(last_step), flat_noise[i : i + _AT_ONCE])
        for i in range(0, len(flat), _AT_ONCE)
    ] or [_of(hypothesis, flat, float(last_step), flat_noise)]
    dims, labels = series.names(_OWN), series.labels(_OWN)
    variables: dict[str, tuple[tuple[str, ...], Any]] = {
        name: (dims, np.concatenate([getattr(part, name) for part in parts]).reshape(lead))
        for name in Responses._fields
    }
    variables["class"] = variables.pop("kind")
    variables["value"] = ((*dims, "step"), hypothesis.values(at, params) if at.size else np.empty((*lead, 0)))
    return describe(xr.Dataset(variables, coords={**labels, "step": at}))


@renamed(model="hypothesis")
def quantity_intervals(
    hypothesis: str | SeparableModel | Fits,
    draws: ArrayLike | None = None,
    last_step: float | None = None,
    level: float = 0.9,
    at: ArrayLike = (),
) -> xr.Dataset:
    """Medians and central intervals of the quantities over draws of the parameters, as a posterior gives them.

    Of fits, the draws are made from their covariance, 1,000 of a fixed seed (see `draws`); these hold for curves that
    the data determine well, and are nan where the covariance is infinite. `posterior` holds for all.

    Args:
        hypothesis: the curve; or fits.
        draws: (..., d, p), or labelled with "draw" and "parameter" in any order; not given with fits.
        last_step: of the run; the last step seen, of fits.
        level: the probability of each interval.
        at: (m,) steps at which the curve's value is wanted.

    Returns:
        peak_step, peak_height (over the draws whose peak lies inside the run; nan where fewer than 1 % do), top,
        half_rise_step (over the draws that rise), plateau and value (..., step), each with a dimension bound (median,
        lower, upper); peak_observable (...), the probability; and class_probability (..., class).

    Raises:
        UsageError: as `curve_quantities`, draws without an axis of draws, or a level that is no probability.

    >>> import madyn
    >>> t = np.arange(0, 30_000, 1000)
    >>> fits = madyn.fit_curves(t, 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t), hypothesis="step1")
    >>> plateau = quantity_intervals(fits)["plateau"]
    >>> bool(plateau.sel(bound="lower") < 7 < plateau.sel(bound="upper"))
    True
    """
    if isinstance(hypothesis, Fits):
        drawn = _drawn(hypothesis, draws)
        lead, last = drawn.success.shape, _last(hypothesis, last_step)
        return intervals_of(drawn.hypothesis, covariance_draws(drawn), lead, drawn.lead, last, level, at)
    chosen = resolve([hypothesis])[0]
    if draws is None or last_step is None:
        raise UsageError(f"draws of the parameters and the last step are needed of a curve of {chosen.name}")
    params, lead = parameters(draws, chosen.param_names, chosen.name)
    if params.ndim < 2 or (any(lead.dims) and "draw" not in lead.dims):
        raise UsageError(f"draws have shape {params.shape}; they are (..., draws, parameters), or labelled with 'draw'")
    axis = lead.dims.index("draw") if "draw" in lead.dims else params.ndim - 2
    params = np.moveaxis(params, axis, -2)
    rows = params.reshape(-1, *params.shape[-2:])
    size = max(1, _AT_ONCE // max(1, rows.shape[1]))
    parts = ((np.arange(len(rows))[i : i + size], rows[i : i + size]) for i in range(0, len(rows), size))
    return intervals_of(chosen, parts, params.shape[:-2], lead.less(axis), last_step, level, at)


def intervals_of(
    hypothesis: SeparableModel,
    draws: Iterable[tuple[NDArray[np.intp], Array]],
    shape: tuple[int, ...],
    series: Lead,
    last_step: float,
    level: float,
    at: ArrayLike,
) -> xr.Dataset:
    """`quantity_intervals` of series of leading shape `shape`, some at a time: which, of them all in one row, and their
    draws (m, d, p). Series that do not occur have none."""
    import xarray as xr

    level = number(level, "level")
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; it lies between 0 and 1, as 0.9")
    tails, at, last_step = (0.5, (1 - level) / 2, (1 + level) / 2), read_row(at, "steps"), _positive(last_step)
    dims, labels, intervals = series.names(_OWN), series.labels(_OWN), _Intervals.none(int(np.prod(shape)), at.size)
    for rows, some in draws:
        for all_of, part in zip(intervals, _intervals(hypothesis, some, last_step, tails, at), strict=True):
            all_of[rows] = part
    last = {"value": ("step", "bound"), "peak_observable": (), "class_probability": ("class",)}
    variables = {
        name: ((*dims, *last.get(name, ("bound",))), part.reshape((*shape, *part.shape[1:])))
        for name, part in intervals._asdict().items()
    }
    coords = {"bound": ["median", "lower", "upper"], "class": list(CLASSES), "step": at}
    return describe(xr.Dataset(variables, coords={**labels, **coords}))


class _Intervals(NamedTuple):
    """Of m series; three numbers of each quantity."""

    peak_step: Array
    peak_height: Array
    top: Array
    half_rise_step: Array
    plateau: Array
    value: Array
    peak_observable: Array
    class_probability: Array

    @classmethod
    def none(cls, m: int, steps: int) -> _Intervals:
        shapes = [(m, 3)] * 5 + [(m, steps, 3), (m,), (m, len(CLASSES))]
        return cls(*(np.full(shape, np.nan) for shape in shapes))


def _intervals(
    hypothesis: SeparableModel, draws: Array, last_step: float, tails: tuple[float, float, float], at: Array
) -> _Intervals:
    """Of draws (m, d, p)."""
    one = _quantities(hypothesis, draws, Lead((None,) * 2), last_step, at)
    inside, kinds = one["peak_observable"].values, one["class"].values
    by_name = {name: one[name].values for name in _Intervals._fields[:5]}
    for name in ("peak_step", "peak_height"):
        by_name[name] = np.where(inside, by_name[name], np.nan)
    value = _quantiles(np.moveaxis(one["value"].values, -1, -2), tails)  # (m, steps, d)
    nothing = np.all(kinds == "", axis=-1)
    chances = np.stack([np.mean(kinds == kind, axis=-1) for kind in CLASSES], axis=-1)
    return _Intervals(
        **{name: _quantiles(values, tails) for name, values in by_name.items()},
        value=value,
        peak_observable=np.where(nothing, np.nan, np.mean(inside, axis=-1)),
        class_probability=np.where(nothing[..., np.newaxis], np.nan, chances),
    )


def _positive(last_step: float) -> float:
    last_step = number(last_step, "the last step")
    if not (np.isfinite(last_step) and last_step > 0):
        raise UsageError(f"the last step is {last_step}; a run ends after step 0")
    return last_step


def _drawn(fits: Fits, params: ArrayLike | None) -> Fits:
    """The fits in the parameters in which their curves are drawn best."""
    if params is not None:
        raise UsageError("fits have parameters of their own; give those of others with the name of the curve")
    return fits if fits.mapped_from is None else fits.mapped_from


def _last(fits: Fits, last_step: float | None) -> float:
    if last_step is not None:
        return last_step
    seen = (fits.weights > 0) & ~np.isnan(fits.residuals)
    ends = np.max(np.broadcast_to(fits.steps, seen.shape), axis=-1, where=seen, initial=-np.inf)
    ends = np.unique(ends[fits.success])
    if ends.size > 1:
        raise UsageError(f"the series end at different steps, {ends[0]:g} to {ends[-1]:g}; give the run's last step")
    return float(ends[0]) if ends.size else 1.0


class Responses(NamedTuple):
    """The quantities of m curves, (m,) each."""

    peak_step: Array
    peak_height: Array
    peak_observable: NDArray[np.bool_]
    top: Array
    half_rise_step: Array
    plateau: Array
    kind: NDArray[np.str_]


def _of(hypothesis: SeparableModel, params: Array, last: float, noise: Array) -> Responses:
    there = np.all(np.isfinite(params), axis=-1)
    safe = np.where(there[:, np.newaxis], params, np.nan)
    with np.errstate(all="ignore"):
        curve = np.asarray(hypothesis.values(last * _GRID, safe), float)
        step, height = _peaks(hypothesis, safe, curve, last)
        inside = observable(step, last)
        start, end = curve[:, 0], curve[:, -1]
        at_end = end >= start
        top = np.where(inside, height, np.maximum(start, end))
        where = np.where(inside, step, np.where(at_end, last, 0.0))
        half = _half_rise(hypothesis, safe, curve, start, top, where, last)
        least = np.minimum(np.min(curve, axis=1), top)
        kind = _kinds(start, end, top, least, inside, np.max(np.abs(curve), axis=1), noise)
    kind = np.where(there & np.all(np.isfinite(curve), axis=1), kind, "")
    return Responses(step, height, inside, top, half, hypothesis.limit_of(safe), kind)


def _kinds(
    start: Array, end: Array, top: Array, least: Array, inside: NDArray[np.bool_], level: Array, noise: Array
) -> NDArray[np.str_]:
    rise, spread = top - start, top - least
    flat = spread <= np.maximum(FLAT * np.maximum(level, np.abs(top)), WITHIN_NOISE * noise)
    peaked = inside & (rise >= FALL * spread) & (top - end >= FALL * rise)
    return np.select([flat, peaked, end < start], ["flat", "early peak", "decay"], "log increase")


def _peaks(hypothesis: SeparableModel, params: Array, curve: Array, last: float) -> tuple[Array, Array]:
    """(step, height) of each curve's maximum; of a curve with no formula for it, of the highest inside the run."""
    if hypothesis.peak is not None:
        return hypothesis.peak(*params.T)
    at = np.argmax(np.where(np.isfinite(curve), curve, -np.inf), axis=1)
    interior = (at > 0) & (at < _GRID.size - 1)
    safe = np.clip(at, 1, _GRID.size - 2)
    low, high = last * _GRID[safe - 1], last * _GRID[safe + 1]
    for _ in range(_HALVINGS):  # ternary search: the bracket holds one maximum
        third = (high - low) / 3
        left, right = _each(hypothesis, params, low + third), _each(hypothesis, params, high - third)
        low, high = np.where(left < right, low + third, low), np.where(left < right, high, high - third)
    step = np.where(interior, (low + high) / 2, np.nan)
    return step, np.where(interior, _each(hypothesis, params, np.where(interior, step, 0.0)), np.nan)


def _half_rise(
    hypothesis: SeparableModel, params: Array, curve: Array, start: Array, top: Array, where: Array, last: float
) -> Array:
    """The first step at half of the way from the start to the top; nan where the top is at the start."""
    half = start + (top - start) / 2
    before = last * _GRID < where[:, np.newaxis]
    reached = (curve >= half[:, np.newaxis]) & before
    first = np.where(np.any(reached, axis=1), np.argmax(reached, axis=1), np.sum(before, axis=1))
    high = np.minimum(last * _GRID[np.minimum(first, _GRID.size - 1)], where)
    low = last * _GRID[np.maximum(first - 1, 0)]
    rises = top > start
    if hypothesis.published is None and np.any(rises):
        high[rises] = _crossings(hypothesis, params[rises], half[rises], low[rises], high[rises])
        return np.where(rises, high, np.nan)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _each(hypothesis, params, middle) >= half
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(rises, high, np.nan)


def _crossings(hypothesis: SeparableModel, params: Array, level: Array, low: Array, high: Array) -> Array:
    """The steps (m,) between low and high, (m,) each, at which curves cross these levels (m,).

    By Chandrupatla's method, in a seventh to a tenth of the bisection's time for a curve that is known by its basis
    alone, and equal to it within 1e-14 of the curve's values. A formula is so cheap that bisection is twice as fast.
    """
    from scipy.optimize.elementwise import find_root

    def off(steps: Array, level: Array, *columns: Array) -> Array:
        return _each(hypothesis, np.stack(columns, axis=-1), steps) - level

    exact = {"xatol": 0.0, "xrtol": 1e-15, "fatol": 0.0, "frtol": 0.0}
    root = find_root(off, (low, high), args=(level, *params.T), tolerances=exact)
    return np.where(
        np.isfinite(root.x), root.x, high
    )  # no change of sign: both ends lie on the level, but for rounding


def _each(hypothesis: SeparableModel, params: Array, steps: Array) -> Array:
    """Every curve at a step of its own: (m,) for steps (m,)."""
    if hypothesis.published is not None:
        return hypothesis.published.function(steps, *params.T)
    # A basis takes one row of steps for all curves: a few dozen are crossed with each other, and the diagonal taken.
    values = np.empty(len(steps))
    for i in range(0, len(steps), _CROSSED):
        some = slice(i, i + _CROSSED)
        values[some] = np.diagonal(hypothesis.values(steps[some], params[some]))
    return values


def _quantiles(values: Array, probabilities: tuple[float, ...]) -> Array:
    """(..., len(probabilities)) of values (..., d), over those that are not nan; nan where they are fewer than 1 %."""
    rows = values.reshape(-1, values.shape[-1])
    quantiles = np.full((len(rows), len(probabilities)), np.nan)
    for i, row in enumerate(rows):
        kept = row[~np.isnan(row)]
        if kept.size >= max(1, 0.01 * row.size):
            quantiles[i] = np.quantile(kept, probabilities, method="inverted_cdf" if np.isinf(kept).any() else "linear")
    return quantiles.reshape(*values.shape[:-1], len(probabilities))
