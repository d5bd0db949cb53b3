"""What the tab "Watch" shows: a dataset that a monitor is writing, as `madyn watch` sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.monitor.following import Run
from madyn.monitor.watching import Watcher
from madyn.report import charts, words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Watch:
    """Looks at a dataset again and again, with forecasts. One for each page that is open.

    Args:
        last_step: of the run, as planned; by default what its monitor says.
    """

    def __init__(self, dataset: str, last_step: int | None = None) -> None:
        self._watcher = Watcher(dataset, last_step=last_step)

    def look(self) -> tuple[Figure | None, str]:
        """The ratio of every layer of the newest run, with the forecast of the end, and words.

        Raises:
            MadynError: the dataset cannot be looked at.
        """
        view = self._watcher.look()
        if self._watcher.needs_forecast():
            view = self._watcher.forecast()
        faults = [f"⚠ {fault}" for fault in view.all_faults]
        if not view.runs:
            return None, "\n\n".join([view.waiting or "nothing to show yet", *faults])
        run = view.runs[0]
        return charts.run_so_far(run.steps, run.ratio, run.last_step, run.outlook), "\n\n".join([_said(run), *faults])


def _said(run: Run) -> str:
    largest = int(run.ratio[-1].argmax()) if run.steps.size else None
    said = f"**{run.model}**: " + (f"step {run.step:,}" if run.step is not None else "nothing measured yet")
    said += f" of {run.last_step:,}" if run.last_step else ""
    said += f", {run.state}" if run.state else ""
    lines = [said]
    if largest is not None:
        lines.append(f"The largest ratio is {words(float(run.ratio[-1, largest]))}, in layer {largest}.")
    if run.outlook is not None and largest is not None:
        middle, low, high = run.outlook.end[largest]
        lines.append(
            f"At the end it will be {words(middle)} ({words(low)} to {words(high)}) with a probability of "
            f"{100 * run.outlook.level:.0f} %."
        )
    elif run.no_outlook:
        lines.append(f"{run.no_outlook[:1].upper()}{run.no_outlook[1:]}.")
    alerts = run.record.alerts if run.record else []
    lines += [f"⚠ step {alert.step:,}: {alert.message}" for alert in list(alerts)[-5:]]
    return "\n\n".join(lines)
