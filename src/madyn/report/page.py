"""The page itself: parts put into one HTML file that needs nothing else, from a mail attachment as from a server.

plotly's script is compressed inside the page and unpacked by the browser (which every one since 2023 can), as are the
pictures' data; a picture is drawn when it comes into view. Whatever comes from a dataset is escaped by Jinja, or lies
in the compressed data, which no browser takes for markup. The page asks nothing of any other host, and its content
security policy says so.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from madyn import __version__
from madyn.dataset.files import write_text
from madyn.errors import missing_dependency
from madyn.report.contents import Part

_ASSETS = "assets"
_CODE = re.compile("`([^`]+)`")


def write_report(parts: Sequence[Part], out: Path, title: str) -> int:
    """Write a report, and return its size in bytes.

    Raises:
        MissingDependencyError: plotly or Jinja is not installed.
        StorageError: the file cannot be written.
    """
    page = render(parts, title)
    write_text(out, page)
    return len(page.encode())


def render(parts: Sequence[Part], title: str) -> str:
    """The page as text."""
    try:
        from jinja2 import Environment
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    folder = files("madyn.report") / _ASSETS
    sources = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = marked
    template = environment.from_string(sources["page.html"])
    charts = {
        f"{part.key}:{name}": json.loads(str(one.to_json())) for part in parts for name, one in part.charts.items()
    }
    return template.render(
        title=title,
        parts=parts,
        version=__version__,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        style=sources["page.css"],
        script=sources["page.js"],
        plotly=_packed(_plotly()),
        charts=_packed(json.dumps(charts, separators=(",", ":"), allow_nan=False)),
        cell=cell,
        is_number=is_number,
    )


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _packed(text: str) -> str:
    """Compressed, and in characters that mean nothing in a page. The same text gives the same characters."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def marked(text: str) -> Any:
    """A sentence as markup: what stands between backticks is code, and all of it is escaped.

    >>> str(marked("see `madyn fit` <b>"))
    'see <code>madyn fit</code> &lt;b&gt;'
    """
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def cell(value: Any) -> str:
    """A cell of a table as people read it.

    >>> [cell(v) for v in (None, 1234567, 0.000123456, 31.25, 5.0, "yes")]
    ['-', '1,234,567', '0.0001235', '31.25', '5', 'yes']
    """
    if value is None or value != value:
        return "-"
    if isinstance(value, int) or not is_number(value):
        return f"{value:,}" if is_number(value) else str(value)
    return f"{value:,.4g}" if abs(value) < 1e4 or abs(value) >= 1e15 else f"{value:,.0f}"
