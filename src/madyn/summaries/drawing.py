"""What `madyn figures` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madyn.terminal import console

if TYPE_CHECKING:
    from madyn.figures.draw import Drawing


def print_drawing(drawing: Drawing) -> None:
    console.print(f"{len(drawing.drawn)} figures drawn, {len(drawing.unchanged)} unchanged")
    for name, reason in {**drawing.left_out, **drawing.failed}.items():
        console.print(f"not drawn: {name}: {reason}")
