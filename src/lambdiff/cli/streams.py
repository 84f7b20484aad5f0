"""Standard streams that are closed, fail, or cannot represent a text.

- A text that the encoding of a stream lacks is escaped: a command that has written an image must not fail because it
  cannot print the image's name.
- A closed stream is replaced by the null device, as is its descriptor: otherwise the next file or socket would get the
  number of stderr, and with it what libraries print. Windows' `pythonw` and some services start programs like this.
- Messages that cannot be written are dropped. If results cannot be written, that is an error with its own exit code.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from lambdiff.errors import OutputError


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Replace `sys.stdin`, `sys.stdout` and `sys.stderr` for the time of a command."""
    before = sys.stdin, sys.stdout, sys.stderr
    _open_closed_descriptors()
    null = open(os.devnull, "r+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (closed below)
    sys.stdin = sys.stdin or null
    sys.stdout = _wrapped(_Results, sys.stdout) or null
    sys.stderr = _wrapped(_Messages, sys.stderr) or null
    during = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for stream in during:
            if isinstance(stream, _Escaping):
                with contextlib.suppress(OSError, ValueError, OutputError):
                    stream.detach()  # so that the original stays open
        null.close()


def to_json(document: Any, *, indent: int | None = None) -> str:
    """Return a document as JSON that stdout can represent, with escapes of JSON rather than of Python."""
    return json.dumps(document, indent=indent, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf"))


class _Escaping(io.TextIOWrapper):
    """A text stream that escapes the characters which its encoding lacks."""

    def __init__(self, stream: TextIO) -> None:
        self._ascii = codecs.lookup(stream.encoding).name == "ascii"
        stream.flush()
        super().__init__(
            stream.buffer,
            # click writes UTF-8 to a stream that calls itself ASCII, so this one has another name.
            encoding="latin-1" if self._ascii else stream.encoding,
            errors="backslashreplace",
            line_buffering=getattr(stream, "line_buffering", False),
            write_through=getattr(stream, "write_through", False),
        )

    def write(self, text: str) -> int:
        """Write a text."""
        if self._ascii:
            text = text.encode("ascii", "backslashreplace").decode("ascii")
        with self._failing():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._failing():
            super().flush()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Send the rest to the null device if the stream fails."""
        try:
            yield
        except OSError:
            discard(self)


class _Messages(_Escaping):
    """stderr."""


class _Results(_Escaping):
    """stdout. Once it has failed, it continues to fail: click swallows some errors when it looks at a stream."""

    _error: Exception | None = None

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        if self._error is not None:
            raise self._error
        try:
            yield
        except OSError as error:
            discard(self)
            self._error = error if isinstance(error, BrokenPipeError) else _not_written(error)
            raise self._error from None


def _not_written(error: OSError) -> OutputError:
    return OutputError(f"Writing to stdout failed: {error.strerror}.", fix="Redirect it to another file.")


def discard(stream: TextIO) -> None:
    """Send what a stream still holds, and what follows, to the null device: Python would fail again when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _wrapped(kind: type[_Escaping], stream: TextIO | None) -> TextIO | None:
    """Wrap a stream; one without bytes below it, such as that of a notebook, stays as it is."""
    return kind(stream) if hasattr(stream, "buffer") and stream is not None else stream


def _open_closed_descriptors() -> None:
    if os.name == "nt":
        return  # descriptors are not inherited by number
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
