"""What a command reads: text in the encodings that shells write, and the parameters of another image."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from lambdiff import byte_order_marks
from lambdiff.cli.flags import with_flags
from lambdiff.printable import printable
from lambdiff.protocol import contract


def read_prompt(argument: str | None) -> str | None:
    """Return the prompt that PROMPT stands for: `-` is stdin, None is None.

    Raises:
        click.UsageError: stdin is closed, too long, or not text.
    """
    if argument != "-":
        return argument if argument is None else in_unicode(argument)
    if sys.__stdin__ is None:
        raise click.UsageError("The prompt cannot be read: stdin is closed.")
    try:
        content = sys.stdin.buffer.read(contract.MAX_BODY + 1) or b""  # None if stdin does not block
    except OSError as error:
        raise click.UsageError(f"The prompt cannot be read from stdin: {error.strerror}.") from None
    if len(content) > contract.MAX_BODY:
        raise click.UsageError(f"stdin has more than {contract.MAX_BODY >> 10} KiB, which is too long for a prompt.")
    return decode(content, "stdin")


def decode(content: bytes, source: str) -> str:
    """Return the text of a file or a pipe: UTF-8, or with a byte order mark UTF-16 or UTF-32, as PowerShell writes.

    Args:
        content: the bytes.
        source: names them in the message.

    Raises:
        click.UsageError: they are not text in that encoding.

    Example:
        >>> decode(b"\\xff\\xfea\\0 \\0c\\0a\\0t\\0\\r\\0\\n\\0", "stdin")
        'a cat'
    """
    encoding, content = byte_order_marks.split(content)
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(f"{source} is not {(encoding or 'utf-8').upper()} text.") from None
    return text.replace("\r\n", "\n").strip()


def in_unicode(argument: str) -> str:
    """Return an argument in full Unicode: Python decodes it with the locale, which may be ASCII."""
    with contextlib.suppress(UnicodeError):  # not UTF-8: the request's validation names the field
        argument = os.fsencode(argument).decode("utf-8")
    return argument.removeprefix("\ufeff")


def parameters_of(image: Path, *, quiet: bool) -> dict[str, Any]:
    """Return the parameters in an image that a request accepts, and print what lambdiff cannot repeat."""
    from lambdiff.client import foreign_metadata

    stored = foreign_metadata.read(image)
    for note in () if quiet else stored.notes:
        click.echo(f"Note: {with_flags(printable(note))}", err=True)
    return stored.reusable()
