"""Turns Ctrl-C and termination signals into one KeyboardInterrupt, so that work can end well."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any, Final, Self

ACKNOWLEDGE_AFTER: Final = 1.0
"""Seconds after which a signal is acknowledged that the program has not handled yet."""


class DeferredInterrupt:
    """A context manager that turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, and can ignore one of them.

    Without it, SIGTERM and SIGHUP end the program before anything can be undone. Because people press Ctrl-C twice, the
    first signal after the interrupt is ignored with a message; the next one interrupts again.

    Python handles signals between two steps of its own, not inside a library's computation. If that takes long, a
    message says that the signal was received.

    Args:
        message: printed on stderr when a signal is ignored.

    Attributes:
        ignore_next: whether the next signal is ignored. Set it when undoing begins.
    """

    def __init__(self, message: str) -> None:
        self.ignore_next = False
        self._message = message
        self._previous: dict[int, Any] = {}
        self._handled = 0

    def __enter__(self) -> Self:
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
            self._watch()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._previous:
            signal.set_wakeup_fd(self._outer_wakeup)
            self._writer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._handled += 1
        self.ignore_next = not self.ignore_next
        if self.ignore_next:
            raise KeyboardInterrupt
        _print(self._message)

    def _watch(self) -> None:
        if not self._previous:
            return
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._outer_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._acknowledge, args=(reader,), name="lambdiff-signals", daemon=True).start()

    def _acknowledge(self, reader: socket.socket) -> None:
        received = 0
        with reader:
            while data := reader.recv(64):  # the numbers of signals, written at the moment they arrive
                received += sum(number in self._previous for number in data)
                time.sleep(ACKNOWLEDGE_AFTER)
                if self._handled < received:
                    _print("Interrupted; waiting for the current step to end.")


def _print(message: str) -> None:
    # Not through sys.stderr, which raises if the signal arrived during a write. The terminal may be closed.
    with contextlib.suppress(OSError):
        os.write(2, f"{message}\n".encode())
