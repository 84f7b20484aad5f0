"""Ends the command line on Ctrl-C, SIGTERM and SIGHUP: within two seconds, cleanly, and with its exit code.

The first signal raises KeyboardInterrupt in the main thread, so that whatever is in progress cleans up. Further ones
are ignored meanwhile. Python raises exceptions between two steps of its own, but the main thread may be in a library
for much longer: in a name look-up, or converting a model. If it has not ended in time, another thread removes what is
temporary and ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

from lambdiff import temporary

LIMIT_S: Final = 1.5
"""How long the main thread may clean up."""
_INTERRUPTED: Final = 130
_INTERVAL_S: Final = 0.05
_MAIN: Final = threading.main_thread().ident or 0
_SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_SHOW_CURSOR: Final = b"\r\x1b[K\x1b[?25h"


def ignore_signals() -> None:
    """Ignore further signals. The caller sees to it that the program ends soon."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """Handle the signals while the block runs, which is the whole command; call it in the main thread.

    Signals that are ignored stay so, as for `nohup` and background jobs. Code in the block may set its own handlers for
    a time; these signals are then none of ours.
    """
    handling = _Handling()
    handling.start()
    try:
        yield
    except KeyboardInterrupt:
        handling.end(_INTERRUPTED)
    except SystemExit as ended:
        if handling.received:
            handling.end(ended.code if isinstance(ended.code, int) else 1)
        raise
    finally:
        handling.stop()


class _Handling:
    def __init__(self) -> None:
        self.received: int | None = None
        """The first signal's number."""
        self._numbers: list[int] = []
        self._report_ignored = sys.unraisablehook
        self._ended = threading.Event()

    def start(self) -> None:
        if os.name == "posix":
            # Python writes a signal's number to the pipe when it arrives, even if the main thread is in a library.
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reader,), name="lambdiff-signals", daemon=True).start()
        sys.unraisablehook = self._repeat_ignored
        self._numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        for number in self._numbers:
            signal.signal(number, self._handle)

    def stop(self) -> None:
        # From here on, a signal ends the process at once: Python is about to end anyway.
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        sys.unraisablehook = self._report_ignored
        self._ended.set()

    def end(self, code: int) -> NoReturn:
        """End the process without the interpreter's own end, which would wait for threads and crash on some."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # it may be closed
                stream.flush()
        self._exit(code)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received = number
            raise KeyboardInterrupt

    def _repeat_ignored(self, ignored: sys.UnraisableHookArgs) -> None:
        """Let `_watch` repeat a signal whose exception Python has ignored, as in the callback of a weak reference."""
        if self.received and ignored.exc_type is KeyboardInterrupt:
            self.received = None
        else:
            self._report_ignored(ignored)

    def _watch(self, reader: int) -> None:
        while True:
            number = os.read(reader, 1)[0]
            ends = time.monotonic() + LIMIT_S
            while self._is_ours(number) and not self._ended.wait(_INTERVAL_S):
                if time.monotonic() > ends:
                    self.received = number
                    # Not through sys.stderr, which the main thread may have locked.
                    with contextlib.suppress(OSError):
                        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"Stopped.\n")
                    self._exit(_INTERRUPTED)
                if not self.received:
                    # The system may have delivered the signal to another thread, which does not wake the main thread.
                    signal.pthread_kill(_MAIN, number)

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) == self._handle

    def _exit(self, code: int) -> NoReturn:
        """End the process. If it was interrupted, the exit code tells by which signal, as shells report it."""
        temporary.remove_all()
        os._exit(128 + (self.received or signal.SIGINT) if code == _INTERRUPTED else code)
