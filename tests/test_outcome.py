import numpy as np
import pytest
import xarray as xr

from madyn.figures.outcome import predicted_and_measured


@pytest.mark.parametrize("layers", [1, 4, 7])
def test_a_panel_a_layer_with_both_curves(layers):
    steps = [0, 1, 10, 100]
    measured = xr.DataArray(
        np.linspace(2, 9, 4 * layers).reshape(4, layers), {"step": steps, "layer": range(layers)}, ("step", "layer")
    )
    figure = predicted_and_measured(measured.T * 1.1, measured, title="m")
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert len(panels) == layers
    for layer, ax in enumerate(panels):
        points, curve = ax.get_lines()
        assert np.allclose(np.asarray(points.get_ydata()) * 1.1, curve.get_ydata())
        assert np.allclose(points.get_ydata(), measured.sel(layer=layer))
        assert ax.get_xlabel()
        assert ax.get_ylabel()
