"""Processes of this machine that work for this one: one way to start them, and to end them.

The standard library's pool hands out the calls. What it lacks is an end: its workers outlive a parent that is killed,
and go on writing; a Ctrl-C of the terminal reaches them too, in the middle of their work; and a parent that is
interrupted waits for them for as long as their calls take. Here a worker ends with its parent, however that dies
(Linux tells it; elsewhere it watches the parent), leaves Ctrl-C to it, and is ended with it within seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from types import ModuleType
from typing import Any, TypeVar

from madyn.streams import guard

T = TypeVar("T")

DiedError = BrokenProcessPool
"""A worker ended in the middle of its work: it was killed, or memory ran out."""

_PATIENCE = 2.0  # seconds that a worker has for leaving by itself, its temporary files removed
_SPAWN = get_context("spawn")  # not "fork": the caller may run threads (torch does), and a copy of them can hang

_started: list[Any] = []
_leaving: list[Callable[[], None]] = []


class Workers:
    """A pool of processes; used in a `with` block, at whose end they have ended.

    Where the block ends well, the calls that were submitted are waited for. Where it ends with an error or Ctrl-C, the
    workers are told to leave, and killed if they do not within two seconds.

    Args:
        jobs: how many, at least 1. They start as calls come.
        initializer: called with `given` in each when it starts.
        needs_main: what is submitted may be of the script that runs, which each worker then imports (so that it must
            keep what it does below `if __name__ == "__main__":`).
    """

    def __init__(
        self,
        jobs: int,
        initializer: Callable[..., None] | None = None,
        given: tuple[Any, ...] = (),
        *,
        needs_main: bool = False,
    ) -> None:
        self._context = _Context(needs_main)
        self._pool = ProcessPoolExecutor(jobs, self._context, _begin, (os.getpid(), initializer, given))

    def __enter__(self) -> Workers:
        return self

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have a function of a module called. Raises DiedError, here or from the future, where a worker died."""
        return self._pool.submit(function, *arguments)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._pool.shutdown()
        except BaseException:  # Ctrl-C, while they are waited for
            kind = KeyboardInterrupt
            raise
        finally:
            if kind is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                end(self._context.started)
            for process in self._context.started:
                _started.remove(process)


def in_order(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], jobs: int | None, threads: int | None = None
) -> Iterator[T]:
    """What a function of a module gives for each task's arguments, in the order of the tasks, as it is done.

    Args:
        jobs: processes; as many as there are cores by default. With 1 it is called in this one.
        threads: of each, for linear algebra; the cores shared out by default.

    Raises:
        DiedError: a process ended early.
    """
    tasks = list(tasks)
    jobs = min(jobs or os.cpu_count() or 1, len(tasks))
    if jobs <= 1:
        yield from (function(*task) for task in tasks)
        return
    with Workers(jobs, limit_threads, (threads or max(1, (os.cpu_count() or 1) // jobs),)) as workers:
        for future in [workers.submit(function, *task) for task in tasks]:
            yield future.result()


def limit_threads(threads: int) -> None:
    """Have this process use so many threads for linear algebra, in libraries that are loaded and those to come."""
    from threadpoolctl import threadpool_limits

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    threadpool_limits(threads)


def end(processes: Iterable[Any]) -> None:
    """End processes, in order if they can and at once if they cannot; returns when they have ended."""
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for process in alive:
        process.join(max(0.0, deadline - time.monotonic()))
    kill(alive)


def kill(processes: Iterable[Any] | None = None) -> None:
    """Kill processes, by default all workers of this one."""
    alive = [process for process in (list(_started) if processes is None else processes) if process.is_alive()]
    for process in alive:
        process.kill()
    for process in alive:
        process.join(1.0)


def before_leaving(call: Callable[[], None]) -> None:
    """Have something done whenever a process of madyn ends before its work does, in whatever it is then."""
    _leaving.append(call)


def leave() -> None:
    """Do what is to be done before that."""
    for call in _leaving:
        call()


class _Process(_SPAWN.Process):
    """A worker. While it starts, Ctrl-C is held back from it: it cannot ignore it yet."""

    needs_main = False

    def start(self) -> None:
        with _interrupts_held(), _main_as_it_is() if self.needs_main else _without_main():
            super().start()


class _Context(type(_SPAWN)):
    """Starts processes as "spawn" does, and remembers them."""

    def __init__(self, needs_main: bool) -> None:
        super().__init__()
        self.started: list[_Process] = []
        self._needs_main = needs_main

    # The pool calls this as a function, and it is one in multiprocessing's other contexts.
    def Process(self, *arguments: Any, **named: Any) -> _Process:  # noqa: N802  # pyright: ignore[reportIncompatibleVariableOverride]
        process = _Process(*arguments, **named)
        process.needs_main = self._needs_main
        self.started.append(process)
        _started.append(process)
        return process


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A signal mask is inherited; what comes in the meantime reaches this process afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _without_main() -> Iterator[None]:
    """Have "spawn" find no script to import in the worker, which would run one that has no `if __name__` in it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin(parent: int, initializer: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    """In a worker, first of all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with(parent)
    guard()
    if initializer is not None:
        initializer(*given)


_LEFT = 128 + signal.SIGTERM


def _leave(*_: object) -> None:
    """End at once, with what was half-written removed. An exception would be raised wherever the work happens to be: a
    callback of a library may swallow it."""
    leave()
    os._exit(_LEFT)


def _die_with(parent: int) -> None:
    """Have this process end when its parent does."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)
    above = parent_process()
    if above is not None:
        threading.Thread(target=_outlive, args=(above.sentinel,), daemon=True).start()


def _outlive(sentinel: Any) -> None:
    connection.wait([sentinel])
    os._exit(1)
