"""What objects look like in a notebook: a small table under what they say of themselves, and the obvious picture.

The table is pandas' own HTML, every text in it escaped, and without a colour, so that it takes those of the notebook,
light or dark. The pictures are the ones of `figures`, which the rooms above it know nothing of: `figures.obvious`
enters a function for a kind of object with `pictures`, and the package's `__init__`, which knows every room, says with
`look_in` where they are found when the first one is asked for.
"""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from madyn.errors import MadynError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_ROWS = 20

F = TypeVar("F", bound=Callable[..., Any])

_PICTURES: dict[str, Callable[..., Figure]] = {}
_MODULES: list[str] = []


def look_in(module: str) -> None:
    """Say which module enters pictures; it is imported when the first one is asked for."""
    _MODULES.append(module)


def pictures(kind: str) -> Callable[[F], F]:
    """Enter a function of an object, and of options, as what draws all objects of this class."""

    def enter(function: F) -> F:
        _PICTURES[kind] = function
        return function

    return enter


class Shown:
    """An object that shows itself: `repr` in words, a table in a notebook, and `plot()`."""

    @abstractmethod
    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        """The first rows of its table, at least `most` where there are as many, and how many there are in all."""

    def _repr_html_(self) -> str:
        said = repr(self).removeprefix("<madyn ").removesuffix(">")
        try:
            table, count = self._shown(MOST_ROWS)
        except (MadynError, OSError) as e:  # a prompt shows what there is, and does not raise
            return to_html(said, None, 0, str(e))
        return to_html(said, table, count)

    def _drawn(self, **options: Any) -> Figure:
        for module in _MODULES:
            import_module(module)
        name = type(self).__name__
        if name not in _PICTURES:
            raise UsageError(f"there is no picture of a {name}")
        return _PICTURES[name](self, **options)


def to_html(said: str, table: pd.DataFrame | None, count: int, note: str = "") -> str:
    """HTML of an object.

    Args:
        said: what it says of itself, its first line the heading.
        table: its first rows, of which `MOST_ROWS` are shown; None for none.
        count: how many rows there are.
        note: stands below.
    """
    heading, *lines = (html.escape(line.strip()) for line in said.split("\n"))
    parts = [f"<p>{'<br>'.join([f'<strong>{heading}</strong>', *lines])}</p>"]
    if table is not None and len(table.columns):
        parts.append(f'<div style="overflow-x: auto">{_table(table.head(MOST_ROWS))}</div>')
        if count > MOST_ROWS:
            parts.append(f"<p>... and {count - MOST_ROWS:,} more rows</p>")
    if note:
        parts.append(f"<p>{html.escape(note)}</p>")
    # Names may hold $, which a notebook would set as mathematics.
    return f'<div class="madyn tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'


def _table(table: pd.DataFrame) -> str:
    from madyn.terminal import cell_text

    texts = table.astype(object).map(lambda value: cell_text(_plain(value)))
    texts.columns = [str(name) for name in texts.columns]
    # Notebooks set cells to the right, other pages to the left, and pandas the headings to the right.
    return texts.to_html(index=False, escape=True, border=0).replace("<table", '<table style="text-align: right"', 1)


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, what is missing as None, and what is none of a table's kinds as its text."""
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
