"""The kinds of checkpoint that there are: each module of this folder that has a `SOURCE` adds its own."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from madyn.checkpoints import sources
from madyn.checkpoints.sources.protocol import Source


@cache
def kinds() -> tuple[Source, ...]:
    """Every kind that a name can mean, in the order of the modules' names."""
    modules = pkgutil.iter_modules(sources.__path__, f"{sources.__name__}.")
    found = [getattr(import_module(module.name), "SOURCE", None) for module in modules if module.name != __name__]
    return tuple(source for source in found if source is not None)


def kind_of(model: str | Path) -> Source | None:
    """The kind of checkpoint that a name means; None where it means none."""
    return next((source for source in sorted(kinds(), key=lambda source: source.last) if source.takes(model)), None)


def describe_kinds() -> str:
    """What a model may be: "a folder, a .gguf file, or a name of the Hub"."""
    *others, last = (source.words for source in kinds())
    return f"{', '.join(others)}, or {last}"
