"""`Monitor`: watches any training run, from a trainer's callback or from a loop of one's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.analysis.shipped_prior import SHIPPED
from madyn.architecture import Architecture
from madyn.curves.bayes.priors import Prior
from madyn.dataset import layout, manifest
from madyn.dataset.files import is_local, root_path, sha256, storage_error
from madyn.dataset.locking import hold
from madyn.dataset.monitoring import Alert, MonitorRecord, read_monitor
from madyn.dataset.partial import make_folder
from madyn.dataset.statistics import read_statistics
from madyn.errors import (
    ArchitectureError,
    DatasetError,
    MadynError,
    ProbeMismatchError,
    UsageError,
    check_range,
    needs_extra,
)
from madyn.monitor.alerts import now
from madyn.monitor.schedule import read_schedule
from madyn.settings import Settings

if TYPE_CHECKING:
    from madyn.monitor.probing import Measured
    from madyn.monitor.run import Run

log = logging.getLogger("madyn.monitor")

SAMPLED = "training batches"  # in the place of a probe's text
_SAME = 1e-3  # relative: two measurements of one model agree to the last bits, whatever the threads


class Monitor:
    """Watches a training run: measures it at some steps into a dataset, looks ahead, and warns.

    The dataset is the one that `trace` would write of the run's checkpoints: `open_dataset`, `madyn fit`, `madyn
    forecast`, `madyn figures` and `madyn watch` work on it while the run goes on. The run itself is not changed: its
    weights, losses and random numbers are those that it has without a monitor, to the bit. What goes wrong while it
    runs is told as an alert and never ends it; what cannot mean anything is refused before it begins.

    Args:
        out: the dataset's folder, or a URL that fsspec knows. Several runs may be watched into one.
        probe: what is measured at every step: token ids (B, S), a mapping or tensor with them, pixel values
            (B, C, H, W), the name of a text, or a `Probe` (both need a tokenizer). By default up to ten sequences of
            the first batch that is seen, which the dataset keeps.
        every: "log2+1000" (step 0, the powers of two, then every 1000 steps), "log2", a number of steps, or a list of
            steps. The run's last step is measured in any case, where it is known.
        name: the run's directory in the dataset; by default that of the trainer's output folder, or the model's class.
        forecast: whether to look ahead, for the values that are logged and the alerts that come early: True, with what
            comes with madyn; "learn", with what the dataset's finished runs show; or a `Prior`.
        last_step: the run's, as planned; trainers say it by themselves. Without one there is no forecast.
        sample: in place of a probe, so many sequences of the training batches themselves, as they pass: no forward
            besides, and another input at every step, so that trajectories are noisier. Never both in one dataset.
        on_alert: called with each `Alert`, for a message to somebody or a change of the run.
        tokenizer: for a probe that is a text; itself, or its name or folder. Trainers that have one give it.
        settings: `batch_size` and `layers` of the measuring count; dtype and device are the model's own.

    Raises:
        UsageError: an argument cannot mean anything.

    >>> from tempfile import mkdtemp
    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> monitor = madyn.Monitor(mkdtemp(), ids, every=1, name="run", forecast=False)
    >>> logged = monitor.step(model, 0)
    >>> for step in (1, 2):
    ...     model(ids, labels=ids).loss.backward()
    ...     optimizer.step()
    ...     logged = monitor.step(model, step)
    >>> monitor.finish()
    >>> sorted(logged)[0], monitor.alerts, madyn.open_dataset(monitor.out).steps("run")
    ('massive/alerts', [], [0, 1, 2])
    """

    def __init__(
        self,
        out: str | Path,
        probe: Any = None,
        *,
        every: Any = "log2+1000",
        name: str | None = None,
        forecast: bool | str | Prior = True,
        last_step: int | None = None,
        sample: int | None = None,
        on_alert: Callable[[Alert], object] | None = None,
        tokenizer: Any = None,
        settings: Settings | None = None,
    ) -> None:
        if sample is not None:
            check_range("sample", sample, 1, 10**6)
            if probe is not None:
                raise UsageError("a monitor measures on a probe or on a sample of the training batches: give one")
        if isinstance(forecast, str) and forecast != "learn":
            raise UsageError(f"forecast is {forecast!r}; it is True, False, 'learn' or a Prior")
        self.out = root_path(out)
        self._probe, self._schedule, self._sample = probe, read_schedule(every), sample or 0
        self._name = None if name is None else layout.check_name(layout.directory_name(name))
        self._prior: str | Prior | None = forecast if isinstance(forecast, (str, Prior)) else None
        self._prior = SHIPPED if forecast is True else self._prior
        self._last_step = None if last_step is None else layout.check_step(last_step)
        self._on_alert, self._tokenizer, self._settings = on_alert, tokenizer, settings or Settings()
        self._run: Run | None = None
        self._last: MonitorRecord | None = None

    def __repr__(self) -> str:
        record = self._run.record if self._run is not None else self._last
        state = "not begun" if record is None else f"{record.model}, {record.state}"
        return f"<madyn Monitor: {self.out}\n measures at {self._schedule.text}; {state}; {len(self.alerts)} alerts>"

    @property
    def alerts(self) -> list[Alert]:
        """What was warned of so far, in order."""
        record = self._run.record if self._run is not None else self._last
        return [] if record is None else list(record.alerts)

    # In any loop

    def step(self, model: Any, step: int, batch: Any = None) -> dict[str, float]:
        """Tell the monitor that a run has made `step` updates; it measures the model where that step is due.

        Call it before the first update with step 0, and after each one. Of processes that train together all may call
        it, and the first measures.

        Args:
            model: as it is trained: wrapped, compiled, with adapters.
            batch: the training batch that comes next, where the monitor has no probe of its own.

        Returns:
            what is worth logging, by name (docs/monitor.md has the table); nothing where nothing was measured.

        Raises:
            MadynError: before anything is measured: the dataset, the probe or the model cannot be what is meant.
        """
        from madyn.monitor.undisturbed import rank

        if rank() != 0:
            return {}
        if self._run is None:
            step = layout.check_step(step)
            run = self.begin(model, step)
            if run.needs_batch() and batch is None:
                self._end(ended=False)
                raise UsageError("the monitor has no probe: give it one (probe=...), or step(..., batch=...) the batch")
            return run.step(step, batch)
        try:
            step = layout.check_step(step)
            if self._run.is_due(step) and _inside(model, sample=bool(self._sample)) is not self._run.model:
                raise UsageError("this is another model than the one that the monitor began with")
        except MadynError as e:  # a run that has begun is not ended for it
            self._run.refuse(0, str(e))
            return {}
        return {} if self._run.needs_batch() and batch is None else self._run.step(step, batch)

    def finish(self) -> None:
        """Say that the run has ended. Without it the dataset is whole all the same, and says that the run goes on."""
        self._end(ended=True)

    def _end(self, *, ended: bool) -> None:
        if self._run is not None:
            self._run.finish(ended=ended)
            self._run, self._last = None, self._run.record

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end(ended=kind is None)

    # In a trainer

    @needs_extra
    def for_transformers(self) -> Any:
        """A callback for transformers' `Trainer` (and those made from it, such as TRL's).

        >>> from tempfile import mkdtemp
        >>> import madyn
        >>> callback = madyn.Monitor(mkdtemp()).for_transformers()  # Trainer(..., callbacks=[callback])
        >>> hasattr(callback, "on_step_end")
        True
        """
        from madyn.monitor.transformers_callback import TransformersCallback

        return TransformersCallback(self)

    def for_lightning(self, part: str | None = None) -> Any:
        """A callback for Lightning's `Trainer`.

        Args:
            part: the path of the transformer in the LightningModule, such as "model"; by default the first model of
                transformers in it, or the module itself.

        >>> from tempfile import mkdtemp
        >>> import madyn
        >>> callback = madyn.Monitor(mkdtemp()).for_lightning()  # Trainer(..., callbacks=[callback])
        >>> hasattr(callback, "on_train_batch_end")
        True
        """
        from madyn.monitor.lightning_callback import lightning_callback

        return lightning_callback(self, part)

    def begin(
        self,
        model: Any,
        step: int = 0,
        *,
        last_step: int | None = None,
        name: str | None = None,
        source: str | None = None,
        tokenizer: Any = None,
    ) -> Run:
        """Begin to watch a run, or go on with it; `step` does it by itself. What was measured before stays.

        Args:
            model: as it is trained.
            step: the updates made so far.
            last_step: where the monitor was given none.
            name: where the monitor was given none.
            tokenizer: where the monitor was given none.
            source: what the manifest says of where the model comes from.

        Raises:
            UsageError: the monitor watches a run already, or another one does, or the model cannot be measured.
            ProbeMismatchError: the dataset was measured on something else.
            MadynError: it cannot be read or written.

        >>> from tempfile import mkdtemp
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> import madyn
        >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
        >>> monitor = madyn.Monitor(mkdtemp(), np.arange(16).reshape(2, 8), name="run", forecast=False)
        >>> run = monitor.begin(model)
        >>> run.is_due(0), run.is_due(3)
        (True, False)
        >>> monitor.finish()
        """
        import madyn.measurement  # noqa: F401  # a missing torch is said first
        from madyn.monitor.run import Run

        if self._run is not None:
            raise UsageError(
                f"this monitor watches {self._run.record.model} already: `finish()` it, or make another one"
            )
        inner = _inside(model, sample=bool(self._sample))
        config = getattr(inner, "config", None)
        chosen = self._name or _usable(name, type(inner).__name__)
        last = self._last_step if self._last_step is not None else last_step
        with ExitStack() as held:
            self._hold(chosen, held)
            measured = self._inputs(inner, self._tokenizer if self._tokenizer is not None else tokenizer, config)
            units = self._known_units(chosen, inner, measured, step)
            record = self._record(chosen, measured, last, step, units)
            run = Run(
                self.out, inner, record, source=source or type(inner).__name__, schedule=self._schedule,
                measured=measured, known=units, sample=self._sample, prior=self._prior, settings=self._settings,
                on_alert=self._on_alert, held=held.pop_all(),
            )  # fmt: skip
        self._run = run
        return run

    def _hold(self, name: str, held: ExitStack) -> None:
        """Be the only one that watches this run."""
        if not is_local(self.out):
            return
        try:
            make_folder(self.out)
        except OSError as e:
            raise storage_error(self.out, e) from e
        layout.refuse_twin(self.out, name)
        if layout.training_path(self.out, name).exists():
            raise UsageError(f"{self.out} holds {name}, which a lab has trained: use another out or another name")
        path = layout.inside(self.out, layout.monitor_lock_path(self.out, name))
        if not held.enter_context(hold(path, remove=True)):
            raise UsageError(f"another monitor watches {name} into {self.out}: `finish()` it, or give another name=")

    def _inputs(self, model: Any, tokenizer: Any, config: Any) -> Measured | None:
        """What the run is measured on, held against what the dataset was measured on."""
        from madyn.measurement.forward import stacks_of
        from madyn.monitor.probing import kept_inputs, read_given, require_context

        known = manifest.read_probe(self.out)
        if self._sample:
            _refuse_images(model)
            record = manifest.ProbeRecord(text=SAMPLED, sha256=sha256(SAMPLED.encode()), documents=0, seed=0)
            manifest.claim_probe(self.out, record)
            return None
        measured = read_given(self._probe, config, tokenizer) or kept_inputs(self.out)
        if measured is not None:
            require_context(measured.values, config)
        if measured is None:
            if known is not None:
                raise ProbeMismatchError(
                    f"{self.out} was measured on {known.text!r}: give that as the probe, or another out"
                )
            return None
        manifest.refuse_other_probe(self.out, measured.record)
        stacks_of(model, measured.values, self._settings.layers)  # what cannot be measured is said now
        manifest.claim_probe(self.out, measured.record)
        return measured

    def _known_units(self, name: str, model: Any, measured: Measured | None, step: int) -> list[int]:
        """The steps that were measured of this run before; what is of another run is refused."""
        units, _ = manifest.read_sound_units(self.out, name)
        files = layout.statistics_files(self.out, name)
        if files and not units:
            raise UsageError(f"{self.out} holds a model {name} that no monitor has measured: use another out or name")
        known = [s for s, path in files.items() if manifest.is_measured(self.out, name, s, path)]
        for unit in (units[s] for s in known if s in units):
            _refuse_other(self.out, unit, model, measured, sampled=bool(self._sample))
        if step == 0 and known and max(known) > 0:
            self._refuse_after_its_end(name)
        if measured is not None and step == 0 and 0 in known:
            self._refuse_other_start(name, model, measured, files[0])
        return known

    def _refuse_after_its_end(self, name: str) -> None:
        """A run that begins at step 0 is another one than the run that has ended."""
        before = _known_record(self.out, name)
        if before is not None and before.state == "ended":
            raise UsageError(
                f"{self.out} holds a run {name} that ended at step {before.step}, and this one begins at step 0: give "
                "another name= or another out"
            )

    def _refuse_other_start(self, name: str, model: Any, measured: Measured, path: Path) -> None:
        """A run that begins anew must begin as the one did that is there."""
        from madyn.measurement import measure_with_locations
        from madyn.measurement.wrapping import device_of
        from madyn.monitor.undisturbed import undisturbed

        with undisturbed(device_of(model)):
            here = measure_with_locations(
                model, measured.values, 3, exclude=measured.probe.excluded, layers=self._settings.layers
            ).statistics
        there = read_statistics(path)
        if here.shape != there.shape or not np.allclose(here, there, rtol=_SAME, atol=0):
            raise UsageError(
                f"{self.out} holds a run {name} that began with other weights: use another out or name, or resume that "
                "run from its checkpoint"
            )

    def _record(
        self, name: str, measured: Measured | None, last: int | None, step: int, known: list[int]
    ) -> MonitorRecord:
        before = _known_record(self.out, name)
        inputs = measured.described if measured is not None else "the first batch, which is not seen yet"
        inputs = f"{self._sample} sequences of the training batches" if self._sample else inputs
        fresh = MonitorRecord(
            model=name, every=self._schedule.text, inputs=inputs, mode="sample" if self._sample else "probe",
            last_step=last, step=step, started=now(), updated=now(),
        )  # fmt: skip
        if before is None:
            return fresh
        resumed = [*before.resumed, step] if known else before.resumed
        kept = {"started": before.started, "measuring_seconds": before.measuring_seconds, "alerts": before.alerts}
        return replace(fresh, resumed=resumed, **kept)


def _known_record(root: Path, name: str) -> MonitorRecord | None:
    """The record of an earlier part of a run; none where it is damaged, which costs its alerts and no measurement."""
    try:
        return read_monitor(root, name)
    except DatasetError as e:
        log.warning("%s; a new one is begun", e)
        return None


def _usable(name: str | None, otherwise: str) -> str:
    """A directory's name from what a trainer calls its output folder."""
    base = re.sub(r"[^\w.+-]+", "_", PurePath(name or "").name).strip("._+-")
    try:
        return layout.directory_name(base or otherwise)
    except UsageError:
        return layout.directory_name(otherwise)


def _inside(model: Any, *, sample: bool) -> Any:
    """The model without what is around it; one whose weights lie in pieces stays whole, and can be sampled alone."""
    from madyn.measurement.wrapping import is_sharded, unwrap

    if not hasattr(model, "modules") or not is_sharded(model):
        return unwrap(model)
    if not sample:
        raise UsageError(
            f"the weights of this {type(model).__name__} lie in pieces on several processes (FSDP), and one of them "
            "cannot run it on a probe: watch the training batches (sample=...), or `madyn trace` the checkpoints"
        )
    return model


def _refuse_images(model: Any) -> None:
    if getattr(model, "main_input_name", "input_ids") == "pixel_values":
        raise UsageError(f"{type(model).__name__} reads images: give the monitor some as its probe, not a sample")


def _refuse_other(root: Path, unit: manifest.Unit, model: Any, measured: Measured | None, *, sampled: bool) -> None:
    """Refuse to go on with a run that was measured in another way, or whose model was another."""
    where = f"{root} holds {unit.model} at step {unit.step}"
    if unit.sampled != sampled:
        ways = {True: "on training batches", False: "on a probe"}
        raise ProbeMismatchError(f"{where}, measured {ways[unit.sampled]} and not {ways[sampled]}: use another out")
    if measured is not None and unit.tokens_sha256 not in (None, measured.tokens_sha256):
        raise ProbeMismatchError(
            f"{where}, measured on other tokens ({unit.sequences} sequences of {unit.length}) than those of the probe "
            f"({measured.described}): use the same, or another out"
        )
    changed = _other_shape(unit.architecture, model)
    if changed:
        raise UsageError(f"{where}, another model: {changed}; use another out or another name")


def _other_shape(was: Mapping[str, Any], model: Any) -> str:
    """The first field of the architecture that differs; nothing where none does, or nothing is known."""
    try:
        here = Architecture.from_config(model.config).to_dict()
    except (ArchitectureError, AttributeError, MadynError):
        return ""
    return next((f"its {k} is {was[k]!r} and {v!r} here" for k, v in here.items() if k in was and was[k] != v), "")
