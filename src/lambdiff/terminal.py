"""What a terminal can show: whether it can redraw a line, and with which characters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def can_redraw(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor; pipes, files and `TERM=dumb` cannot."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def ascii_only(stream: TextIO) -> bool:
    """Return whether a stream can show nothing but ASCII.

    In the C locale Python writes UTF-8 all the same (PEP 540), but the terminal need not understand it.
    """
    if not (stream.encoding or "").lower().startswith("utf"):
        return True
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next(filter(None, map(os.environ.get, variables)), "C")
    return os.name == "posix" and locale in ("C", "POSIX")


def open_console(stream: TextIO) -> Console:
    """Return a console that draws with the characters that the stream can show."""
    from rich.console import Console

    class AsciiConsole(Console):
        @property
        def encoding(self) -> str:
            return "ascii"

    return AsciiConsole(file=stream) if ascii_only(stream) else Console(file=stream)


def spinner(console: Console) -> str:
    """Return the name of a spinner that the console can show."""
    return "dots" if console.encoding.startswith("utf") else "line"
