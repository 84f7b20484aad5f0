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
from lambdiff.protocol import contract, image_texts
from lambdiff.protocol.pictures import Kind


def read_prompt(argument: str | None) -> str | None:
    """Return the prompt that PROMPT stands for: `-` is stdin, None is None.

    Raises:
        click.UsageError: stdin is closed, too long, or not text.
    """
    if argument != "-":
        return argument if argument is None else in_unicode(argument)
    content = _read_stdin("prompt", contract.MAX_BODY)
    if len(content) > contract.MAX_BODY:
        raise click.UsageError(f"stdin has more than {contract.MAX_BODY >> 10} KiB, which is too long for a prompt.")
    return decode(content, "stdin")


def read_picture(argument: str, *, stdin_is_prompt: bool) -> str | bytes:
    """Return what a picture's option stands for: `-` is the content of stdin, all else is a path.

    Raises:
        click.UsageError: stdin is closed, too long, or the prompt.
    """
    if argument != "-":
        return argument
    if stdin_is_prompt:
        raise click.UsageError("stdin is either the prompt or the start image: give one of them in another way.")
    content = _read_stdin("start image", image_texts.MAX_FILE)
    if len(content) > image_texts.MAX_FILE:
        raise click.UsageError(f"stdin has more than {image_texts.MAX_FILE >> 20} MiB, which is too long for an image.")
    return content


def _read_stdin(what: str, limit: int) -> bytes:
    if sys.__stdin__ is None:
        raise click.UsageError(f"The {what} cannot be read: stdin is closed.")
    try:
        return sys.stdin.buffer.read(limit + 1) or b""  # None if stdin does not block
    except OSError as error:
        raise click.UsageError(f"The {what} cannot be read from stdin: {error.strerror}.") from None


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


def parameters_of(image: Path, given: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Return the parameters in an image that a request accepts, and print what lambdiff cannot repeat.

    Args:
        image: the file.
        given: the parameters that take precedence; the pictures among them replace those that the file was made from.
        quiet: print nothing.

    Raises:
        click.UsageError: lambdiff has made the image from a start image or a mask which is not given.
    """
    from lambdiff.client import foreign_metadata, pictures

    stored = foreign_metadata.read(image)
    parameters = stored.reusable()
    notes = list(stored.notes)
    hashes: dict[Kind, str] = {"image": stored.image_sha256, "mask": stored.mask_sha256}
    for kind, sha256 in hashes.items():
        if not sha256:
            continue
        what = "start image" if kind == "image" else "mask"
        if kind not in given:
            raise click.UsageError(
                f"{image} was generated with a {what}, which it does not contain: add --{kind} FILE with the same one."
            )
        size = parameters.get("width"), parameters.get("height")
        given[kind], found = pictures.encode_like(given[kind], kind, size, sha256)
        if not found:
            notes.append(f"{image} was generated with another {what}, so the new image will differ.")
    if "image" not in given:
        parameters.pop("strength", None)
    for note in () if quiet else notes:
        click.echo(f"Note: {with_flags(printable(note))}", err=True)
    return parameters
