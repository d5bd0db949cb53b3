"""What `madyn watch` says to programs, and what it says to a pipe of one look after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from madyn.monitor.following import Run
from madyn.monitor.outlook import Outlook
from madyn.monitor.watching import View
from madyn.summaries.watching import figure


def watch_record(view: View) -> dict[str, Any]:
    """A view as JSON.

    Returns:
        dataset; time, in UTC; waiting, a sentence or None; others, how many models are not shown; faults; models, for
        each: model, mode, every, inputs, state, started, updated, resumed, measuring_seconds (of its monitor, None
        without one), step, last_step, steps (a list), measured_at, silent_seconds, late, measuring_share, sequences,
        failed (by step), faults, forecast (at, last_step, level, prior; or None), no_forecast, layers and alerts. For
        each layer: layer, ratio (by measured step), finite, position, feature, massive (by rule, in how many sequences
        at the last step), forecast (median, lower, upper at the last step; peak_step, peak_height, plateau, each of
        three; peak_inside, peak_ahead, message).
    """
    return {
        "dataset": view.dataset,
        "time": _utc(view.now),
        "waiting": view.waiting or None,
        "others": view.others,
        "faults": list(view.faults),
        "models": [_run_record(run, view.now) for run in view.runs],
    }


def _run_record(run: Run, now: float) -> dict[str, Any]:
    told = ("mode", "every", "inputs", "state", "started", "updated", "resumed", "measuring_seconds")
    ahead = run.outlook
    return {
        "model": run.model,
        **{name: getattr(run.record, name, None) for name in told},
        "step": run.record.step if run.record and run.record.step is not None else run.step,
        "last_step": run.last_step,
        "steps": run.steps,
        "measured_at": None if run.measured_at is None else _utc(run.measured_at),
        "silent_seconds": run.silent(now),
        "late": run.is_late(now),
        "measuring_share": run.measuring_share,
        "sequences": run.sequences,
        "failed": run.failed,
        "faults": list(run.faults),
        "forecast": {name: getattr(ahead, name) for name in ("at", "last_step", "level", "prior")} if ahead else None,
        "no_forecast": run.no_outlook or None,
        "layers": [_layer_record(run, layer) for layer in range(run.layers)],
        "alerts": [asdict(alert) for alert in run.record.alerts] if run.record else [],
    }


def _layer_record(run: Run, layer: int) -> dict[str, Any]:
    return {
        "layer": layer,
        "ratio": run.ratio[:, layer],
        "finite": run.finite[:, layer],
        "position": None if run.positions is None else run.positions[layer],
        "feature": None if run.features is None else run.features[layer],
        "massive": {rule: _of(run.massive, rule, layer) for rule in ("published", "start")},
        "forecast": _outlook_record(run.outlook, layer) if run.outlook else None,
    }


def _of(counts: Mapping[str, np.ndarray], rule: str, layer: int) -> int | None:
    return int(counts[rule][layer]) if rule in counts else None


def _outlook_record(ahead: Outlook, layer: int) -> dict[str, Any]:
    names = ("peak_step", "peak_height", "plateau", "peak_inside", "peak_ahead")
    own = {name: found[layer] for name in names if (found := getattr(ahead, name)) is not None}
    bounds = dict(zip(("median", "lower", "upper"), ahead.end[layer].tolist(), strict=True))
    return {**bounds, **dict.fromkeys(names), **own, "message": str(ahead.message[layer]) or None}


def _utc(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # of a clock, or a store, that is far off
        return None


def changes(before: View, after: View) -> list[str]:
    """What is new in a view, a sentence each: steps, failures, alerts, ends, and what is wrong."""
    known = {run.model: run for run in before.runs}
    said = [after.waiting] if after.waiting and after.waiting != before.waiting else []
    for run in after.runs:
        old = known.get(run.model, Run(model=run.model))
        said += [_step_said(run, index) for index, step in enumerate(run.steps) if step not in old.steps]
        said += [f"{run.model} step {n:,} failed: {why}" for n, why in run.failed.items() if old.failed.get(n) != why]
        alerts = run.record.alerts if run.record else []
        told = old.record.alerts if old.record else []
        said += [
            f"{run.model} {alert.kind.replace('_', ' ')} at step {alert.step:,} ({alert.time}): {alert.message}"
            for alert in alerts
            if alert not in told
        ]
        if run.is_late(after.now) and not old.is_late(before.now):
            said.append(f"{run.model}: no step for an unusually long time; it may have stopped")
        if run.state == "ended" and old.state != "ended":
            said.append(f"{run.model} has ended")
    return [*said, *(f"wrong: {fault}" for fault in after.all_faults if fault not in before.all_faults)]


def _step_said(run: Run, index: int) -> str:
    ratio, step = run.ratio[index], int(run.steps[index])
    if np.isnan(ratio).all():
        return f"{run.model} step {step:,}: no finite ratio"
    layer = int(np.nanargmax(ratio))
    said = f"{run.model} step {step:,}: largest ratio {figure(ratio[layer])} in layer {layer}"
    if not run.finite[index].all():
        said += f"; not finite in layers {', '.join(map(str, np.flatnonzero(~run.finite[index])))}"
    if index + 1 == len(run.steps):
        massive = int(np.sum(np.any([counts > 0 for counts in run.massive.values()], axis=0)))
        said += f"; {massive} massive" if massive else ""
        if run.outlook is not None and run.outlook.at == step:
            median, lower, upper = (figure(v) for v in run.outlook.end[layer])
            said += f"; {median} ({lower}-{upper}) at step {run.outlook.last_step:,}"
    return said
