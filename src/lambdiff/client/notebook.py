"""Progress and warnings below a notebook's cell.

Warnings would go unseen otherwise: nobody looks at `image.warnings` of an image that looks right.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from lambdiff.printable import printable
from lambdiff.protocol.contract import OnStep

_MAX_NOTES: Final = 5
"""The number of different warnings that are shown."""


class Output(Protocol):
    """Where a notebook shows something that changes."""

    def show(self, text: str, done: float | None) -> None:
        """Replace what is shown by a text and how much of the work is done; None if that is unknown."""

    def end(self, notes: list[str]) -> None:
        """Replace what is shown by notes, or by nothing."""


class Display:
    """What a cell shows while images are generated.

    Args:
        output: where it is shown; None outside a notebook.
        activity: what happens before the first step.
        count: how many images.
    """

    def __init__(self, output: Output | None, activity: str, count: int) -> None:
        self._output = output
        self._count = count
        self._finished = 0
        self._started = time.perf_counter()
        self._notes: dict[str, None] = {}
        self._show(activity or "generating", None)

    @property
    def on_step(self) -> OnStep | None:
        """Shows the steps of an image that this machine generates; None outside a notebook."""
        return None if self._output is None else self._on_step

    def finished(self, warnings: Iterable[str]) -> None:
        """Count an image as finished, and keep its warnings for the end."""
        self._finished += 1
        self._notes.update(dict.fromkeys(warnings))
        if self._count > 1:
            self._show("generating", None)

    def end(self) -> None:
        """Remove the bar and show each different warning."""
        if self._output is not None:
            notes = [printable(note) for note in self._notes]
            more = [f"... and {len(notes) - _MAX_NOTES} other warnings"] if len(notes) > _MAX_NOTES else []
            self._output.end(notes[:_MAX_NOTES] + more)

    def _on_step(self, done: int, total: int) -> None:
        self._show(f"step {done} of {total}", done / total)

    def _show(self, text: str, done: float | None) -> None:
        if self._output is None:
            return
        if self._count > 1:
            text = f"{self._finished} of {self._count}, {text}"
            done = (self._finished + (done or 0.0)) / self._count
        self._output.show(f"{text}, {time.perf_counter() - self._started:.1f} s", done)


@contextlib.contextmanager
def display(transport: Any, count: int = 1) -> Iterator[Display]:
    """Show a bar below the cell until the block ends, and then the warnings. Outside a notebook, show nothing.

    Args:
        transport: one that generates in this process knows whether it has to load the model first.
        count: how many images.
    """
    shown = Display(_output(), getattr(transport, "activity", ""), count)
    try:
        yield shown
    finally:
        shown.end()


def _output() -> Output | None:
    if _in_ipython_notebook():
        return _Cell()
    # marimo has no IPython shell. Other threads than the cell's have no place to show anything.
    marimo = sys.modules.get("marimo")
    if marimo is not None and marimo.running_in_notebook():
        return _MarimoCell()
    return None


def _in_ipython_notebook() -> bool:
    """Whether a kernel runs this code: Jupyter, VS Code, Colab, Kaggle, Databricks, JupyterLite and others."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell else None
    if shell is None:
        return False
    # Colab and others have subclasses of these; a terminal's IPython on Databricks is a terminal all the same.
    kinds = {kind.__name__ for kind in type(shell).__mro__}
    if "TerminalInteractiveShell" in kinds:
        return False
    kernel = getattr(shell, "kernel", None)
    if getattr(getattr(kernel, "session", None), "pid", os.getpid()) != os.getpid():
        return False  # a forked process has a copy of the shell, but no connection to the notebook
    return "ZMQInteractiveShell" in kinds or kernel is not None or "DATABRICKS_RUNTIME_VERSION" in os.environ


class _Cell:
    """The output of a cell, through IPython. Frontends without HTML, such as Jupyter's console, show the notes only."""

    def __init__(self) -> None:
        # Imported by name: IPython is not a dependency, but a notebook always has it.
        self._ipython: Any = importlib.import_module("IPython.display")
        self._handle: Any = None

    def show(self, text: str, done: float | None) -> None:
        value = "" if done is None else f' value="{done:.3f}"'
        self._display({"text/html": f"<progress{value}></progress> {html.escape(text)}", "text/plain": ""})

    def end(self, notes: list[str]) -> None:
        lines = [f"Note: {note}" for note in notes]
        marked = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        self._display({"text/html": marked, "text/plain": "\n".join(lines)})

    def _display(self, content: dict[str, str]) -> None:
        if self._handle is None:
            self._handle = self._ipython.display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class _MarimoCell:
    """The output of a cell in marimo. Notes go to stderr, which marimo shows below the cell's last value."""

    def __init__(self) -> None:
        marimo: Any = importlib.import_module("marimo")
        self._spinner = marimo.status.spinner(title="lambdiff", remove_on_exit=True)
        self._bar = self._spinner.__enter__()

    def show(self, text: str, done: float | None) -> None:
        self._bar.update(subtitle=text)

    def end(self, notes: list[str]) -> None:
        self._spinner.__exit__(None, None, None)
        for note in notes:
            print(f"Note: {note}", file=sys.stderr)
