"""A progress bar on stderr, shown only on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from lambdiff.protocol.contract import OnStep


@contextlib.contextmanager
def terminal(expected: float | None, count: int = 1, *, show: bool | None = None) -> Iterator[Any]:
    """Show a bar on stderr while images are generated; yields an object with `on_step` and `advance`.

    Args:
        expected: seconds that the last image took, or None.
        count: how many images.
        show: turn the bar on or off; by default it is on if stderr is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    hint = f"about {expected:.0f} s" if expected and expected >= 1 else ""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[hint]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task("generating", total=count if count > 1 else None, hint=hint), count)


class _Silent:
    on_step: OnStep | None = None

    def advance(self) -> None:
        """Show nothing."""


class _Bar:
    def __init__(self, bar: Any, task: Any, count: int) -> None:
        self._bar, self._task, self._count = bar, task, count

    def on_step(self, done: int, total: int) -> None:
        """Show the steps of a single image that is generated on this machine."""
        if self._count == 1:
            self._bar.update(self._task, description=f"step {done} of {total}", completed=done, total=total)

    def advance(self) -> None:
        """Count one more image as finished."""
        if self._count > 1:
            self._bar.advance(self._task)
