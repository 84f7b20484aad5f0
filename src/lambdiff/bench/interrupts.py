"""Defers Ctrl-C and termination signals while a change is being undone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, Self


class DeferredInterrupt:
    """A context manager that turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, and can ignore one of them.

    Without it, SIGTERM and SIGHUP end the program before anything can be undone. Because people press Ctrl-C twice, the
    first signal after the interrupt is ignored with a message; the next one interrupts again.

    Args:
        message: printed on stderr when a signal is ignored.

    Attributes:
        ignore_next: whether the next signal is ignored. Set it when undoing begins.
    """

    def __init__(self, message: str) -> None:
        self.ignore_next = False
        self._message = message
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.ignore_next = not self.ignore_next
        if self.ignore_next:
            raise KeyboardInterrupt
        # Not through sys.stderr, which raises if the signal arrived during a write. The terminal may be closed.
        with contextlib.suppress(OSError):
            os.write(2, f"{self._message}\n".encode())
