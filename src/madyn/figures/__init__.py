"""Static pictures: one function a picture, each from data alone, and `draw_figures`, which draws a dataset's."""

from madyn.figures.draw import Drawing, draw_figures

__all__ = ["Drawing", "draw_figures"]
