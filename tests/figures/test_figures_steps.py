"""Curves over training steps: sampled as the axis is drawn, without a corner, whatever the first step is."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_figures import SHORT, STEPS

from madyn.curves.hypotheses.reparam import reparam as reparam_values
from madyn.figures.panels import panel_grid
from madyn.figures.steps import StepScale, curve_steps, step_axis

GRIDS = {
    "paper": STEPS,
    "short": SHORT,
    "first at 1000": np.array([0, 1000, 2000, 5000, 20_000, 143_000]),
    "no step 0": np.array([1000, 2000, 5000, 20_000, 143_000]),
    "evenly": np.arange(0, 20_001, 1000),
    "two": np.array([0, 1000]),
}


def on_axis(steps: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Where matplotlib draws these steps, as shares of the axis."""
    ax = Figure().subplots()
    step_axis(ax.xaxis, steps)
    places = ax.transData.transform(np.column_stack([given, np.zeros(len(given))]))
    return ax.transAxes.inverted().transform(places)[:, 0]


@pytest.mark.parametrize("steps", GRIDS.values(), ids=GRIDS)
def test_curves_are_sampled_evenly_over_the_whole_axis_as_it_is_drawn(steps: np.ndarray) -> None:
    sampled = curve_steps(steps)
    assert sampled[0] == steps[0]
    assert sampled[-1] == steps[-1]
    assert set(steps) <= set(sampled)
    assert np.diff(on_axis(steps, sampled)).max() < 1 / 500


@pytest.mark.parametrize("steps", [steps for steps in GRIDS.values() if len(steps) > 2])
def test_a_smooth_curve_is_drawn_without_a_corner(steps: np.ndarray) -> None:
    """Of a curve that rises, peaks and falls, no two pieces that meet differ in direction by more than 4 degrees."""
    sampled = curve_steps(steps)
    last = steps[-1]
    for tau0 in (last / 2000, last / 50):
        y = reparam_values(sampled, 3 / last, tau0, 5.0, 1.0, 20.0)
        x = on_axis(steps, sampled)
        slope = np.diff(y / np.ptp(y)) / np.diff(x)
        wide = np.diff(x) > 1e-6  # a step beside a sample makes a piece too short for its direction to be exact
        direction = np.degrees(np.arctan(slope[wide]))
        assert np.abs(np.diff(direction)).max() < 4


def test_the_axis_has_one_slope_on_both_sides_of_the_first_step() -> None:
    scale = StepScale([0, 1000, 2000, 100_000])
    before, at, after = scale.place([999, 1000, 1001])
    assert at - before == pytest.approx(after - at, rel=1e-3)
    assert scale.step(scale.place([0, 500, 7000])) == pytest.approx([0, 500, 7000])


@pytest.mark.parametrize("most", [3, 4, 6])
def test_no_panel_stands_alone_and_few_places_are_empty(most: int) -> None:
    for count in range(1, 61):
        rows, columns = panel_grid(count, most)
        assert (rows - 1) * columns < count <= rows * columns
        assert columns <= most + 2
        assert columns == min(count, most) or count % most == 1
        if rows > 1:
            assert count - (rows - 1) * columns > 1, (count, rows, columns)
