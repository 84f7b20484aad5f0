"""Which file each picture of a command goes to."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lambdiff.client.image import format_of
from lambdiff.errors import InvalidRequest, OutputError
from lambdiff.files import check_free, write_whole

if TYPE_CHECKING:
    from lambdiff.client.image import GeneratedImage

_EXTENSION = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def choose_format(out: str | None, given: str | None) -> str:
    """The format to ask for: the one given, the suffix of the file, or PNG.

    Raises:
        InvalidRequest: the two contradict each other, or the suffix is unknown.
    """
    if out is None or out == "-":
        return given or "png"
    by_name = format_of(out)
    if given and given != by_name:
        raise InvalidRequest(
            f"{out} is the name of a {by_name} file, and --format asks for {given}.", fix="Change one of them."
        )
    return by_name


class OutputPlan:
    """The names of a command's files.

    `-o cat.png` with three pictures gives cat-1.png, cat-2.png, cat-3.png; a name with `{seed}` gets the seed; no
    name at all is made of the prompt's words and never replaces a file.
    """

    def __init__(self, out: str | None, prompt: str, image_format: str, count: int, *, force: bool) -> None:
        self.stdout = out == "-"
        self._out, self._count, self._force = out, count, force
        self._slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:60].strip("-") or "picture"
        self._extension = _EXTENSION[image_format]

    def path(self, index: int, seed: int) -> Path:
        """The file of picture `index` (from 0), drawn with `seed`."""
        if self._out is None:
            return self._free(f"{self._slug}-{{}}" if self._count > 1 else self._slug, index)
        if "{seed}" in self._out:
            return Path(self._out.replace("{seed}", str(seed)))
        path = Path(self._out)
        return path.with_stem(f"{path.stem}-{index + 1}") if self._count > 1 else path

    def check(self, seeds: list[int]) -> None:
        """Refuse files that could not be written, before anything is drawn.

        Raises:
            OutputError: a file exists, or a folder is missing or read-only.
        """
        if self.stdout:
            return
        for index, seed in enumerate(seeds):
            check_free(self.path(index, seed), force=self._force)

    def write(self, image: GeneratedImage, index: int, seed: int) -> str:
        """Write picture `index`, which was asked for with `seed`, and return the file's name (`-` for stdout).

        Raises:
            OutputError: it could not be written.
        """
        if self.stdout:
            try:
                sys.stdout.buffer.write(image.content)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(
                    f"stdout could not be written: {error.strerror}.", fix="Write to a file with -o."
                ) from None
            return "-"
        return str(write_whole(self.path(index, seed), image.content, force=self._force))

    def _free(self, stem: str, index: int) -> Path:
        """The first unused name; numbers count up from the picture's own."""
        number = index + 1
        path = Path(stem.format(number) + self._extension)
        while path.exists() and not self._force:
            number += self._count if "{}" in stem else 1
            path = Path((stem.format(number) if "{}" in stem else f"{stem}-{number}") + self._extension)
        return path
