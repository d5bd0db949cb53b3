"""How a command stops: Ctrl-C, SIGTERM and a closed terminal, once or many times, end it within seconds.

The first of these signals raises KeyboardInterrupt, so that what is open is closed in order; more of them change
nothing, since they would only interrupt that. What has not ended a few seconds later is ended as it stands: files are
written whole or not at all, so that nothing is lost by it. A thread watches for that, woken by the signal itself and
not by Python's handler, which has to wait while the main thread is in a library's code.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from madyn import processes

SECONDS = 4.0
"""How long stopping in order may take."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stop:
    """Whether a command was told to stop. `code` is what it exits with then: 128 and the signal, as shells have it."""

    signal: int | None = None
    _swallowed = False

    def __init__(self, unraisable: Any) -> None:
        self._otherwise = unraisable

    @property
    def code(self) -> int:
        return 128 + (self.signal or signal.SIGINT)

    def _receive(self, number: int, _: Any) -> None:
        if self.signal is None or self._swallowed:
            self.signal, self._swallowed = self.signal or number, False
            raise KeyboardInterrupt

    def _unraisable(self, lost: Any) -> None:
        """In place of `sys.unraisablehook`: a callback of a library swallowed the exception. Once more, behind it."""
        if self.signal is None or lost.exc_type is not KeyboardInterrupt:
            self._otherwise(lost)
            return
        self._swallowed = True
        threading.Timer(0.01, _tell_main, (self.signal,)).start()


def _tell_main(number: int) -> None:
    """Send the main thread a signal: one to the process may reach another thread, and leave the main one asleep."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:  # Windows
        signal.raise_signal(number)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Answer signals as this file says while the block runs.

    A signal that is ignored stays so: `nohup` and the background jobs of a shell have it that way. Outside the main
    thread nothing is done, since no signal arrives there.
    """
    hook = sys.unraisablehook
    stop = Stop(hook)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    answered = [number for number in _SIGNALS if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    # The thread holds the end that is written to as well: signals come until the process is over.
    threading.Thread(target=_watch, args=(reader, writer, set(answered)), daemon=True).start()
    sys.unraisablehook = stop._unraisable
    for number in answered:
        signal.signal(number, stop._receive)
    try:
        yield stop
    finally:
        # Once told to stop, what runs at the interpreter's own end is watched as well, and not to be told again.
        for number in answered:
            signal.signal(number, before[number] if stop.signal is None else signal.SIG_IGN)
        sys.unraisablehook = hook
        if stop.signal is not None:
            processes.leave()
        else:
            signal.set_wakeup_fd(woken)
            writer.shutdown(socket.SHUT_RDWR)


def _watch(reader: socket.socket, writer: socket.socket, answered: set[int]) -> None:
    with reader, writer:
        while received := reader.recv(1):
            if received[0] in answered:
                time.sleep(SECONDS)
                processes.kill()
                processes.leave()
                os.write(2, b"madyn: stopped; what is written stays, and the same command goes on from there\n")
                os._exit(128 + received[0])
