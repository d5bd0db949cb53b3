"""What a monitor warns of, from numbers alone: what was measured, and what was forecast of it.

Each cause is told once: a layer that has turned massive stays so, and a run that overflows goes on overflowing. Layers
that show one thing at one step are one alert. A warning that comes by chance would soon be switched off, so that every
rule asks for more than a single odd value; benchmarks/monitor.py counts the false alarms of runs where nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from madyn.dataset.monitoring import Alert
from madyn.massive import massive_by_start, massive_published
from madyn.sweep.remarks import FLOAT16_LARGEST
from madyn.typing import Array

BAND = 0.999
"""The level of the band that a ratio has to lie above, twice in a row, for an alert."""

LIKELY = 0.5
"""The probability of passing float16's largest number from which on it is warned of."""

FALSE_ALARMS = 0.001
"""Of one measurement by the rule of the start: fifty of them, a whole run, make one false alarm in twenty runs."""

Causes = set[tuple[str, int]]


@dataclass(frozen=True)
class Seen:
    """What one measurement has shown.

    Attributes:
        step: the training step.
        top1, median: shape (B, L).
        peaks: the largest |h| at any position, those that are left out too, shape (B, L).
        values: how many values |h| a sequence has at a layer; None where that cannot be said.
    """

    step: int
    top1: Array
    median: Array
    peaks: Array
    values: int | None

    @property
    def ratio(self) -> Array:
        """The mean over the sequences of top1 / median, shape (L,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.mean(self.top1 / self.median, axis=0)


def now() -> str:
    """The time in UTC, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def alert(step: int, kind: str, message: str, layers: Iterable[int] = ()) -> Alert:
    """An alert about layers, that which shows it most first."""
    about = [int(layer) for layer in layers]
    return Alert(
        step=step, kind=kind, layer=about[0] if about else None, layers=sorted(about), message=message, time=now()
    )


def known_causes(alerts: Iterable[Alert]) -> Causes:
    """What was warned of already: kinds and layers; -1 where it was no layer."""
    return {(one.kind, layer) for one in alerts for layer in (one.layers or [-1])}


def massive_layers(seen: Seen, start: Seen | None) -> np.ndarray:
    """Which layers are massive in most sequences, by the published rule or by their own start; bool (L,)."""
    found = massive_published(seen.top1, seen.median)
    if start is not None and seen.values is not None and seen.step > start.step:
        by_start = massive_by_start(seen.top1, seen.median, start.top1, start.median, seen.values, FALSE_ALARMS)
        found |= by_start.massive
    return 2 * found.sum(axis=0) > len(found)


class Bands:
    """The upper ends of the bands that ratios were forecast to lie below, by step.

    A layer that lies above its band is held against the same forecast at the next measurement too: one that has seen it
    rise would follow it.
    """

    def __init__(self) -> None:
        self._upper: dict[int, Array] = {}

    def upper(self, step: int) -> Array | None:
        """Of each layer at a step, shape (L,), as it was forecast last; None where it was not."""
        return self._upper.get(step)

    def take(self, forecast: Mapping[int, Array], seen: Seen, upper: Array | None) -> None:
        """Take a new forecast, made of what was seen up to now, where `upper` was the band."""
        above = np.zeros(seen.ratio.shape, bool) if upper is None else seen.ratio > upper
        self._upper = {step: np.where(above, self._upper.get(step, new), new) for step, new in forecast.items()}


class Judge:
    """Says what of a measurement is to be warned of.

    Args:
        causes: what was warned of before; what is warned of from now on is added.
        start: the measurement of step 0, for whether a layer has turned massive.
        begun: there were measurements before. What is massive at the first of all has not turned so.
    """

    def __init__(self, causes: Causes, start: Seen | None = None, *, begun: bool = False) -> None:
        self._causes, self.start, self._begun = causes, start, begun
        self._above: dict[int, int] = {}  # by layer: how many measurements in a row

    def judge(self, seen: Seen, upper: Array | None, overflows: Array | None) -> list[Alert]:
        """The alerts that a measurement calls for.

        Args:
            upper: the upper end of each layer's ratio at this step, as it was forecast, shape (L,).
            overflows: for each layer, the probability that its largest value passes float16's before the run ends.
        """
        if seen.step == 0:
            self.start = seen
        if not self._begun:
            self._begun = True
            self._causes |= {("massive", int(layer)) for layer in np.flatnonzero(massive_layers(seen, None))}
        found = (self._overflow(seen), self._ahead(seen, overflows), self._massive(seen), self._higher(seen, upper))
        return [one for one in found if one is not None]

    def once(self, step: int, kind: str, message: str) -> list[Alert]:
        """An alert that is about no layer, if it was not given before."""
        if (kind, -1) in self._causes:
            return []
        self._causes.add((kind, -1))
        return [alert(step, kind, message)]

    def forget(self, kind: str) -> None:
        """Let a cause be warned of again: it had passed."""
        self._causes.discard((kind, -1))

    def _new(self, step: int, kind: str, layers: Iterable[int], message: Callable[[list[int]], str]) -> Alert | None:
        """An alert about the layers that it was not given of before."""
        fresh = [layer for layer in layers if (kind, layer) not in self._causes]
        if not fresh:
            return None
        self._causes |= {(kind, layer) for layer in fresh}
        return alert(step, kind, message(fresh), fresh)

    def _overflow(self, seen: Seen) -> Alert | None:
        largest = seen.peaks.max(axis=0)
        return self._new(
            seen.step, "overflow", _order(largest, largest > FLOAT16_LARGEST),
            lambda layers: f"|h| reaches {_short(largest[layers[0]])} after {_named(layers)}, more than float16 holds "
            f"({FLOAT16_LARGEST:,}): this model runs in bfloat16 or float32 alone",
        )  # fmt: skip

    def _ahead(self, seen: Seen, overflows: Array | None) -> Alert | None:
        if overflows is None:
            return None
        passed = seen.peaks.max(axis=0) > FLOAT16_LARGEST
        return self._new(
            seen.step, "overflow_ahead", _order(overflows, (overflows > LIKELY) & ~passed),
            lambda layers: f"|h| after {_named(layers)} will pass what float16 holds ({FLOAT16_LARGEST:,}) before the "
            f"run ends, with probability {overflows[layers[0]]:.0%}: plan for bfloat16 or float32",
        )  # fmt: skip

    def _massive(self, seen: Seen) -> Alert | None:
        ratio = seen.ratio
        return self._new(
            seen.step, "massive", _order(ratio, massive_layers(seen, self.start)),
            lambda layers: f"{_named(layers)} turned massive: its largest value is {_short(ratio[layers[0]])} times "
            "the median, more than its start explains; `madyn intervene` tells what it does",
        )  # fmt: skip

    def _higher(self, seen: Seen, upper: Array | None) -> Alert | None:
        if upper is None:
            self._above = {}
            return None
        ratio = seen.ratio
        above = np.flatnonzero(ratio > upper)
        self._above = {int(layer): self._above.get(int(layer), 0) + 1 for layer in above}
        twice = np.array([self._above.get(layer, 0) >= 2 for layer in range(ratio.size)])
        return self._new(
            seen.step, "above_forecast", _order(ratio / upper, twice),
            lambda layers: f"the ratio of {_named(layers)} is {ratio[layers[0]]:,.3g}, above its forecast for the "
            f"second time in a row (to {upper[layers[0]]:,.3g} with {BAND:.1%}): it grows unlike the known runs",
        )  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.2g}"


def _order(size: Array, which: Array) -> list[int]:
    """The layers of which something holds, the largest first."""
    return [int(layer) for layer in np.argsort(-size, kind="stable") if which[layer]]


def _named(layers: list[int]) -> str:
    """Layers for a reader, that which shows it most first."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return (
        f"layer {layers[0]} (and {', '.join(map(str, sorted(layers[1:])[:12]))}{', ...' if len(layers) > 13 else ''})"
    )


def describe(kinds: Mapping[str, str], one: Alert) -> str:
    """An alert as a line of a log."""
    return f"step {one.step}: {kinds.get(one.kind, one.kind)}: {one.message}"
