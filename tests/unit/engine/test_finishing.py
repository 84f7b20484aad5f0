"""Finishing an image to the requested size, as both engines do (engine/finishing.py)."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from lambdiff.engine.finishing import finish
from lambdiff.engine.manifest import Manifest
from lambdiff.protocol.contract import Defaults, GenerateRequest

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=1.0, width=64, height=64, scheduler="euler")
MANIFEST = Manifest(
    format=1, name="m", revision="1", license="MIT", engine="openvino", precision="f32", defaults=DEFAULTS, files=[]
)


def finish_request(pixels, manifest, **size):
    """Return the output of `finish` for a request of some size."""
    generation = GenerateRequest(prompt="x", seed=1, **size).resolve(DEFAULTS)
    return finish(pixels, generation, manifest, timings={"denoise": 1.0}, warnings=["first"])


def test_larger_images_are_cropped():
    """An image that was generated larger than requested is cropped without a warning."""
    pixels = np.arange(80 * 72 * 3, dtype=np.uint32).reshape(80, 72, 3).astype(np.uint8)
    output = finish_request(pixels, MANIFEST)
    assert np.array_equal(output.pixels, pixels[8:72, 4:68])
    assert (output.timings, output.warnings) == ({"denoise": 1.0}, ["first"])


@pytest.mark.parametrize(("width", "warnings"), [(64, 1), (128, 2)])
def test_images_of_a_native_size_are_resized(width, warnings):
    """If the model has a native size, the output has a resize phase, and a warning if the size changed."""
    native = msgspec.structs.replace(MANIFEST, native_size=(64, 64))
    output = finish_request(np.zeros((64, 64, 3), np.uint8), native, width=width, height=width)
    assert output.pixels.shape == (width, width, 3)
    assert list(output.timings) == ["denoise", "resize"]
    assert len(output.warnings) == warnings
