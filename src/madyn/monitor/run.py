"""One training run as it is watched: its measurements, written as `trace` writes them, its forecast and its alerts.

Nothing that goes wrong in here ends the run. What could not be measured is recorded as a failed unit, what could not
be written is kept in memory and written when there is room again, and both are told as alerts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from madyn.analysis.forecasting import forecast
from madyn.curves.bayes.priors import Prior
from madyn.dataset import Dataset, manifest, open_dataset
from madyn.dataset.monitoring import ALERTS, Alert, MonitorRecord, write_monitor
from madyn.errors import MadynError, NonFiniteError, UsageError, reason_of
from madyn.measurement import Measurement
from madyn.measurement.forward import stacks_of
from madyn.measurement.layers import Stack, layers_by_structure
from madyn.measurement.wrapping import device_of, is_sharded
from madyn.monitor.alerts import BAND, Bands, Judge, Seen, describe, known_causes, massive_layers, now
from madyn.monitor.logged import logged_values
from madyn.monitor.outlook import FEWEST
from madyn.monitor.probing import Measured, keep_inputs, of_batch, of_values
from madyn.monitor.sampling import Sample
from madyn.monitor.schedule import Schedule
from madyn.monitor.undisturbed import undisturbed
from madyn.settings import Probe, Settings
from madyn.sweep.machine import versions
from madyn.sweep.remarks import FLOAT16_LARGEST
from madyn.sweep.units import describe_measured, locate_tokens, measure_loaded, write_measured

log = logging.getLogger("madyn.monitor")

_FAR_OFF = 1000  # below a thousandth of float16's largest number, whether it will be passed is not asked
_SEQUENCES_WAITED_FOR = 100  # training steps without a batch that is large enough, before it is said

Pending = tuple[manifest.Unit, Measurement, np.ndarray]


class Begins(Protocol):
    """What a trainer's callback asks of its monitor; `Monitor.begin` says what it takes."""

    def begin(self, *args: Any, **named: Any) -> Run: ...

    def finish(self) -> None: ...


class Run:
    """A run that is being watched, from `begin` to `finish`.

    Args:
        root: the dataset.
        model: what is trained, without its wrappers.
        record: what is said of the run; the monitor's own file.
        source: where the model's checkpoints go, or what trains it, in words.
        schedule: the steps that are measured.
        measured: what it is measured on; None until a first batch is seen.
        known: what of it was measured before, by step.
        sample: how many sequences of the training batches are looked at in place of a probe; 0 for a probe.
        prior: for the forecast; None for no forecast.
        settings: of measuring.
        on_alert: called with each alert.
        held: what is let go of at the end.
    """

    def __init__(
        self,
        root: Path,
        model: nn.Module,
        record: MonitorRecord,
        *,
        source: str,
        schedule: Schedule,
        measured: Measured | None,
        known: Iterable[int],
        sample: int,
        prior: str | Prior | None,
        settings: Settings,
        on_alert: Callable[[Alert], object] | None,
        held: ExitStack,
    ) -> None:
        self.root, self.model, self.record = root, model, record
        self.measured = measured
        self._source, self._schedule, self._known, self._sample = source, schedule, set(known), sample
        self._prior, self._settings, self._on_alert, self._held = prior, settings, on_alert, held
        # What was warned of in a part that is taken back, or could not be done then, may come again.
        stand = [one for one in record.alerts if one.kind != "not_measured" and one.step <= (record.step or 0)]
        self._judge = Judge(known_causes(stand), self._start(), begun=bool(self._known))
        self._claimed = measured is not None or bool(sample)
        self._pending: list[Pending] = []
        self._bands = Bands()
        self._taking: Sample | None = None
        self._armed_at, self._waited = 0, 0

    # What a loop calls

    def is_due(self, step: int) -> bool:
        """Whether a step is to be measured, and was not."""
        due = self._schedule.is_due(step) or step == self.record.last_step
        return step not in self._known and due

    def needs_batch(self) -> bool:
        """Whether nothing can be measured before a batch was seen."""
        return self.measured is None and not self._sample

    def step(self, step: int, batch: Any = None) -> dict[str, float]:
        """Measure the model where the step is due; gives what is to be logged. It raises nothing."""
        try:
            if self._sample:
                return self._step_sampled(step)
            if not self.is_due(step):
                return {}
            if self.measured is None:
                self._take_inputs(step, batch)
            return self._guarded(step, lambda: self._measure(step)) if self.measured is not None else {}
        except Exception as e:
            self.refuse(step, f"step {step} was not measured: {reason_of(e)}")
            return {}

    def finish(self, *, ended: bool = True) -> None:
        """Write what is left, say that the run has ended (if it has), and let go of what was held."""
        if self._taking is not None:
            self._taking.close()
        for last in (self._flush, lambda: self._write(**({"state": "ended"} if ended else {}))):
            try:
                last()
            except Exception as e:
                log.warning("%s", reason_of(e))
        self._held.close()

    def refuse(self, step: int, reason: str) -> None:
        """Tell that something cannot be measured or written. Once is enough."""
        self._tell(self._judge.once(step, "not_measured", reason))

    # Measuring

    def _take_inputs(self, step: int, batch: Any) -> None:
        """Take the sequences of the first batch, if it has any."""
        try:
            values = of_batch(batch)
            if values is None:
                raise UsageError("it holds no tensor of token ids (B, S) or pixel values (B, C, H, W); give a probe")
            measured = of_values(values, "the first batch seen")
            with undisturbed(device_of(self.model)):
                stacks_of(self.model, values, self._settings.layers)
        except Exception as e:
            self.refuse(step, f"the first batch cannot be measured on: {reason_of(e)}")
            return
        self.measured = measured
        self.record = replace(self.record, inputs=measured.described)

    def _unit(self, step: int) -> manifest.Unit:
        return manifest.Unit(
            model=self.record.model, step=step, source=self._source, revision=f"step{step}", versions=versions()
        )

    def _measure(self, step: int) -> dict[str, float]:
        assert self.measured is not None
        unit, values = self._unit(step), self.measured.values
        try:
            with undisturbed(device_of(self.model)):
                unit, result = measure_loaded(unit, self.model, values, self.measured.probe, self._settings)
        except Exception as e:
            self._failed(unit, e)
            return {}
        return self._take(unit, result, values)

    def _step_sampled(self, step: int) -> dict[str, float]:
        """Collect what the forward since the step before has shown, and be ready for the next where that is due."""
        found: dict[str, float] = {}
        taking = self._taking
        if taking is not None and (taking.result is not None or taking.failure is not None):
            taking.close()
            self._taking, at = None, self._armed_at
            found = self._guarded(at, lambda: self._take_sample(at, taking))
        if self._taking is None and self.is_due(step):
            self._guarded(step, self._begin_sample)
            self._armed_at, self._waited = step, 0
        elif self._taking is not None:
            self._waited += step > self._armed_at
            self._armed_at = step  # the weights have moved on, and it is they that the next batch will show
            if self._waited >= _SEQUENCES_WAITED_FOR:
                self.refuse(step, f"no training batch of {self._sample} sequences came; use a smaller sample")
        return found

    def _begin_sample(self) -> dict[str, float]:
        if is_sharded(self.model):  # which cannot be run to see what its layers are
            name, layers = layers_by_structure(self.model, self._settings.layers)
            stacks = [Stack(name, tuple(layers))]
        else:
            with undisturbed(device_of(self.model)):
                stacks = stacks_of(self.model, np.zeros((1, 8), int), self._settings.layers)
        self._taking = Sample(self.model, stacks, self._sample)
        return {}

    def _take_sample(self, step: int, taking: Sample) -> dict[str, float]:
        unit = replace(self._unit(step), sampled=True)
        if taking.result is None:
            self._failed(unit, taking.failure or RuntimeError("no forward was seen"))
            return {}
        result, values = taking.result
        unit = describe_measured(unit, self.model, values, result, Probe("given"), self._sample)
        unit = replace(unit, first_token="given", parameters=None if is_sharded(self.model) else unit.parameters)
        return self._take(unit, result, values)

    def _take(self, unit: manifest.Unit, result: Measurement, values: np.ndarray) -> dict[str, float]:
        """Write a measurement, look ahead, and say what there is to say."""
        self._known.add(unit.step)
        self._pending.append((unit, result, values))
        self._flush_or_tell(unit.step)
        seen = Seen(
            unit.step, result.statistics[:, 0].astype(float), result.statistics[:, -1].astype(float), result.peaks,
            manifest.values_of_sequence(unit),
        )  # fmt: skip
        upper = self._bands.upper(unit.step)
        ahead, overflows = self._forecast(seen, upper)
        alerts = self._judge.judge(seen, upper, overflows)
        self._tell(alerts)
        massive = massive_layers(seen, self._judge.start)
        return logged_values(seen, locate_tokens(result, values), massive, ahead, self.record.alerts)

    def _start(self) -> Seen | None:
        """What was measured at step 0 before the run was stopped."""
        if 0 not in self._known:
            return None
        with suppress(MadynError):
            dataset = open_dataset(self.root)
            array = dataset.statistics(self.record.model).sel(step=0)
            top1, median = (array.sel(quantity=name).values for name in ("top1", "median"))
            return Seen(0, top1, median, top1, dataset.values_of_sequence(self.record.model))
        return None

    # Looking ahead

    def _forecast(self, seen: Seen, upper: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
        """The forecast of the ratio at the run's end, and each layer's probability to pass float16's largest number.

        Args:
            upper: the band that was forecast for this step.
        """
        last = self.record.last_step
        if self._prior is None or last is None or not seen.step < last or self._pending:
            return None, None
        try:
            return self._forecast_in(open_dataset(self.root), seen, upper, last)
        except Exception as e:  # a forecast that fails costs a forecast
            log.debug("no forecast at step %d: %s", seen.step, e)
            return None, None

    def _forecast_in(
        self, dataset: Dataset, seen: Seen, upper: np.ndarray | None, last: int
    ) -> tuple[Any, np.ndarray | None]:
        model, step = self.record.model, seen.step
        if sum(known <= step for known in dataset.steps(model)) < FEWEST:
            return None, None
        asked: dict[str, Any] = {"prior": self._prior, "last_step": last}
        coming = self._coming(step, last)
        band = forecast(dataset, model, step, level=BAND, steps=coming, **asked)
        self._bands.take({at: band["upper"].sel(step=at).values for at in coming}, seen, upper)
        ahead = forecast(dataset, model, step, steps=[last], **asked)
        if float(seen.top1.max()) * _FAR_OFF < FLOAT16_LARGEST:
            return ahead, np.zeros(ahead.sizes["layer"])
        asked |= {"quantity": "top1", "thresholds": [FLOAT16_LARGEST], "steps": [last]}
        return ahead, forecast(dataset, model, step, **asked)["exceed"].isel(threshold=0).values

    def _coming(self, step: int, last: int) -> list[int]:
        """The next two steps that will be measured."""
        found = [step]
        for _ in range(2):
            following = self._schedule.following(found[-1])
            found.append(last if following is None else min(following, last))
        return sorted({at for at in found if at > step})

    # Telling and writing

    def _guarded(self, step: int, work: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Do something for the run's sake that must not end it, and count the time that it takes."""
        began = time.perf_counter()
        found: dict[str, float] = {}
        try:
            found = work()
        except Exception as e:
            self.refuse(step, f"step {step} was not measured: {reason_of(e)}")
        taken = self.record.measuring_seconds + time.perf_counter() - began
        with suppress(Exception):  # which is told where the measurement itself is written
            self._write(step=step, measuring_seconds=taken)
        return found

    def _failed(self, unit: manifest.Unit, error: Exception) -> None:
        """Record a unit that could not be measured; the next one is tried all the same."""
        self._known.add(unit.step)
        reason = reason_of(error)
        kind = "non_finite" if isinstance(error, NonFiniteError) else "not_measured"
        self._tell(self._judge.once(unit.step, kind, reason))
        with suppress(Exception):
            manifest.write_failure(self.root, replace(unit, failure=reason))

    def _flush_or_tell(self, step: int) -> None:
        try:
            self._flush()
            self._judge.forget("not_measured")
        except Exception as e:
            self.refuse(
                step, f"{reason_of(e)}; training goes on, and what was measured is written when that can be done"
            )

    def _flush(self) -> None:
        """Write what is still to be written. Raises StorageError."""
        if not self._claimed and self.measured is not None:
            keep_inputs(self.root, self.measured)
            manifest.claim_probe(self.root, self.measured.record)
            self._claimed = True
        while self._pending:
            unit, result, values = self._pending[0]
            write_measured(self.root, unit, result, values, replace_old=True)
            self._pending.pop(0)

    def _write(self, **changes: Any) -> None:
        self.record = replace(self.record, updated=now(), **changes)
        write_monitor(self.root, self.record)

    def _tell(self, alerts: Iterable[Alert]) -> None:
        for one in alerts:
            self.record = replace(self.record, alerts=[*self.record.alerts, one])
            log.warning("%s", describe(ALERTS, one))
            if self._on_alert is not None:
                try:
                    self._on_alert(one)
                except Exception:
                    log.exception("on_alert failed")
