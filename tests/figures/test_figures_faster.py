"""Pictures drawn in less time have the pixels that matplotlib gives them, and their files what PNG asks for."""

import io

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from PIL import Image

from madyn.figures import style
from madyn.figures.pictures import layers, trajectories
from madyn.figures.png import png
from madyn.figures.steps import step_axis
from madyn.suites import PYTHIA

STEPS = np.array(PYTHIA.grids["paper"])


def statistics() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 1, (len(STEPS), 3, 4, 5)).cumsum(0) / 3)
    values = np.sort(values, axis=2)[:, :, ::-1]
    coords = {"step": STEPS, "quantity": ["top1", "top2", "top3", "median"], "layer": np.arange(5)}
    return xr.DataArray(values, dims=("step", "sequence", "quantity", "layer"), coords=coords, name="|h|")


def many_axes() -> Figure:
    """Every kind of axis: steps, magnitudes both ways, R2, a colour bar, ticks on the right, one hidden."""
    fig, axes = style.new_figure(7, 5, 2, 3, margins=(0.7, 0.9, 0.5, 0.3))
    for ax in axes.flat:
        ax.plot(STEPS, 1 + STEPS % 97)
        style.panel_title(ax, "title")
    step_axis(axes[0, 0].xaxis, STEPS)
    style.value_axis(axes[0, 1].yaxis, (0.0013, 97000.0))
    style.value_axis(axes[0, 1].xaxis, (1.3, 1e5))
    style.r_squared_scale(axes[0, 2], [0.2, 0.99995])
    style.value_axis(axes[1, 0].yaxis, (10, 100))  # the ends are ticks
    axes[1, 0].yaxis.tick_right()
    axes[1, 1].set_visible(False)
    style.layer_bar(fig, axes.flat, 12)
    return fig


FIGURES = {
    "many axes": many_axes,
    "shared axes": lambda: trajectories.ratio_by_layer(statistics(), "m"),
    "four panels": lambda: trajectories.magnitudes(statistics(), "m"),
    "one step": lambda: layers.layer_profile(statistics(), int(STEPS[3])),
}


def pixels(figure: Figure, dpi: int) -> np.ndarray:
    """As matplotlib draws it."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@pytest.mark.parametrize("dpi", [100, 300])
@pytest.mark.parametrize("name", FIGURES)
def test_a_file_has_the_pixels_that_matplotlib_draws(name, dpi):
    figure = FIGURES[name]()
    small = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) if len(axis.get_minorticklocs()) > 3]
    assert any(isinstance(axis.get_minor_locator(), FixedLocator) for axis in small)
    expected = pixels(FIGURES[name](), dpi)
    drawn = Image.open(io.BytesIO(png(figure, dpi, "ab" * 32)))
    assert drawn.mode == "RGB"
    assert np.array_equal(np.asarray(drawn), expected)


def test_a_file_says_its_size_and_what_it_was_drawn_from():
    drawn = Image.open(io.BytesIO(png(FIGURES["one step"](), 300, "ab" * 32)))
    drawn.load()
    assert drawn.info == {"Software": "madyn", "madyn-inputs": "ab" * 32, "dpi": pytest.approx((300, 300), abs=0.01)}


@pytest.mark.parametrize("size", [1.0, 1e-7, 3e8])
def test_a_title_makes_way_for_a_power_of_ten_alone(size):
    figures = []
    for title in (style.panel_title, lambda ax, text: ax.set_title(text, loc="left")):
        fig, axes = style.new_figure(4, 3)
        axes[0, 0].plot(size * np.array([1.0, 2.0, 5.0]))
        title(axes[0, 0], "a title")
        figures.append(pixels(fig, 100))
    assert np.array_equal(*figures)
