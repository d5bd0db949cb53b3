"""Folds side by side, each in a process of its own: trees and small matrices leave cores idle, whole folds do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def in_processes(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], jobs: int | None) -> Iterator[T]:
    """What a function of a module gives for each task's arguments, in the order of the tasks, as it is done.

    Args:
        jobs: processes; as many as there are cores by default.
    """
    from joblib import Parallel, delayed

    # A list, a generator or None by joblib's annotations: it depends on `return_as`.
    parallel: Any = Parallel(n_jobs=jobs or -1, return_as="generator")
    yield from parallel(delayed(function)(*task) for task in tasks)
