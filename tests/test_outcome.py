import numpy as np
import pytest
import xarray as xr

from madyn.figures.outcome import predicted_and_measured


def predicted(measured):
    quantiles = xr.DataArray([1.0, 1.1, 1.3], {"quantile": [0.05, 0.5, 0.95]}, ("quantile",))
    return (measured * quantiles).transpose("layer", "step", "quantile")


@pytest.mark.parametrize("layers", [1, 4, 7])
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
        assert np.allclose(np.asarray(first.get_ydata()) * 1.5, second.get_ydata())
