"""How a long command tells what it is doing: stages with their times on stderr; stdout stays free for the result."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, Final, TextIO

_GONE: Final = (OSError, ValueError)
"""What writing raises where nobody reads any more: a closed terminal, pipe or file."""


class Stages:
    """One line per finished stage; on a terminal, the running one is shown with its details.

    The work goes on where nobody reads any more, because it may be one that has to be finished.

    Example:
        >>> report = Stages(stream=sys.stdout, quiet=True)
        >>> report.stage("Building the image")
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.times: dict[str, float] = {}
        self._name = ""
        self._started = 0.0
        self._status: Any = None

    def stage(self, name: str) -> None:
        """Begin a stage; the one before it is done. Naming the running stage again does nothing."""
        if name == self._name:
            return
        self.done()
        self._name, self._started = name, time.monotonic()
        with contextlib.suppress(*_GONE):
            if not self.quiet and self.stream.isatty():
                from rich.console import Console

                status = Console(file=self.stream).status(name)
                status.start()
                self._status = status

    def detail(self, text: str) -> None:
        """What the running stage is at."""
        if self._status is not None:
            self._status.update(f"{self._name}: {text[:100]}")

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self.quiet:
            with contextlib.suppress(*_GONE):
                print(text, file=self.stream, flush=True)

    def done(self) -> None:
        """End the running stage."""
        self._end("")

    def failed(self) -> None:
        """End the running stage, which did not succeed."""
        self._end("  failed")

    def _end(self, verdict: str) -> None:
        if self._status is not None:
            status, self._status = self._status, None
            with contextlib.suppress(*_GONE):
                status.stop()
        if self._name:
            seconds = time.monotonic() - self._started
            self.times[self._name] = round(seconds, 1)
            self.say(f"{seconds:6.1f} s  {self._name}{verdict}")
            self._name = ""
