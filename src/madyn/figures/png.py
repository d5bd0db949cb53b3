"""Figures as files: PNG with a hash of what it was drawn from, and single figures in any format."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.dataset.files import write_bytes
from madyn.errors import UsageError
from madyn.figures.faster import merge_small_ticks
from madyn.regular import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_KEY = "madyn-inputs"  # the text entry of a PNG that holds the hash
_COMPRESSION = 4  # of 9: 3 takes half the time for a quarter more bytes, 6 a third more for 2 % less
_INCH = 0.0254  # metres


def png(figure: Figure, dpi: int, inputs: str) -> bytes:
    """A figure as PNG, without the transparency that `savefig` keeps. The figure is not to be drawn again."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    merge_small_ticks(figure)
    with _letters_lacking():
        canvas.draw()
    return _encoded(np.asarray(canvas.buffer_rgba()), dpi, {"Software": "madyn", _KEY: inputs})


def _encoded(pixels: NDArray[np.uint8], dpi: int, texts: Mapping[str, str]) -> bytes:
    """The PNG file of pixels (rows, columns, 4), their transparency left out.

    Rows are compressed as they are: to try PNG's five filters on each, as Pillow does, takes longer than all else and
    gains nothing on lines on white paper.
    """
    from PIL import Image

    rows, columns, _ = pixels.shape
    colours = np.asarray(Image.fromarray(pixels).convert("RGB")).reshape(rows, 3 * columns)
    lines = np.zeros((rows, 1 + 3 * columns), np.uint8)  # the first byte of a row says that it has no filter
    lines[:, 1:] = colours
    metre = round(dpi / _INCH)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)),
        *((b"tEXt", f"{name}\0{text}".encode("latin-1")) for name, text in texts.items()),
        (b"pHYs", struct.pack(">IIB", metre, metre, 1)),
        (b"IDAT", zlib.compress(lines.data, _COMPRESSION)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


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
