"""Plotly figures, each from data alone: what the report shows, and the explorer.

A chart takes labelled arrays or tables and returns a `plotly.graph_objects.Figure`; it knows no dataset. Colours of
text and grid are left to the page, which has a light and a dark theme; colours of data are those of the static figures
(told apart with every common form of colour blindness). Steps stand where the static figures have them: linear up to
the first step after 0, logarithmic from there.
"""

from madyn.report.charts.base import QUANTITY_TITLES, EvenScale, LogScale, fine_steps, new_chart, short, step_axis
from madyn.report.charts.maps import PEAK_MAPS, by_layer, heat_map, hypotheses, peak_map, predicted_against_measured
from madyn.report.charts.over_steps import (
    own_fit,
    predicted,
    run_so_far,
    shares_over_steps,
    side_by_side,
    trajectories,
)

__all__ = [
    "PEAK_MAPS",
    "QUANTITY_TITLES",
    "EvenScale",
    "LogScale",
    "by_layer",
    "fine_steps",
    "heat_map",
    "hypotheses",
    "new_chart",
    "own_fit",
    "peak_map",
    "predicted",
    "predicted_against_measured",
    "run_so_far",
    "shares_over_steps",
    "short",
    "side_by_side",
    "step_axis",
    "trajectories",
]
