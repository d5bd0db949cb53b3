"""Curves of a trajectory: hypotheses, fits, posteriors and what is read off a curve. Knows numbers, and no datasets.

The public names are those in `__init__.pyi`, loaded when they are first used.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
