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
    scale = min(width / native_width, height / native_height)
    inner_width, inner_height = round(native_width * scale), round(native_height * scale)
    resized = Image.fromarray(pixels).resize((inner_width, inner_height), Image.Resampling.LANCZOS)
    extra_width, extra_height = width - inner_width, height - inner_height
    padding = (
        (extra_height // 2, extra_height - extra_height // 2),
        (extra_width // 2, extra_width - extra_width // 2),
        (0, 0),
    )
    verb = "upsampled" if scale > 1 else "downsampled"
    changes = [f"{verb} to {inner_width}x{inner_height}"] if scale != 1 else []
    if extra_width or extra_height:
        changes.append(f"padded at its edges to {width}x{height}")
    warning = f"The image was generated at {native_width}x{native_height} and {' and '.join(changes)}."
    return np.pad(np.asarray(resized), padding, mode="edge"), [warning]
