"""How a picture is entered in the list: for each, its file's name, what it is drawn for, and where its data comes from.

A picture is added by decorating its function with `@picture(...)`. The function itself stays free of datasets and
files: it takes arrays and tables and returns a Figure, so that it serves for data from anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
from matplotlib.figure import Figure

from madyn.figures.source import Case, Source
from madyn.figures.style import RC

P = ParamSpec("P")


@dataclass(frozen=True)
class Picture:
    """One entry of the list.

    Attributes:
        path: of its files inside the dataset, with the names of the case in braces.
        draw: the figure function.
        cases: what of a dataset to draw it for; nothing, where a command draws it of what it has just computed.
        data: (source, **case) -> the arguments of `draw`. A `MadynError` means that the picture cannot be drawn yet.
        derive: where `draw` needs what is costly to make: (source, **case) -> the arguments of `draw`. `data` then
            gives what they depend on, by which an unchanged picture is known.
    """

    path: str
    draw: Callable[..., Figure]
    cases: Callable[[Source], Iterable[Case]]
    data: Callable[..., dict[str, Any]]
    derive: Callable[..., dict[str, Any]] | None = None


ENTERED: dict[str, Picture] = {}
"""Pictures by their path patterns, filled as modules are imported; `registry.PICTURES` has them all."""


def on_request(_: Source) -> list[Case]:
    """No part of a dataset: the picture is of what a command has just computed, and drawn by it."""
    return []


def as_given(_: Source, **case: Any) -> dict[str, Any]:
    return case


def picture(
    path: str,
    *,
    cases: Callable[[Source], Iterable[Case]] = on_request,
    data: Callable[..., dict[str, Any]] = as_given,
    derive: Callable[..., dict[str, Any]] | None = None,
) -> Callable[[Callable[P, Figure]], Callable[P, Figure]]:
    """Enter a figure function in the list, and have it run with the settings of the house. See `Picture`."""

    def enter(function: Callable[P, Figure]) -> Callable[P, Figure]:
        @functools.wraps(function)
        def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
            with matplotlib.rc_context(RC):
                return function(*args, **kwargs)

        if path in ENTERED:
            raise ValueError(f"{path} is entered twice, by {ENTERED[path].draw.__module__} and {function.__module__}")
        ENTERED[path] = Picture(path, styled, cases, data, derive)
        return styled

    return enter
