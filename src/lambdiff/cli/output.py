"""Choose the file of each image that a command generates."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambdiff.cli.streams import discard
from lambdiff.client.image import format_of, has_display
from lambdiff.errors import InvalidRequest, OutputError
from lambdiff.files import check_writable, is_device_name, write_atomically, write_to_free_path

if TYPE_CHECKING:
    from lambdiff.client.image import GeneratedImage

_MAX_PROMPT = 200
"""Characters of a prompt that can become part of a file name."""
_EXTENSION = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def check_target(out: str | None, *, force: bool) -> str | None:
    """Return the value of `-o` with `~` expanded; None if there is none.

    Raises:
        click.UsageError: it is empty, or stdout is a terminal, which would show the image's bytes as characters.
        OutputError: it is a folder.
    """
    if out == "-":
        if sys.__stdout__ is None:
            raise OutputError("The image cannot be written: stdout is closed.", fix="Write to a file with -o FILE.")
        if sys.stdout.isatty() and not force:
            raise click.UsageError(
                "-o - would write the image's bytes to the terminal. Redirect stdout, or add --force to write them."
            )
        return out
    if out is None:
        return None
    if not out.strip():
        raise click.UsageError("-o needs the name of a file, such as cat.png.")
    out = os.path.expanduser(out)
    if os.path.isdir(out) or out.endswith(("/", os.sep)):
        raise OutputError(f"{out} is a folder.", fix=f"Add a file name to it: {os.path.join(out, 'cat.png')}")
    return out


def slug(prompt: str) -> str:
    """Return the beginning of a prompt as the stem of a file name that every system can store.

    Example:
        >>> slug("A café, in größer/longer WORDS!"), slug("con"), slug("猫")
        ('a-cafe-in-grosser-longer-words', 'con-image', 'image')
    """
    letters = unicodedata.normalize("NFKD", prompt[:_MAX_PROMPT].casefold())
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    stem = re.sub(r"[^a-z0-9]+", "-", letters)[:60].strip("-") or "image"
    return f"{stem}-image" if is_device_name(stem) else stem


def open_in_viewer(file: str) -> None:
    """Open a file in the system's viewer, or say on stderr why that is not possible: the image has been written."""
    if not has_display():
        problem = "there is no display"
    elif click.launch(os.path.abspath(file)):  # absolute, because a name may start with a hyphen
        problem = "no program for images was found"
    else:
        return
    click.echo(f"Note: {file} cannot be opened: {problem}.", err=True)


def choose_format(out: str | None, given: str | None) -> str:
    """Return the format to request: `given`, or that of the suffix of `out`, or PNG.

    Raises:
        InvalidRequest: the two contradict each other, or the suffix is unknown.
    """
    if out is None or out == "-":
        return given or "png"
    by_name = format_of(out)
    if given and given != by_name:
        raise InvalidRequest(
            f"{out} has the suffix of a {by_name} file, but --format is {given}.", fix="Change one of them."
        )
    return by_name


class OutputPlan:
    """The names of a command's files.

    For three images, `-o cat.png` gives cat-1.png, cat-2.png and cat-3.png. `{seed}` in the name is replaced by the
    seed. Without `-o` the name is made from the prompt's words, and never that of an existing file.

    Args:
        out: the value of `-o`; `-` is stdout.
        prompt: names the files if `out` is None.
        image_format: gives the suffix if `out` is None.
        count: how many images.
        force: overwrite existing files.
    """

    def __init__(self, out: str | None, prompt: str, image_format: str, count: int, *, force: bool) -> None:
        self.stdout = out == "-"
        self._out, self._count, self._force = out, count, force
        self._slug = slug(prompt)
        self._extension = _EXTENSION[image_format]

    def path(self, index: int, seed: int) -> Path:
        """Return the file of image `index` (from 0), which is generated with `seed`."""
        if self._out is None:
            return next(path for path in self._names(index) if self._force or not os.path.lexists(path))
        if "{seed}" in self._out:
            return Path(self._out.replace("{seed}", str(seed)))
        path = Path(self._out)
        return path.with_stem(f"{path.stem}-{index + 1}") if self._count > 1 else path

    def check(self, seeds: list[int]) -> None:
        """Refuse files that could not be written, before anything is generated.

        Raises:
            OutputError: a file exists, or a folder is missing or read-only.
        """
        if self.stdout:
            return
        check_writable((self.path(index, seed) for index, seed in enumerate(seeds)), force=self._force)

    def write(self, image: GeneratedImage, index: int, seed: int) -> str:
        """Write image `index`, which was generated with `seed`, and return the file's name (`-` for stdout).

        Raises:
            OutputError: it could not be written.
        """
        if self.stdout:
            try:
                sys.stdout.buffer.write(image.content)
                sys.stdout.buffer.flush()
            except OSError as error:
                discard(sys.stdout)
                if isinstance(error, BrokenPipeError):
                    raise
                raise OutputError(
                    f"Writing to stdout failed: {error.strerror}.", fix="Write to a file with -o FILE."
                ) from None
            return "-"
        if self._out is None and not self._force:
            return str(write_to_free_path(self._names(index), image.content))
        return str(write_atomically(self.path(index, seed), image.content, force=self._force))

    def _names(self, index: int) -> Iterator[Path]:
        """Yield the names that the prompt gives image `index`: its own number, then those that follow all others."""
        number = index + 1
        while True:
            suffix = f"-{number}" if self._count > 1 or number > 1 else ""
            yield Path(f"{self._slug}{suffix}{self._extension}")
            number += self._count
