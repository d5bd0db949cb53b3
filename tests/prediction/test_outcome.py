import numpy as np
import pytest
import xarray as xr

from madyn.figures.pictures.outcome import predicted_and_measured
from madyn.figures.steps import curve_steps


def predicted(measured):
    quantiles = xr.DataArray([1.0, 1.1, 1.3], {"quantile": [0.05, 0.5, 0.95]}, ("quantile",))
    return (measured * quantiles).transpose("layer", "step", "quantile")


@pytest.mark.parametrize("layers", [1, 4, 7, 13])
def test_a_panel_a_layer_with_both_curves(layers):
    steps = [0, 1, 10, 100]
    measured = xr.DataArray(
        np.linspace(2, 9, 4 * layers).reshape(4, layers), {"step": steps, "layer": range(layers)}, ("step", "layer")
    )
    figure = predicted_and_measured(predicted(measured), measured, title="m")
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert len(panels) == layers
    for layer, ax in enumerate(panels):
        points, curve = ax.get_lines()
        (band,) = ax.collections
        inside = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert inside.max() == pytest.approx(1.3 * float(measured.sel(layer=layer).max()))
        assert np.allclose(np.asarray(points.get_ydata()) * 1.1, curve.get_ydata())
        assert np.allclose(points.get_ydata(), measured.sel(layer=layer))
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_several_runs_have_marks_of_their_own():
    one = xr.DataArray(np.full((3, 2), 5.0), {"step": [0, 1, 10], "layer": [0, 1]}, ("step", "layer"))
    figure = predicted_and_measured(predicted(one), xr.concat([one, one * 1.5], "run"))
    for ax in figure.axes:
        first, second, _ = ax.get_lines()
        assert first.get_marker() != second.get_marker()
        assert len({line.get_color() for line in ax.get_lines()}) == 3
        assert np.allclose(np.asarray(first.get_ydata()) * 1.5, second.get_ydata())
    assert [t.get_text() for t in figure.legends[0].get_texts()][:2] == ["run 1", "run 2"]


def test_the_curve_may_be_sampled_more_densely_than_was_measured():
    steps = [0, 1000, 2000, 5000]
    measured = xr.DataArray(np.ones((4, 2)), {"step": steps, "layer": [0, 1]}, ("step", "layer"))
    dense = xr.DataArray(
        np.ones((2, len(curve_steps(steps)))), {"layer": [0, 1], "step": curve_steps(steps)}, ("layer", "step")
    )
    (points, curve) = predicted_and_measured(predicted(dense), measured).axes[0].get_lines()
    assert np.asarray(points.get_xdata()).tolist() == steps
    assert np.size(curve.get_xdata()) > 600
