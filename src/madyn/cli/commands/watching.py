"""`madyn watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import DatasetArgument, JsonOption, ModelsOption
from madyn.errors import UsageError
from madyn.terminal import print_json

_LOCAL, _REMOTE = 5.0, 60.0
_MOST_SECONDS = 86_400.0


def watch(
    dataset: DatasetArgument,
    models: ModelsOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All models, a line each, those written most recently first.")
    ] = False,
    last_step: Annotated[
        int | None, typer.Option("--last-step", help="Of the run, as planned; by default what its monitor says.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option("--interval", help="Seconds between two looks; 5 by default, 60 for a URL.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, and do not wait for what comes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A run as it is measured: its layers, forecast and alerts. [dim]madyn watch runs/ --once[/dim]

    It ends when the run has, or with Ctrl-C. --json, with --once, prints what `watch_record` gives; see docs/json.md.
    """
    from madyn.monitor.watching import Watcher
    from madyn.summaries.watch_live import follow, most_runs, print_watch, watch_once
    from madyn.summaries.watch_records import watch_record

    if as_json and not once:
        raise UsageError("--json prints one value: give --once with it")
    if interval is not None and not 0.1 <= interval <= _MOST_SECONDS:
        raise UsageError(f"--interval is {interval:g}; it lies between 0.1 and {_MOST_SECONDS:g} seconds")
    watcher = Watcher(
        dataset, models or [], everything=everything, most=None if once else most_runs(), last_step=last_step
    )
    single = not everything and len(models or []) <= 1
    if once:
        view = watch_once(watcher, forecasts=single)
        print_json(watch_record(view)) if as_json else print_watch(view)
    else:
        follow(watcher, interval or (_REMOTE if watcher.is_remote else _LOCAL), forecasts=single)


COMMAND = Command(watch, panel="Look into a dataset")
