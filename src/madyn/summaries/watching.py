"""What `madyn watch` shows: a run, a line a layer; or many runs, a line each.

Lines are made for a width and, on a terminal that is drawn anew, a height, and are never longer: columns that there is
no room for are left out, the least telling first, and layers that there is no room for are counted. Text out of files
is shown as it is, and nothing in it is taken for a style.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from madyn.monitor.following import Run, time_of
from madyn.monitor.outlook import Outlook
from madyn.monitor.watching import View
from madyn.summaries.numbers import duration
from madyn.summaries.pages import Column, Page, fit_table, fold, folded
from madyn.summaries.sparklines import sparkline
from madyn.terminal import counted

_LEAST_LINE, _MOST_LINE = 8, 60  # characters of a sparkline
_MOST_ALERTS, _MOST_FAULTS = 4, 3  # where the height is bounded
_SURE = 0.9  # that the curve peaks in the run, where its peak is shown


def watch_lines(view: View, page: Page) -> list[Text]:
    """The view, line by line."""
    head = [Text(page.cut(page.shown(view.dataset)), style="bold")] if len(view.runs) != 1 else []
    if view.waiting:
        head += folded(page.shown(view.waiting), page)
    faults = _fault_lines(view, page)
    if len(view.runs) == 1:
        return _run_lines(view, page, faults)
    left = [Text(page.cut(f"{counted(view.others, 'other model')} here, written longer ago"), style="dim")]
    table = fit_table(view.runs, _run_columns(view.runs, page), page)
    return [*head, *table, *(left if view.runs and view.others else []), *faults]


# One run


def _run_lines(view: View, page: Page, faults: list[Text]) -> list[Text]:
    run = view.runs[0]
    head = _flow([f"{run.model}", *_about(run, view)], page, "bold")
    foot = [*faults, *_alert_lines(run, page)]
    legend = _legend(run, page)
    room = None if page.height is None else page.height - len(head) - len(foot) - 2
    if room is not None and room - len(legend) >= min(run.layers, 4):
        room -= len(legend)
    elif room is not None:
        legend = []
    shown = _interesting(run, room)
    rows = [_Row(run, layer) for layer in shown]
    lines = [*head, *fit_table(rows, _layer_columns(run, page), page)]
    if len(shown) < run.layers:
        said = f"{len(shown)} of {run.layers} layers: those that are massive, or have the largest ratios"
        lines.append(Text(page.cut(said), style="dim"))
    return [*lines, *legend, *foot]


def _about(run: Run, view: View) -> list[str]:
    """What stands above the layers, part by part."""
    record, silent = run.record, run.silent(view.now)
    parts = [run.state or "", _progress(run)]
    if record is not None:
        parts.append(f"measured at {record.every} on {record.inputs} ({_MODES[record.mode]})")
    if run.steps.size:
        parts.append(f"{counted(len(run.steps), 'step')} of {counted(run.layers, 'layer')} measured")
    elif not view.waiting:
        parts.append("waiting for its first measured step")
    if silent is not None:
        parts.append(f"last measured {_age(silent)} ago")
    if run.is_late(view.now) and run.expected is not None:
        parts.append(f"UNUSUALLY LONG: steps came at least every {_age(run.expected)}; it may have stopped")
    if run.measuring_share is not None:
        parts.append(f"measuring takes {100 * run.measuring_share:.2g} % of its time")
    if record is not None and record.resumed:
        later = record.step is not None and run.step is not None and record.step < run.step
        said = f"; steps up to {run.step:,} were measured before that" if later else ""
        parts.append(f"went on from step {record.resumed[-1]:,}{said}")
    if run.failed:
        last = max(run.failed)
        parts.append(f"{counted(len(run.failed), 'step')} failed, step {last:,}: {run.failed[last]}")
    if run.no_outlook and run.steps.size and run.state != "ended":
        parts.append(run.no_outlook + (" (--last-step says it)" if run.last_step is None else ""))
    elif run.outlook is not None and run.step is not None and run.outlook.at < run.step:
        parts.append(f"forecast from step {run.outlook.at:,}")
    if view.others:
        parts.append(f"{counted(view.others, 'other model')} here: --model or --all")
    return [part for part in parts if part]


_MODES = {"probe": "the same at each step", "sample": "batches of the training"}


def _progress(run: Run) -> str:
    step = run.record.step if run.record and run.record.step is not None else run.step
    if step is None:
        return f"of {run.last_step:,} steps" if run.last_step is not None else ""
    if not run.last_step:
        return f"step {step:,}"
    return f"step {step:,} of {run.last_step:,} ({100 * min(1.0, step / run.last_step):.0f} %)"


def _age(seconds: float) -> str:
    return duration(round(seconds)) if seconds < 86_400 * 3 else f"{seconds / 86_400:.0f} days"


def _interesting(run: Run, room: int | None) -> list[int]:
    """The layers to show, ascending: all, or those that are not finite, massive, or have the largest ratios."""
    if room is None or run.layers <= room or not run.steps.size:
        return list(range(run.layers)) if run.steps.size else []
    marks = sum((counts > 0).astype(int) for counts in run.massive.values()) + 4 * ~run.finite[-1]
    order = np.lexsort((-np.nan_to_num(run.ratio[-1], nan=np.inf), -np.asarray(marks)))
    return sorted(int(layer) for layer in order[: max(1, room - 1)])


@dataclass(frozen=True)
class _Row:
    run: Run
    layer: int


def _layer_columns(run: Run, page: Page) -> list[Column]:
    steps = f"steps {run.steps[0]:,} to {run.steps[-1]:,}" if run.steps.size else ""
    columns = [
        Column(title="layer", cell=lambda row: str(row.layer), style=_layer_style),
        _line_column(steps, [run], page, lambda row: (run, run.ratio[:, row.layer], run.finite[:, row.layer])),
        Column(title="ratio", cell=lambda row: figure(run.ratio[-1, row.layer]), style=_layer_style),
    ]
    if len(run.steps) > 1:
        columns.append(Column(title="change", cell=lambda row: _change(run.ratio[-2:, row.layer]), goes=6))
    if run.positions is not None and run.features is not None:
        positions, features = run.positions, run.features
        where = Column(title="pos:feature", cell=lambda row: f"{positions[row.layer]}:{features[row.layer]}", goes=7)
        columns.append(where)
    ahead = run.outlook
    if ahead is not None:
        median = Column(title="end", cell=lambda row: figure(ahead.end[row.layer, 0]), goes=2)
        band = f"end ({100 * ahead.level:g} %)"
        columns += [
            Column(title=band, cell=lambda row: _band(ahead.end[row.layer]), goes=3, instead=median),
            Column(title="peak, plateau", cell=lambda row: _determined(ahead, row.layer), goes=8, left=True),
        ]
    massive = Column(title="massive", cell=lambda row: _massive(run, row.layer), goes=4, left=True, style=_layer_style)
    return [*columns, massive]


def _line_column(
    title: str, runs: Sequence[Run], page: Page, course: Callable[[Any], tuple[Run, np.ndarray, np.ndarray]]
) -> Column:
    """The column of sparklines. `course` gives the run of a row, its values by step, and which of them are finite."""

    def cell(row: Any, width: int) -> str:
        run, values, finite = course(row)
        axis = _axis(run)
        drawn = np.full(axis.size, np.nan)
        drawn[np.isin(axis, run.steps)] = np.where(finite, values, np.nan)
        return sparkline(drawn, ~np.isin(axis, run.steps), width, page.in_ascii)

    most = max(1, len(title), *(_axis(run).size for run in runs))
    return Column(
        title=title, cell=cell, left=True, style=lambda row: "cyan", least=_LEAST_LINE, most=min(_MOST_LINE, most)
    )


def _axis(run: Run) -> np.ndarray:
    """The steps of a sparkline: those measured, and those that failed."""
    return np.union1d(run.steps, np.array(list(run.failed), int))


def _layer_style(row: _Row) -> str:
    return {"yes": "bold red", "start": "yellow"}.get(_massive(row.run, row.layer).partition(" ")[0], "")


def _massive(run: Run, layer: int) -> str:
    """By which rule, and in how many of the sequences where those are not all."""
    for rule, said in (("published", "yes"), ("start", "start")):
        count = int(run.massive[rule][layer]) if rule in run.massive else 0
        if count:
            return said if count == run.sequences else f"{said} {count}/{run.sequences}"
    return ""


def _change(pair: np.ndarray) -> str:
    with np.errstate(all="ignore"):
        change = 100 * (pair[1] / pair[0] - 1)
    if not np.isfinite(change):
        return "-"
    return f"{change:+.0f} %" if abs(change) < 1000 else f"x{pair[1] / pair[0]:.0f}"


def figure(value: float) -> str:
    """A ratio in few characters.

    >>> [figure(v) for v in (0.01234, 18.25, 150.4, 2580, 25805, 3e7, float("nan"))]
    ['0.0123', '18.2', '150', '2,580', '25.8k', '3.0e+07', 'nan']
    """
    size = abs(value)
    if not np.isfinite(value):
        return "nan" if value != value else "inf"
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.1e}"
    if size >= 1e4:
        return f"{value / 1000:.3g}k" if size < 999_500 else f"{value:.1e}"
    return f"{value:,.0f}" if size >= 100 else f"{value:.3g}"


def _band(bounds: np.ndarray) -> str:
    if not np.isfinite(bounds[0]):
        return "-"
    median, lower, upper = (figure(float(bound)) for bound in bounds)
    return f"{median} ({lower}-{upper})"


def _determined(ahead: Outlook, layer: int) -> str:
    """The peak where the run is nearly sure to have one, else the plateau; nothing where its band is wider than it."""
    if ahead.peak_step is not None and ahead.peak_height is not None and ahead.peak_inside is not None:
        steps, heights = ahead.peak_step[layer], ahead.peak_height[layer]
        if ahead.peak_inside[layer] >= _SURE and _narrow(steps) and _narrow(heights):
            return f"peak {figure(heights[0])} at {figure(steps[0])}"
    if ahead.plateau is not None and _narrow(ahead.plateau[layer]):
        return f"plateau {_band(ahead.plateau[layer])}"
    return ""


def _narrow(bounds: np.ndarray) -> bool:
    return bool(np.isfinite(bounds).all() and bounds[2] - bounds[1] <= abs(bounds[0]))


def _legend(run: Run, page: Page) -> list[Text]:
    if not run.steps.size:
        return []
    said = ["ratio: top1 / median, a mean over the sequences, drawn from its least to its largest"]
    if run.outlook is not None:
        said.append(f"end: forecast for step {run.outlook.last_step:,}, with its band")
    if any(counts.any() for counts in run.massive.values()):
        said.append("massive: yes by the published rule, start: beyond what step 0 lets expect")
    return folded("; ".join(said), page, style="dim", most=None if page.height is None else 2)


# Many runs, a line each


def _run_columns(runs: Sequence[Run], page: Page) -> list[Column]:
    return [
        Column(title="model", cell=lambda run: run.model, left=True),
        Column(title="state", cell=lambda run: run.state or "", goes=6, left=True),
        Column(title="step", cell=lambda run: "-" if run.step is None else f"{run.step:,}"),
        Column(title="of", cell=lambda run: "" if run.last_step is None else f"{run.last_step:,}", goes=5),
        _line_column("largest ratio", runs, page, lambda run: (run, _largest(run), run.finite.all(axis=1))),
        Column(title="now", cell=lambda run: figure(float(_largest(run)[-1])) if run.steps.size else "-"),
        Column(title="in layer", cell=_largest_layer, goes=4),
        Column(title="massive", cell=_massive_layers, goes=3),
        Column(title="alerts", cell=lambda run: str(len(run.record.alerts) or "") if run.record else "", goes=2),
        Column(title="faults", cell=lambda run: str(len(run.faults) or ""), goes=7),
    ]


def _largest(run: Run) -> np.ndarray:
    """The largest ratio of the layers, by step; NaN where no layer has one."""
    found = np.max(run.ratio, axis=1, where=~np.isnan(run.ratio), initial=-np.inf)
    return np.where(np.isneginf(found), np.nan, found)


def _largest_layer(run: Run) -> str:
    return str(int(np.nanargmax(run.ratio[-1]))) if run.steps.size and not np.isnan(run.ratio[-1]).all() else "-"


def _massive_layers(run: Run) -> str:
    """In how many layers the largest value is massive, by either rule."""
    if not run.massive:
        return ""
    return str(int(np.sum(np.any([counts > 0 for counts in run.massive.values()], axis=0))) or "")


def _flow(parts: Sequence[str], page: Page, style: str = "") -> list[Text]:
    """Parts one after another, as many on a line as fit; a part that is too long for a line is folded. The first one
    has the style."""
    lines: list[str] = []
    for part in (page.shown(part) for part in parts):
        if lines and cell_len(lines[-1] + page.dot + part) <= page.width:
            lines[-1] += page.dot + part
        else:
            lines += fold(part, page.width)
    found = [Text(line, no_wrap=True, end="") for line in lines]
    first = page.shown(parts[0])
    for line in found[:1]:
        line.stylize(style, 0, len(first))
    for line in found:
        line.highlight_regex(r"UNUSUALLY LONG", "bold yellow")
    return found


def _fault_lines(view: View, page: Page) -> list[Text]:
    faults = view.all_faults
    shown = faults if page.height is None else faults[:_MOST_FAULTS]
    most, here = (None if page.height is None else 2), f"{view.dataset.rstrip('/')}/"
    said = [page.shown(f"wrong: {fault.replace(here, '')}") for fault in shown]
    lines = [line for fault in said for line in folded(fault, page, "red", "  ", most)]
    if len(shown) < len(faults):
        lines.append(Text(page.cut(f"... and {len(faults) - len(shown)} more that is wrong"), style="red"))
    return lines


def _alert_lines(run: Run, page: Page) -> list[Text]:
    """The alerts, the latest last."""
    alerts = list(run.record.alerts) if run.record else []
    shown = alerts if page.height is None else alerts[-_MOST_ALERTS:]
    lines = []
    if len(shown) < len(alerts):
        lines.append(Text(page.cut(f"{len(alerts) - len(shown)} earlier alerts"), style="yellow"))
    for alert in shown:
        said = f"{_clock(alert.time)} step {alert.step:,} {alert.kind.replace('_', ' ')}: {alert.message}"
        style = "bold red" if alert.kind in ("non_finite", "overflow") else "yellow"
        lines += folded(page.shown(said), page, style, "  ", None if page.height is None else 2)
    return lines


def _clock(text: str) -> str:
    """When an alert was given, in UTC, without the year."""
    when = time_of(text)
    return text if when is None else datetime.fromtimestamp(when, UTC).strftime("%m-%d %H:%M")
