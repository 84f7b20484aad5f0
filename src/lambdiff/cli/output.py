"""Choose the file of each image that a command generates."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lambdiff.client.image import format_of
from lambdiff.errors import InvalidRequest, OutputError
from lambdiff.files import check_writable, write_atomically

if TYPE_CHECKING:
    from lambdiff.client.image import GeneratedImage

_EXTENSION = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


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
        self._slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:60].strip("-") or "image"
        self._extension = _EXTENSION[image_format]

    def path(self, index: int, seed: int) -> Path:
        """Return the file of image `index` (from 0), which is generated with `seed`."""
        if self._out is None:
            return self._free(f"{self._slug}-{{}}" if self._count > 1 else self._slug, index)
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
        for index, seed in enumerate(seeds):
            check_writable(self.path(index, seed), force=self._force)

    def write(self, image: GeneratedImage, index: int, seed: int) -> str:
        """Write image `index`, which was generated with `seed`, and return the file's name (`-` for stdout).

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
                    f"Writing to stdout failed: {error.strerror}.", fix="Write to a file with -o FILE."
                ) from None
            return "-"
        return str(write_atomically(self.path(index, seed), image.content, force=self._force))

    def _free(self, stem: str, index: int) -> Path:
        """Return the first unused name; numbers count up from the image's own."""
        number = index + 1
        path = Path(stem.format(number) + self._extension)
        while path.exists() and not self._force:
            number += self._count if "{}" in stem else 1
            path = Path((stem.format(number) if "{}" in stem else f"{stem}-{number}") + self._extension)
        return path
