"""A progress bar on stderr, shown only on a terminal.

⠹ step 3 of 8 ━━━━━━━━━━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━ 0:04 about 7 s left
⠹ 2 of 6, step 5 of 8 ━━━━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━ 0:31 about 55 s left
⠹ compiling the model ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 0:01
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from lambdiff import terminal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_WIDEST, _NARROWEST = 40, 6
"""Columns of the bar itself; with less room than the latter it is left out."""
_REDRAWS: Final = 8
"""Per second."""


class Progress:
    """How far a command is: the images that are finished, and what the transport reports about the next one.

    Args:
        transport: one that generates in this process reports its activity and its steps.
        count: how many images.
        expected: seconds that an image is expected to take, or None.
        startup: seconds that the first one is expected to take in addition.
        parallel: how many images are generated at once.
        clock: seconds, monotonic.
    """

    def __init__(
        self, transport: Any, count: int = 1, *, expected: float | None = None, startup: float = 0.0, parallel: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._transport = transport
        self._count = count
        self._expected = expected
        self._startup = startup
        self._parallel = min(parallel, count)
        self._clock = clock
        self._started = clock()
        self._finished = 0
        self._first_step: tuple[int, float] | None = None

    def advance(self) -> None:
        """Count one more image as finished."""
        self._finished += 1

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def status(self) -> list[str]:
        """What is happening, in full and, for a narrow terminal, in short."""
        activity = getattr(self._transport, "activity", "")
        done, total = self._step
        if not activity and done:
            activity = f"step {done} of {total}" if done < total else "finishing"
        if self._count == 1:
            return [activity or ("finishing" if self._first_step else "generating")]
        images = f"{self._finished} of {self._count}"
        return [f"{images}, {activity}", images] if activity else [f"{images} images", images]

    @property
    def fraction(self) -> float | None:
        """How much is done; None if that is unknown."""
        done, total = self._step
        finished = self._finished + (done / total if total else 0.0)
        return min(finished / self._count, 1.0) or None

    @property
    def seconds_left(self) -> float | None:
        """The expected rest of the time: from the steps or images so far, or before that from an earlier command."""
        if self._finished and (fraction := self.fraction):
            return self.seconds * (1 - fraction) / fraction
        done, total = self._step
        if self._count == 1 and self._first_step and done > self._first_step[0]:
            first, then = self._first_step
            return (self.seconds - then) / (done - first) * (total - done)
        if self._expected is None:
            return None
        rounds = -(-self._count // self._parallel)
        left = self._startup + rounds * self._expected - self.seconds
        return left if left > 0 else None

    @property
    def _step(self) -> tuple[int, int]:
        step: tuple[int, int] = getattr(self._transport, "step", (0, 0))
        if step[0] and self._first_step is None:
            self._first_step = step[0], self.seconds
        return step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        room = options.max_width - 2  # the spinner and the last column, in which some terminals wrap
        status = next((each for each in self.status if len(each) < room), self.status[-1])
        cells: list[Any] = [self._spinner(console), Text(status[: room - 1])]
        room -= len(status) + 1
        minutes, seconds = divmod(int(self.seconds), 60)
        times = [f"{minutes}:{seconds:02}", _left(self.seconds_left)]
        while times and (not times[-1] or len(" ".join(times)) > room):
            times.pop()
        room -= len(" ".join(times)) + 2
        if room >= _NARROWEST:
            total = self.fraction and 1.0  # without one, the bar pulses
            cells.append(ProgressBar(total=total, completed=self.fraction or 0.0, width=min(room, _WIDEST)))
        line = Table.grid(padding=(0, 1))
        for _ in (*cells, *times):
            line.add_column(no_wrap=True, overflow="crop")
        line.add_row(*cells, *times)
        yield line

    def _spinner(self, console: Console) -> Any:
        if not hasattr(self, "_drawn"):
            from rich.spinner import Spinner

            self._drawn = Spinner(terminal.spinner(console))
        return self._drawn


@contextlib.contextmanager
def bar(progress: Progress, *, show: bool = True) -> Iterator[Progress]:
    """Show a bar on stderr while the block runs, if stderr is a terminal."""
    if not (show and terminal.can_redraw(sys.stderr)):
        yield progress
        return
    from rich.live import Live

    console = terminal.open_console(sys.stderr)
    with Live(progress, console=console, refresh_per_second=_REDRAWS, transient=True, redirect_stdout=False):
        yield progress


def _left(seconds: float | None) -> str:
    if seconds is None or seconds < 1:
        return ""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit} left"
    return f"about {seconds:.0f} s left"
