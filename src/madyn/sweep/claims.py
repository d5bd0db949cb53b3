"""Who measures a unit, where several processes measure into one dataset.

On a file system a unit is claimed with an advisory lock, which the operating system gives up when its holder dies,
however it dies. An object store has no locks: there two machines may measure the same unit at the same time, and the
first to create its statistics object wins (see `dataset.files`). A cluster's shares of the work do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from madyn.dataset import layout
from madyn.dataset.files import is_local
from madyn.dataset.locking import hold


@contextmanager
def claim(root: Path, model: str, step: int, *, wait: bool = False) -> Iterator[bool]:
    """Hold the claim on a unit while the block runs; gives whether it was to be had.

    Whoever gets it must look again whether the unit has been measured in the meantime.

    Args:
        wait: until whoever holds it has finished or died.

    Raises:
        StorageError: the dataset cannot be written.
    """
    if not is_local(root):
        yield True
        return
    with hold(layout.inside(root, layout.lock_path(root, model, step)), -1.0 if wait else 0.0, remove=True) as mine:
        yield mine
