"""What a massive activation does: where it stands, what happens without it, what writes it and what attends to it.

The public names are those in `__init__.pyi`, loaded when they are first used.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
