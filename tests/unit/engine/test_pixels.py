"""Decoded values as pixels of the requested size."""

from __future__ import annotations

import numpy as np
import pytest

from lambdiff.engine.pixels import crop, fit, to_pixels


def picture(width, height):
    """A picture with a different value at every place."""
    return np.arange(width * height * 3, dtype=np.uint64).reshape(height, width, 3).astype(np.uint8)


def test_to_pixels_rounds_and_clips():
    """-1..1 becomes 0..255, rounded; what is outside is cut off, and channels come last."""
    decoded = np.array([-9, -1, -0.5, 0, 0.5, 1, 9, 0.999, -0.999], dtype=np.float32).reshape(1, 3, 1, 3)
    pixels = to_pixels(decoded)
    assert pixels.shape == (1, 3, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels[0, :, 0].tolist() == [0, 0, 64]
    assert pixels[0, :, 1].tolist() == [128, 191, 255]
    assert pixels[0, :, 2].tolist() == [255, 255, 0]


def test_crop_takes_the_middle():
    """As many rows and columns are cut off on either side; the right size is left alone."""
    pixels = picture(16, 12)
    assert (crop(pixels, 10, 8) == pixels[2:10, 3:13]).all()
    assert (crop(pixels, 16, 12) == pixels).all()


def test_the_right_size_is_left_alone():
    """No warning and the same pixels."""
    pixels = picture(128, 128)
    fitted, warnings = fit(pixels, 128, 128)
    assert fitted is pixels
    assert warnings == []


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((512, 512), "enlarged to 512x512."),
        ((64, 64), "reduced to 64x64."),
        ((512, 256), "enlarged to 256x256 and extended at its edges to 512x256."),
        ((64, 104), "reduced to 64x64 and extended at its edges to 64x104."),
        ((128, 256), "extended at its edges to 128x256."),
    ],
)
def test_fit_gives_the_requested_size_and_says_what_it_did(size, words):
    """The picture keeps its proportions; the warning tells every change."""
    fitted, warnings = fit(picture(128, 128), *size)
    assert fitted.shape == (size[1], size[0], 3)
    assert warnings == [f"The picture was drawn at 128x128 and {words}"]


def test_extension_repeats_the_edge():
    """The picture stands in the middle, its outermost columns to both sides."""
    fitted, _ = fit(picture(8, 8), 20, 8)
    assert (fitted[:, 6:14] == picture(8, 8)).all()
    assert (fitted[:, :6] == fitted[:, 6:7]).all()
    assert (fitted[:, 14:] == fitted[:, 13:14]).all()


def test_a_flat_picture_stays_flat():
    """Resampling adds no ringing where there is nothing to see."""
    flat = np.full((128, 128, 3), 77, dtype=np.uint8)
    assert (fit(flat, 1024, 640)[0] == 77).all()
