"""From a decoder's output to pixels of the requested size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lambdiff.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


def to_pixels(decoded: NDArray[np.float32]) -> Pixels:
    """Convert (1, 3, height, width) in -1..1 to (height, width, 3) in 0..255, rounded and clipped.

    Raises:
        ModelError: some values are not numbers.
    """
    if not np.isfinite(decoded).all():
        raise ModelError(
            "The model's result contains values that are not numbers.",
            fix='Bake the model again, with `inference_precision="f32"` if it was baked without.',
        )
    levels = np.rint(np.clip(decoded[0] * 127.5 + 127.5, 0, 255))
    return np.ascontiguousarray(levels.transpose(1, 2, 0), dtype=np.uint8)


def crop(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the center of an image of shape (height, width, 3), cropped to `width` x `height` pixels."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def native_area(native: tuple[int, int], requested: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of an image that a model's native image fills: (left, top, width, height).

    Args:
        native: (width, height) that the model generates.
        requested: (width, height) of the image.
    """
    scale = min(requested[0] / native[0], requested[1] / native[1])
    width, height = round(native[0] * scale), round(native[1] * scale)
    return (requested[0] - width) // 2, (requested[1] - height) // 2, width, height


def resize(pixels: Pixels, width: int, height: int) -> tuple[Pixels, list[str]]:
    """Resize an image from a model's native size to the requested one, and describe the change.

    Lanczos resampling keeps the aspect ratio, so nothing is cut off. If the requested image is wider or taller, the
    outermost pixels are repeated on both sides; this suits the plain backgrounds that such models generate.

    Returns:
        The pixels, shape (height, width, 3), and a warning unless the size was already right.
    """
    from PIL import Image

    native_height, native_width = pixels.shape[:2]
    if (native_width, native_height) == (width, height):
        return pixels, []
    left, top, inner_width, inner_height = native_area((native_width, native_height), (width, height))
    resized = Image.fromarray(pixels).resize((inner_width, inner_height), Image.Resampling.LANCZOS)
    padding = ((top, height - inner_height - top), (left, width - inner_width - left), (0, 0))
    verb = "upsampled" if inner_width * inner_height > native_width * native_height else "downsampled"
    is_resized = (inner_width, inner_height) != (native_width, native_height)
    changes = [f"{verb} to {inner_width}x{inner_height}"] if is_resized else []
    if (inner_width, inner_height) != (width, height):
        changes.append(f"padded at its edges to {width}x{height}")
    warning = f"The image was generated at {native_width}x{native_height} and {' and '.join(changes)}."
    return np.pad(np.asarray(resized), padding, mode="edge"), [warning]
