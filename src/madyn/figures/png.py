"""Figures as files: PNG with a hash of what it was drawn from, and single figures in any format."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.dataset.files import write_bytes
from madyn.errors import UsageError
from madyn.regular import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

_KEY = "madyn-inputs"  # the text entry of a PNG that holds the hash
_COMPRESSION = 4  # of 9: larger numbers cost twice the time for a tenth of the bytes


def png(figure: Figure, dpi: int, inputs: str) -> bytes:
    """A figure as PNG. Without the transparency that `savefig` keeps, it takes a quarter less time to compress."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with _letters_lacking():
        canvas.draw()
    text, file = PngInfo(), io.BytesIO()
    text.add_text("Software", "madyn")
    text.add_text(_KEY, inputs)
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(file, format="png", dpi=(dpi, dpi), pnginfo=text, compress_level=_COMPRESSION)
    return file.getvalue()


@contextmanager
def _letters_lacking() -> Iterator[None]:
    """Names are of any script, and a font is not: what it lacks is drawn as a box, and not told of once a letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def save_figure(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write one figure to a file, in the format that its ending names (png, pdf, svg), whole or not at all.

    Raises:
        UsageError: matplotlib does not know the ending.
        StorageError: the file cannot be written.
    """
    file = io.BytesIO()
    try:
        with _letters_lacking():
            figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=dpi)
    except ValueError as e:
        raise UsageError(f"{path}: {e}") from e
    write_bytes(path, file.getvalue())


def inputs_of(path: Path) -> str | None:
    """The hash that a picture was drawn with, None if there is no such picture or it is not one of ours."""
    from PIL import Image

    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # no picture of ours is so large
            found = Image.open(file, formats=["PNG"]).info.get(_KEY)
            return found if isinstance(found, str) else None
    except Exception:  # a file that only looks like a picture can make Pillow raise anything
        return None
