"""Progress of a long command: each stage with its duration, on stderr; stdout is reserved for the result."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO

from lambdiff import terminal
from lambdiff.printable import printable

if TYPE_CHECKING:
    from rich.status import Status

Confirm = Callable[[str], bool]
"""Asks the caller a yes-or-no question."""

_CLOSED: Final = (OSError, ValueError)
"""The exceptions of a write when the terminal, the pipe or the file is closed."""


class Stages:
    """Prints a line for each finished stage and, on a terminal, shows the current one with details.

    A closed stream does not stop the work, which may have to be finished.

    Args:
        stream: stderr by default.
        quiet: measure without printing.
        clock: seconds, monotonic.

    Attributes:
        times: seconds by stage.

    Example:
        >>> stages = Stages(stream=sys.stdout, clock=lambda: 0.0)
        >>> stages.stage("Building the image")
        >>> stages.done()
           0.0 s  Building the image
    """

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet or self.stream is None  # without a console, as under `pythonw`, there is no stderr
        self.times: dict[str, float] = {}
        self._clock = clock
        self._name = ""
        self._started = 0.0
        self._status: Status | None = None

    def stage(self, name: str) -> None:
        """End the current stage and begin another; do nothing if it is already the current one."""
        if name == self._name:
            return
        self.done()
        self._name, self._started = name, self._clock()
        with contextlib.suppress(*_CLOSED):
            if not self.quiet and terminal.can_redraw(self.stream):
                console = terminal.open_console(self.stream)
                status = console.status(name, spinner=terminal.spinner(console))
                status.start()
                self._status = status

    def detail(self, text: str) -> None:
        """Show on a terminal what the current stage is doing."""
        if self._status is not None:
            from rich.text import Text

            # Not a string, in which rich would read brackets as markup.
            self._status.update(Text(f"{self._name}: {printable(text, 100)}"))

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            with contextlib.suppress(*_CLOSED):
                print(printable(text, 2_000, multiline=True), file=self.stream, flush=True)

    def done(self) -> None:
        """End the current stage, if any."""
        self._end("")

    def failed(self) -> None:
        """End the current stage, if any, as failed."""
        self._end("  failed")

    def _end(self, suffix: str) -> None:
        if self._status is not None:
            status, self._status = self._status, None
            with contextlib.suppress(*_CLOSED):
                status.stop()
        if self._name:
            seconds = self._clock() - self._started
            self.times[self._name] = round(seconds, 1)
            self.say(f"{seconds:6.1f} s  {self._name}{suffix}")
            self._name = ""
