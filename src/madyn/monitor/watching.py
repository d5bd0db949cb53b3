"""A dataset that is being written, watched: which of its runs to show, and what each of them has come to.

`Watcher.look` reads what is new, which is quick; `Watcher.forecast` then works out what a new step changes of the
forecast. They are two so that what was measured is seen at once. Nothing is written, and nothing here needs torch.

A folder in which nothing was measured yet is no error, since a run may be about to begin; one that is not there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from madyn.dataset import layout
from madyn.dataset.files import is_folder, is_local, list_folder
from madyn.dataset.monitoring import read_monitor
from madyn.dataset.remote import is_shipped, locate, match_remote
from madyn.errors import DatasetError, MadynError, UsageError
from madyn.monitor.following import Follower, Run, changed_at, time_of
from madyn.monitor.outlook import Outlook, outlook_of, why_none
from madyn.terminal import few

_SELDOM = 10  # looks at a URL between two at which run is the newest


@dataclass(frozen=True, kw_only=True)
class View:
    """What is seen at one look.

    Attributes:
        dataset: as it was named.
        now: when, in seconds since 1970.
        runs: those that are shown.
        others: how many models there are beside them.
        waiting: what is waited for where there is nothing to show, a sentence; else "".
        faults: what is wrong with the dataset itself.
        complete: whether forecasts are of the last step too; those of a view that is not are being worked out.
    """

    dataset: str
    now: float
    runs: tuple[Run, ...] = ()
    others: int = 0
    waiting: str = ""
    faults: tuple[str, ...] = ()
    complete: bool = True

    @property
    def has_ended(self) -> bool:
        """Whether all runs that are shown have ended, as their monitors say."""
        return bool(self.runs) and all(run.state == "ended" for run in self.runs)

    @property
    def all_faults(self) -> list[str]:
        return list(dict.fromkeys([*self.faults, *(fault for run in self.runs for fault in run.faults)]))


class Watcher:
    """Looks at a dataset again and again.

    Args:
        dataset: a folder, a URL, a dataset of the Hub, or one that comes with madyn.
        models: which to show, by directory names; where none is named, the one that was written most recently.
        everything: show all, those that were written most recently first.
        most: of them, no more than this.
        last_step: of the runs, as planned; by default what their monitors say.
        clock: gives seconds since 1970.

    Raises:
        DatasetError: there is no such folder or dataset.
        UsageError: names and `everything` together, or the last step is none.
    """

    def __init__(
        self, dataset: str | Path, models: Sequence[str] = (), *, everything: bool = False, most: int | None = None,
        last_step: int | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        if models and everything:
            raise UsageError("--model and --all contradict each other: give one")
        self.named, self.everything, self.most = list(dict.fromkeys(map(layout.check_name, models))), everything, most
        self.last_step = None if last_step is None else layout.check_step(last_step)
        self.name, self.clock = dataset, clock
        self._root = locate(dataset)
        self._moves = not is_shipped(dataset) and match_remote(dataset) is not None
        self._known: set[str] = set()
        self._followers: dict[str, Follower] = {}
        self._outlooks: dict[str, tuple[tuple[int, int | None, int], Outlook | None, str]] = {}
        self._shown: list[str] = []
        self._looks = 0
        self._view = View(dataset=str(dataset), now=clock())

    @property
    def is_remote(self) -> bool:
        """Whether each look asks another machine."""
        return self._moves or not is_local(self._root)

    def look(self) -> View:
        """Read what is new. Forecasts are those of the last time that `forecast` was called.

        What cannot be read, a network that is gone say, is one of the view's faults, and the rest is as it was.
        """
        now = self.clock()
        try:
            if self._moves and self._looks:
                self._root = _fetched(self.name)
            names = self._names()
            shown = self._chosen(names)
            runs = [self._look_at(model, now) for model in shown]
        except MadynError as e:
            self._looks += 1
            self._view = replace(self._view, now=now, faults=(f"{e}; it is tried again",))
            return self._view
        self._looks += 1
        self._shown = shown
        waiting = "" if runs else self._waiting(names)
        others = len(names - set(shown))
        self._view = View(dataset=str(self.name), now=now, runs=tuple(runs), others=others, waiting=waiting)
        return self._view

    def _look_at(self, model: str, now: float) -> Run:
        run = self._followers.setdefault(model, Follower(model)).look(self._root, now, self.last_step)
        return self._with_outlook(run)

    def needs_forecast(self) -> bool:
        """Whether `forecast` has something to do."""
        return any(self._is_new(run) for run in self._view.runs)

    def forecast(self) -> View:
        """Work out the forecasts that are not there yet; a fraction of a second for a run of thirty layers."""
        for run in self._view.runs:
            if self._is_new(run) and run.step is not None and run.last_step is not None:
                dataset = self._followers[run.model].dataset(self._root)
                found = outlook_of(dataset, run.model, run.step, run.last_step)
                self._outlooks[run.model] = (_key(run), *found)
        self._view = replace(self._view, runs=tuple(self._with_outlook(run) for run in self._view.runs))
        return self._view

    def _is_new(self, run: Run) -> bool:
        if why_none(run.steps, run.last_step) or run.step is None or run.last_step is None:
            return False
        return run.step < run.last_step and self._outlooks.get(run.model, (None,))[0] != _key(run)

    def _with_outlook(self, run: Run) -> Run:
        """The run with the forecast that there is, which may be of an earlier step."""
        why = why_none(run.steps, run.last_step)
        if why or (run.step is not None and run.last_step is not None and run.step >= run.last_step):
            return replace(run, no_outlook=why)
        _, outlook, reason = self._outlooks.get(run.model, (None, None, ""))
        if outlook is not None and (outlook.last_step != run.last_step or outlook.end.shape[0] != run.layers):
            outlook = None
        return replace(run, outlook=outlook, no_outlook=reason)

    def _names(self) -> set[str]:
        """The models that there are, or that a monitor or a manifest tells of. Known ones are not asked about again."""
        root = self._root
        if self.named and self.is_remote and self._known >= set(self.named):
            return self._known
        there = list_folder(root)
        folders = {path.name: path for path in there if layout.is_directory_name(path.name)}
        self._known &= {*folders, *self._known_elsewhere(there)} if is_local(root) else self._known
        self._known |= {name for name in folders.keys() - self._known if is_folder(folders[name] / "stats")}
        self._known |= self._known_elsewhere(there)
        return self._known

    def _known_elsewhere(self, there: list[Path]) -> set[str]:
        """Models of which only a monitor or a manifest tells: their first step is still to come, or failed."""
        names = {path.name for path in there}
        found = set(layout.monitor_files(self._root)) if "monitor" in names else set()
        if "manifest" in names:
            found |= set(layout.manifest_models(self._root)) if is_local(self._root) else set()
        return found

    def _chosen(self, names: set[str]) -> list[str]:
        if self.named:
            return [name for name in self.named if name in names]
        again = not self.is_remote or self._looks % _SELDOM == 0 or not set(self._shown) <= names
        if self._shown and not again and len(self._shown) == len(names):
            return self._shown
        if not again and self._shown and not self.everything:
            return self._shown
        ranked = sorted(names, key=lambda name: (-self._written(name), name)) if len(names) > 1 else list(names)
        return ranked[: self.most] if self.everything else ranked[:1]

    def _written(self, model: str) -> float:
        """When a model was written last, in seconds since 1970; 0 where nothing tells."""
        times: list[float | None] = []
        try:
            record = read_monitor(self._root, model)
            times += [time_of(record.updated)] if record else []
        except DatasetError:
            pass  # which is said of it when it is shown
        folder = layout.statistics_folder(self._root, model)
        if is_local(self._root):
            times.append(changed_at(folder))
        elif times == []:
            files = layout.statistics_files(self._root, model)
            times += [changed_at(files[max(files)])] if files else []
        return max((when for when in times if when is not None), default=0.0)

    def _waiting(self, names: set[str]) -> str:
        if self.named and names:
            return f"no {few(self.named)} yet; there are {few(sorted(names))}"
        what = few(self.named) if self.named else "a model"
        return f"nothing was measured yet: waiting for the first step of {what}"


def _fetched(dataset: str | Path) -> Path:
    """Where a dataset of the Hub lies now, what is new of it fetched. No bar is drawn, since a view is."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        return locate(dataset)
    disable_progress_bars()
    try:
        return locate(dataset)
    finally:
        enable_progress_bars()


def _key(run: Run) -> tuple[int, int | None, int]:
    """What a forecast depends on: another one is another forecast."""
    return run.step or 0, run.last_step, len(run.steps)
