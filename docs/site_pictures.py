"""Pictures of pages whose code is run when the site is built: a figure is part of its page, and no file lies about."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline(figure: Figure, says: str) -> str:
    """An image of a page, for `print` in a block that is run with `html="1"`.

    Args:
        says: what it shows, for those who cannot see it.
    """
    from PIL import Image

    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=200)
    width = round(figure.get_figwidth() * 100)
    Image.open(drawn).convert("RGB").quantize(64).save(packed, format="png", optimize=True)
    data = base64.b64encode(packed.getvalue()).decode()
    return f'<img alt="{html.escape(says)}" width="{width}" src="data:image/png;base64,{data}">'
