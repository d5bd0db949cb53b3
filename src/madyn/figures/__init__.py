"""Static pictures: one function a picture, each from data alone, and `draw.draw_figures`, which draws a dataset's."""
