"""Text for a width: a table whose columns go, the least telling first, where there is no room; paragraphs that fold.

Nothing is wider than the page, in the cells that letters of any script take, and nothing in a text that came out of a
file is taken for a style.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from madyn.streams import visible

_GAP = 2


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is drawn on: a width, a height (None where lines may be as many as they want), and whether in ASCII."""

    width: int
    height: int | None = None
    in_ascii: bool = False

    def shown(self, text: object) -> str:
        """Text out of a file as this page can show it: on one line, and nothing that a terminal obeys."""
        said = visible(" ".join(str(text).split()))
        return said.encode("ascii", "backslashreplace").decode() if self.in_ascii else said

    def cut(self, text: str) -> str:
        if cell_len(text) <= self.width:
            return text
        end = "..." if self.in_ascii else "…"
        return set_cell_size(text, max(0, self.width - cell_len(end))).rstrip() + end

    @property
    def dot(self) -> str:
        return " | " if self.in_ascii else " · "


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        title: what stands above it.
        cell: what a row says in it.
        goes: how soon it goes where there is no room, the largest number first; 0 for one that stays.
        instead: the one that then stands in its place.
        left: whether it is set to the left.
        style: of a row's cell.
        least, most: for the column that takes the room that is left, its width; its cells are then made for that
            width, `cell(row, width)`.
    """

    title: str
    cell: Callable[..., str]
    goes: int = 0
    instead: Column | None = None
    left: bool = False
    style: Callable[[Any], str] = lambda row: ""
    least: int = 0
    most: int = 0


def fit_table(rows: Sequence[Any], columns: Sequence[Column], page: Page) -> list[Text]:
    """Rows below a line of titles, none wider than the page. One column takes the room that is left. A column in which
    no row says anything is left out."""
    if not rows:
        return []
    kept = [column for column in columns if column.most or any(column.cell(row) for row in rows)]
    while _room(rows, kept, page) < next(column.least for column in kept if column.most):
        gone = max(kept, key=lambda column: column.goes)
        if not gone.goes:
            break
        kept[kept.index(gone) : kept.index(gone) + 1] = [gone.instead] if gone.instead else []
    room = _room(rows, kept, page)
    widths = [max(0, min(column.most, room)) if column.most else _width(rows, column, page) for column in kept]
    cells = [
        [page.shown(column.cell(row, width) if column.most else column.cell(row)) for row in rows]
        for column, width in zip(kept, widths, strict=True)
    ]
    titles = [
        column.title if not column.most or cell_len(column.title) <= width else column.title.split(" ")[0]
        for column, width in zip(kept, widths, strict=True)
    ]
    lines = [_line(titles, kept, widths, ["dim"] * len(kept), page)]
    for number, row in enumerate(rows):
        said = [own[number] for own in cells]
        lines.append(_line(said, kept, widths, [column.style(row) for column in kept], page))
    return lines


def _width(rows: Sequence[Any], column: Column, page: Page) -> int:
    return max(cell_len(column.title), *(cell_len(page.shown(column.cell(row))) for row in rows))


def _room(rows: Sequence[Any], columns: Sequence[Column], page: Page) -> int:
    """What is left for the column that takes it."""
    others = [_width(rows, column, page) for column in columns if not column.most]
    return page.width - sum(others) - _GAP * (len(columns) - 1)


def _line(
    said: Sequence[str], columns: Sequence[Column], widths: Sequence[int], styles: Sequence[str], page: Page
) -> Text:
    text, left = Text(no_wrap=True, end=""), page.width
    for number, (cell, column, style) in enumerate(zip(said, columns, styles, strict=True)):
        width = max(0, min(widths[number], left))
        cell = set_cell_size(cell, width) if cell_len(cell) > width else cell
        pad = " " * (width - cell_len(cell))
        text.append(cell + pad if column.left else pad + cell, style or None)
        left -= width
        if number + 1 < len(columns) and left > _GAP:
            text.append(" " * _GAP)
            left -= _GAP
    text.rstrip()
    return text


def folded(said: str, page: Page, style: str = "", indent: str = "", most: int | None = None) -> list[Text]:
    """A paragraph on as many lines as it takes; with `most`, the last of them is cut."""
    lines = fold(said, page.width - len(indent))
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    lines = [page.cut((indent if number else "") + line) for number, line in enumerate(lines)]
    return [Text(line, style=style, no_wrap=True, end="") for line in lines]


def fold(said: str, width: int) -> list[str]:
    """Text on lines no wider than this, folded between words where words are no longer."""
    lines, line = [], ""
    for word in said.split():
        while cell_len(word) > width:  # a path, say
            if line:
                lines.append(line)
                line = ""
            head = set_cell_size(word, max(1, width)).rstrip() or word[:1]
            lines.append(head)
            word = word[len(head) :]
        joined = f"{line} {word}" if line else word
        if cell_len(joined) > width:
            lines.append(line)
            line = word
        else:
            line = joined
    return [*lines, line] if line or not lines else lines
