"""From a decoder's output to pixels of the requested size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


def to_pixels(decoded: NDArray[np.float32]) -> Pixels:
    """(1, 3, height, width) in -1..1 -> (height, width, 3) in 0..255, rounded."""
    levels = np.rint(np.clip(decoded[0] * 127.5 + 127.5, 0, 255))
    return np.ascontiguousarray(levels.transpose(1, 2, 0), dtype=np.uint8)


def crop(pixels: Pixels, width: int, height: int) -> Pixels:
    """The middle of a picture, (height, width, 3); the picture itself if it has that size."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def fit(pixels: Pixels, width: int, height: int) -> tuple[Pixels, list[str]]:
    """Bring a picture of a model's only size to the requested one, and say so.

    Lanczos resampling keeps the proportions, so that the whole picture is seen; where the requested picture is wider
    or taller, the outermost pixels are repeated on both sides, which suits the plain backgrounds such models draw.

    Returns:
        The pixels, shape (height, width, 3), and a warning unless the size was right already.
    """
    from PIL import Image

    own_height, own_width = pixels.shape[:2]
    if (own_width, own_height) == (width, height):
        return pixels, []
    scale = min(width / own_width, height / own_height)
    inner_width, inner_height = round(own_width * scale), round(own_height * scale)
    resized = Image.fromarray(pixels).resize((inner_width, inner_height), Image.Resampling.LANCZOS)
    across, down = width - inner_width, height - inner_height
    padding = ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
    verb = "enlarged" if scale > 1 else "reduced"
    changes = [f"{verb} to {inner_width}x{inner_height}"] if scale != 1 else []
    if across or down:
        changes.append(f"extended at its edges to {width}x{height}")
    warning = f"The picture was drawn at {own_width}x{own_height} and {' and '.join(changes)}."
    return np.pad(np.asarray(resized), padding, mode="edge"), [warning]
