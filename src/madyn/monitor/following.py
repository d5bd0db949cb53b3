"""One model of a dataset that is being written, followed: every look reads what is new since the last one.

A file of statistics is read once. On a local disk one that has changed is read again; of a dataset on a URL, where
asking is what costs, only what is new is, and what could not be read. What is damaged is a sentence, and costs its
step. Nothing here knows what a forecast is; `watching` adds that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.dataset import Dataset, layout, manifest
from madyn.dataset.files import is_local, is_there
from madyn.dataset.locations import most_common, read_unit_locations
from madyn.dataset.monitoring import MonitorRecord, read_monitor
from madyn.dataset.statistics import read_statistics
from madyn.errors import DatasetError, MadynError, one_line
from madyn.massive import massive_by_start, massive_published

if TYPE_CHECKING:
    from madyn.monitor.outlook import Outlook

_LATEST = 6  # steps that the time to the next one is told from
_PATIENCE = 3.0  # times as long as a step takes to come
_LEAST_SILENCE = 120.0  # seconds
_MOST_RETRIED = 3  # damaged files that are asked for again on a URL


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What is known of one model at one look.

    Attributes:
        model: its directory in the dataset.
        record: what its monitor says; None for one that no monitor watches.
        last_step: of the run, as planned; None where nobody said.
        steps: measured, ascending, shape (n,).
        ratio: top1 / median, a mean over the sequences in which it is finite, shape (n, layers).
        finite: whether all that was measured is, in every sequence, shape (n, layers).
        sequences: how many there are.
        massive: at the last step, in how many sequences a layer's largest value is massive, (layers,), by rule:
            published; start, where step 0 is there and the manifest says how long a sequence is.
        positions, features: where most sequences have a layer's largest value at the last step, (layers,); None where
            the dataset does not say.
        failed: why steps have no statistics, by step.
        faults: what is wrong with its files, a sentence each.
        measured_at: when the last step was measured, in seconds since 1970; None where nothing tells.
        expected: seconds that the next one takes at most, by the last few; None where too little is known.
        outlook: the forecast; None where there is none yet, `no_outlook` says why.
    """

    model: str
    record: MonitorRecord | None = None
    last_step: int | None = None
    steps: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    ratio: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    finite: np.ndarray = field(default_factory=lambda: np.empty((0, 0), bool))
    sequences: int = 0
    massive: Mapping[str, np.ndarray] = field(default_factory=dict)
    positions: np.ndarray | None = None
    features: np.ndarray | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    measured_at: float | None = None
    expected: float | None = None
    outlook: Outlook | None = None
    no_outlook: str = ""

    @property
    def step(self) -> int | None:
        """The last measured one."""
        return int(self.steps[-1]) if self.steps.size else None

    @property
    def layers(self) -> int:
        return self.ratio.shape[1]

    @property
    def state(self) -> str | None:
        """ "running" or "ended", as its monitor says; None without one."""
        return self.record.state if self.record else None

    @property
    def measuring_share(self) -> float | None:
        """Of the run's time, what measuring took; None where nobody said."""
        since, until = (time_of(self.record.started), time_of(self.record.updated)) if self.record else (None, None)
        if self.record is None or since is None or until is None or until <= since:
            return None
        return min(1.0, max(0.0, self.record.measuring_seconds / (until - since)))

    def silent(self, now: float) -> float | None:
        """Seconds since the last measurement."""
        return None if self.measured_at is None else max(0.0, now - self.measured_at)

    def is_late(self, now: float) -> bool:
        """Whether a run that is said to go on has been silent for much longer than steps took lately."""
        silent = self.silent(now)
        if self.state != "running" or silent is None or self.expected is None:
            return False
        if self.last_step is not None and self.step is not None and self.step >= self.last_step:
            return False
        return silent > max(_LEAST_SILENCE, _PATIENCE * self.expected)


def time_of(text: str) -> float | None:
    """Seconds since 1970 of a time as a record has it (ISO 8601, UTC where it does not say); None where it is none."""
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def changed_at(path: Path) -> float | None:
    """When a file or folder was changed, in seconds since 1970; None where its store does not say."""
    try:
        return float(path.stat().st_mtime) or None
    except Exception:  # every store has errors of its own
        return None


class Follower:
    """What was read of one model so far. `look` reads what is new and gives what is known."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.arrays: dict[int, np.ndarray] = {}
        self._marks: dict[int, tuple[int, int] | None] = {}  # of the files that were read, to tell a changed one
        self._damaged: dict[int, str] = {}
        self._failed: dict[int, str] = {}
        self._arrived: dict[int, float] = {}
        self._values: int | None = None
        self._run = Run(model=model)
        self._read_shape: tuple[int, ...] = ()

    def look(self, root: Path, now: float, last_step: int | None = None) -> Run:
        """Read what is new.

        Args:
            root: the dataset's folder, which for a dataset of the Hub may be another one at each look.
            now: seconds since 1970.
            last_step: of the run, where the user says it.
        """
        faults: list[str] = []
        record = None
        try:
            record = read_monitor(root, self.model)
        except DatasetError as e:
            faults.append(str(e))
        files = layout.statistics_files(root, self.model)
        if self._read_new(root, files, now):
            self._run = self._measured(root, files)
        faults += [*self._run.faults, *(self._damaged[step] for step in sorted(self._damaged))]
        self._look_for_failures(root, set(files), faults)
        planned = last_step if last_step is not None else record.last_step if record else None
        times = [self._arrived.get(int(step)) for step in self._run.steps[-1:]]
        times += [time_of(record.updated)] if record else []
        known = [time for time in times if time is not None]
        return replace(
            self._run,
            record=record,
            last_step=planned,
            failed=dict(sorted(self._failed.items())),
            faults=tuple(dict.fromkeys(faults)),
            measured_at=max(known, default=None),
            expected=self._expected(),
        )

    def _read_new(self, root: Path, files: Mapping[int, Path], now: float) -> bool:
        """Read the files of statistics that are new or changed; whether any was, or one has gone."""
        local, first = is_local(root), not self._marks
        gone = [step for step in self._marks if step not in files]
        for step in gone:
            for kept in (self._marks, self.arrays, self._damaged, self._arrived):
                kept.pop(step, None)
        again = set(sorted(self._damaged)[-_MOST_RETRIED:])
        changed = bool(gone)
        for step, path in files.items():
            mark = _mark(path) if local else None
            if step in self._marks and not (mark != self._marks[step] or (not local and step in again)):
                continue
            before = self._damaged.pop(step, None)
            try:
                self.arrays[step] = read_statistics(path)
                changed = True
            except DatasetError as e:
                changed = changed or self.arrays.pop(step, None) is not None or before is None
                self._damaged[step] = str(e)
            self._marks[step] = mark
            if mark is not None and mark[0]:
                self._arrived[step] = mark[0] / 1e9
            elif not first:  # what comes while somebody watches has come just now
                self._arrived[step] = now
            elif step == max(files) and (when := changed_at(path)) is not None:  # a store is asked for one time alone
                self._arrived[step] = when
        return changed

    def _sound(self) -> dict[int, np.ndarray]:
        """By step, what was read: of arrays that differ in shape those of the most frequent one."""
        shapes = Counter(array.shape for array in self.arrays.values()).most_common(1)
        self._read_shape = shapes[0][0] if shapes else ()
        return {step: self.arrays[step] for step in sorted(self.arrays) if self.arrays[step].shape == self._read_shape}

    def _shape_faults(self, files: Mapping[int, Path]) -> tuple[str, ...]:
        return tuple(
            f"{files[step]}: shape {array.shape} where most steps have {self._read_shape}"
            for step, array in sorted(self.arrays.items())
            if array.shape != self._read_shape and step in files
        )

    def dataset(self, root: Path) -> Dataset:
        """What was read, as a dataset of this model alone. Nothing is read again."""
        return Dataset.holding(root, self.model, self._sound())

    def _measured(self, root: Path, files: Mapping[int, Path]) -> Run:
        sound, faults = self._sound(), []
        if not sound:
            return Run(model=self.model)
        values = np.stack(list(sound.values()))  # step, sequence, quantity, layer
        top1, median = values[:, :, 0], values[:, :, -1]
        with np.errstate(all="ignore"):
            ratios = top1 / median
            known = np.isfinite(ratios)
            ratio = np.sum(ratios, axis=1, where=known) / np.sum(known, axis=1)
        places = self._places(root, max(sound), values.shape[3], faults)
        return Run(
            model=self.model,
            steps=np.array(list(sound)),
            ratio=ratio,
            finite=np.asarray(np.isfinite(values).all(axis=(1, 2)) & known.all(axis=1)),
            sequences=values.shape[1],
            massive=self._massive(root, sound),
            positions=None if places is None else places[0],
            features=None if places is None else places[1],
            faults=(*self._shape_faults(files), *faults),
        )

    def _massive(self, root: Path, sound: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        last = sound[max(sound)]
        found = {"published": massive_published(last[:, 0], last[:, -1])}
        if 0 in sound:
            self._values = self._values or self._values_of_sequence(root, list(sound))
            if self._values is not None:
                start = sound[0][:, 0], sound[0][:, -1]
                found["start"] = massive_by_start(last[:, 0], last[:, -1], *start, self._values).massive
        return {rule: counts.sum(axis=0) for rule, counts in found.items()}

    def _values_of_sequence(self, root: Path, steps: list[int]) -> int | None:
        """How many values |h| a sequence has at a layer, where the manifest of the last step says it."""
        path = layout.manifest_path(root, self.model, steps[-1])
        try:
            unit = manifest.read_record(path, self.model, steps[-1])[0] if is_there(path) else None
        except DatasetError:
            return None
        return manifest.values_of_sequence(unit) if unit else None

    def _places(self, root: Path, step: int, layers: int, faults: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """Position and feature, (layers,) each, that most sequences have their largest value at."""
        path = layout.locations_path(root, self.model, step)
        try:
            if not is_there(path):
                return None
            found = read_unit_locations(path)
            if found.shape[2] != layers:
                raise DatasetError(f"{path}: {found.shape[2]} layers where the statistics have {layers}")
            grids = (np.array(grid)[:, 0] for grid in (found.position, found.feature))  # sequence, layer
            position, feature = (np.array([most_common(column) for column in grid.T]) for grid in grids)
        except MadynError as e:
            faults.append(str(e))
            return None
        return position, feature

    def _look_for_failures(self, root: Path, measured: set[int], faults: list[str]) -> None:
        """Steps that were tried and have no statistics. One with no failure is being measured, or was cut short."""
        self._failed = {step: why for step, why in self._failed.items() if step not in measured}
        for step, path in layout.manifest_files(root, self.model).items():
            if step in measured or (step in self._failed and not is_local(root)):
                continue
            try:
                unit, wrong = manifest.read_record(path, self.model, step)
            except DatasetError as e:
                unit, wrong = None, [str(e)]
            faults += wrong
            if unit is not None and unit.failure is not None:
                self._failed[step] = one_line(unit.failure)
            else:
                self._failed.pop(step, None)

    def _expected(self) -> float | None:
        """Seconds until the next step is measured at most, if steps go on as fast and far apart as the last few.

        Schedules that double their steps are allowed for. None where it is not known when two steps were measured.
        """
        timed = [(int(s), self._arrived[int(s)]) for s in self._run.steps[-_LATEST:] if int(s) in self._arrived]
        pairs = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(timed) if b[1] > a[1]]
        if not pairs:
            return None
        pace = max(seconds / steps for steps, seconds in pairs)
        return max(max(seconds for _, seconds in pairs), pace * 2 * pairs[-1][0])


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
