"""The list of all pictures: every module of `pictures` is imported, and has then entered its own.

A new picture is one new file there with a function under `@picture(...)`, and nothing elsewhere.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from madyn.figures import pictures
from madyn.figures.entries import ENTERED, Picture


def _found() -> dict[str, Picture]:
    for module in pkgutil.iter_modules(pictures.__path__, f"{pictures.__name__}."):
        import_module(module.name)
    return ENTERED


PICTURES: dict[str, Picture] = _found()
"""Every picture by its path pattern."""
