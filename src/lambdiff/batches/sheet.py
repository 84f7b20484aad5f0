"""A contact sheet: small copies of many images on pages, each with the number of its image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lambdiff.client.image import GeneratedImage
from lambdiff.errors import MetadataError
from lambdiff.files import write_atomically

PER_PAGE: Final = 100
SIDE: Final = 192
"""Pixels of the longer side of a small copy."""
_GAP: Final = 8
_TEXT: Final = 16
"""Pixels below each copy for its number."""


def write_sheets(folder: Path, images: Sequence[tuple[int, str]]) -> list[Path]:
    """Write the pages `sheet-1.png`, `sheet-2.png` and so on, and return their paths.

    Args:
        folder: where the images are and the pages go.
        images: (number, file) of each image. One that cannot be read is left blank.

    Raises:
        OutputError: a page cannot be written.
    """
    pages = []
    for page, begin in enumerate(range(0, len(images), PER_PAGE), 1):
        content = _page(folder, images[begin : begin + PER_PAGE])
        pages.append(write_atomically(folder / f"sheet-{page}.png", content, force=True))
    return pages


def _page(folder: Path, images: Sequence[tuple[int, str]]) -> bytes:
    from PIL import Image, ImageDraw

    columns = min(10, max(1, math.ceil(math.sqrt(len(images)))))
    rows = math.ceil(len(images) / columns)
    wide, high = SIDE + _GAP, SIDE + _TEXT + _GAP
    page = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), "white")
    draw = ImageDraw.Draw(page)
    for index, (number, file) in enumerate(images):
        row, column = divmod(index, columns)
        left, top = _GAP + column * wide, _GAP + row * high
        try:
            small = GeneratedImage.open(folder / file).image.convert("RGB")
        except MetadataError:
            small = None
        if small is not None:
            small.thumbnail((SIDE, SIDE))
            page.paste(small, (left + (SIDE - small.width) // 2, top + (SIDE - small.height) // 2))
        draw.text((left, top + SIDE + 2), str(number), fill="black")
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()
