"""Converting decoded values to pixels of the requested size (engine/pixels.py)."""

from __future__ import annotations

import numpy as np
import pytest

from lambdiff.engine.pixels import crop, resize, to_pixels


def image(width, height):
    """Return an image in which adjacent values differ."""
    return np.arange(width * height * 3, dtype=np.uint64).reshape(height, width, 3).astype(np.uint8)


def test_to_pixels_rounds_and_clips():
    """Values from -1 to 1 become 0 to 255, rounded and clipped, with channels last."""
    decoded = np.array([-9, -1, -0.5, 0, 0.5, 1, 9, 0.999, -0.999], dtype=np.float32).reshape(1, 3, 1, 3)
    pixels = to_pixels(decoded)
    assert pixels.shape == (1, 3, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels[0, :, 0].tolist() == [0, 0, 64]
    assert pixels[0, :, 1].tolist() == [128, 191, 255]
    assert pixels[0, :, 2].tolist() == [255, 255, 0]


def test_crop_takes_the_center():
    """Cropping removes the same number of rows and columns on either side; an image of the right size is unchanged."""
    pixels = image(16, 12)
    assert (crop(pixels, 10, 8) == pixels[2:10, 3:13]).all()
    assert (crop(pixels, 16, 12) == pixels).all()


def test_an_image_of_the_right_size_is_not_resized():
    """Resizing to the same size returns the same pixels and no warning."""
    pixels = image(128, 128)
    resized, warnings = resize(pixels, 128, 128)
    assert resized is pixels
    assert warnings == []


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((512, 512), "upsampled to 512x512."),
        ((64, 64), "downsampled to 64x64."),
        ((512, 256), "upsampled to 256x256 and padded at its edges to 512x256."),
        ((64, 104), "downsampled to 64x64 and padded at its edges to 64x104."),
        ((128, 256), "padded at its edges to 128x256."),
    ],
)
def test_resize_gives_the_requested_size_and_describes_the_change(size, words):
    """Resizing keeps the aspect ratio, pads if necessary, and describes every change in a warning."""
    resized, warnings = resize(image(128, 128), *size)
    assert resized.shape == (size[1], size[0], 3)
    assert warnings == [f"The image was generated at 128x128 and {words}"]


def test_padding_repeats_the_edge():
    """Padding centers the image and repeats its outermost columns on both sides."""
    resized, _ = resize(image(8, 8), 20, 8)
    assert (resized[:, 6:14] == image(8, 8)).all()
    assert (resized[:, :6] == resized[:, 6:7]).all()
    assert (resized[:, 14:] == resized[:, 13:14]).all()


def test_a_flat_image_stays_flat():
    """Resampling adds no ringing to an image of a single color."""
    flat = np.full((128, 128, 3), 77, dtype=np.uint8)
    assert (resize(flat, 1024, 640)[0] == 77).all()
