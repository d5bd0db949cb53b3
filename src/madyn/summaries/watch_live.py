"""`madyn watch` as it goes on: drawn anew on a terminal, a line a change in a pipe, until the run has ended.

A thread looks at the dataset and works out forecasts, so that a slow disk or network does not keep the terminal from
being drawn, or Ctrl-C from being heard. It is ended with the process: all that it does is to read.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

from madyn.monitor.watching import View, Watcher
from madyn.streams import Printer
from madyn.summaries.pages import Page
from madyn.summaries.watch_records import changes
from madyn.summaries.watching import watch_lines
from madyn.terminal import console, count_wrong

_SECOND = 1.0
_NARROWEST = 20


def print_watch(view: View) -> None:
    """The view once, as long as it is."""
    page = Page(width=max(_NARROWEST, console.width), in_ascii=not _has_blocks(console))
    for line in watch_lines(view, page):
        console.print(line)


def watch_once(watcher: Watcher, forecasts: bool = True) -> View:
    """Look once; what is wrong in the dataset counts as wrong."""
    view = watcher.look()
    view = watcher.forecast() if forecasts else view
    for fault in view.all_faults:
        count_wrong(fault)
    return view


def most_runs() -> int | None:
    """How many runs are shown at once where each look draws them anew; None in a pipe, which shows all."""
    return max(1, console.height - 5) if _can_be_drawn(console) else None


def follow(watcher: Watcher, interval: float, forecasts: bool = True) -> None:
    """Show what comes until the runs that are shown have ended, or Ctrl-C.

    Args:
        interval: seconds between two looks.
    """
    with Looking(watcher, interval, forecasts) as looking:
        last = _draw(looking, watcher) if _can_be_drawn(console) else _tell(looking)
    for fault in last.all_faults:
        count_wrong(fault)


class Looking:
    """Looks in a thread of its own. `views` are what it saw, each as soon as it is there."""

    def __init__(self, watcher: Watcher, interval: float, forecasts: bool) -> None:
        self._watcher, self._interval, self._forecasts = watcher, interval, forecasts
        self._views: queue.SimpleQueue[View | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Looking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def next(self, timeout: float) -> View | None:
        """The next view, None where none came in this time. Raises what the thread did."""
        try:
            found = self._views.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, BaseException):
            raise found
        return found

    def _look(self) -> None:
        try:
            while not self._stop.is_set():
                view = self._watcher.look()
                if self._forecasts and self._watcher.needs_forecast():
                    self._views.put(replace(view, complete=False))
                    view = self._watcher.forecast()
                self._views.put(view)
                if view.has_ended:
                    return
                self._stop.wait(self._interval)
        except BaseException as e:  # it is raised where it is waited for
            self._views.put(e)


def _draw(looking: Looking, watcher: Watcher) -> View:
    """On a terminal: the view, drawn anew when something is new and every second for its clock."""
    screen = Printer()
    shown = _Shown(not _has_blocks(screen))
    with Live(shown, console=screen, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            new = looking.next(_SECOND)
            view = new or shown.view
            shown.view = replace(view, now=watcher.clock()) if view else None
            if new is not None and new.complete and new.has_ended:
                shown.last = True
                live.refresh()
                return new
            live.refresh()


class _Shown:
    """What the terminal shows, made for the size that it has when it is drawn. The last one may be longer than it."""

    def __init__(self, in_ascii: bool) -> None:
        self.view: View | None = None
        self.last = False
        self._in_ascii = in_ascii

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        # The last column is left free: some terminals begin a new line when it is written to.
        width = max(_NARROWEST, options.max_width - 1)
        height = max(6, console.height - 1)
        page = Page(width=width, height=height, in_ascii=self._in_ascii)
        if self.view is None:
            yield Text("reading ...")
            return
        for line in watch_lines(self.view, page)[:height]:
            line.end = "\n"
            yield line


def _tell(looking: Looking) -> View:
    """In a pipe: the view once, then a line a change."""
    before: View | None = None
    while True:
        view = looking.next(_SECOND)  # without a limit some systems would not hear Ctrl-C
        if view is None or not view.complete:
            continue
        if before is None:
            print_watch(view)
        else:
            for said in changes(before, view):
                console.print(" ".join(said.split()))
        console.file.flush()
        if view.has_ended:
            return view
        before = view


def _can_be_drawn(screen: Console) -> bool:
    isatty: Callable[[], bool] = getattr(screen.file, "isatty", lambda: False)
    return isatty() and not screen.is_dumb_terminal


def _has_blocks(screen: Console) -> bool:
    """Whether what is written to can show block characters: its encoding has them, and Linux's own console, whose font
    lacks some, is not it."""
    return screen.encoding.lower().startswith("utf") and os.environ.get("TERM") != "linux"
