"""Ctrl-C and its like while something is changed that has to be changed back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, Self


class Stopping:
    """What asks the program to end is a KeyboardInterrupt while the block runs; SIGTERM would end it at once.

    The next signal is passed over, because people press Ctrl-C twice; the third is an interruption again.

    Attributes:
        patient: whether the next signal is passed over; to be set where changing back begins.

    Args:
        words: said on stderr when one is passed over.
    """

    def __init__(self, words: str) -> None:
        self.patient = False
        self._words = words
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # signals can be handled there only
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.patient = not self.patient
        if self.patient:
            raise KeyboardInterrupt
        # Past Python's streams: one that the signal interrupted in a write takes no other. The terminal may be gone.
        with contextlib.suppress(OSError):
            os.write(2, f"{self._words}\n".encode())
