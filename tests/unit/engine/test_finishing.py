"""The last step of both engines."""

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


def finished(pixels, manifest, **size):
    """What `finish` returns for a request of some size."""
    generation = GenerateRequest(prompt="x", seed=1, **size).resolve(DEFAULTS)
    return finish(pixels, generation, manifest, timings={"denoise": 1.0}, warnings=["first"])


def test_larger_images_are_cropped():
    """Models that generate any size cut off what was generated in excess, without a warning."""
    pixels = np.arange(80 * 72 * 3, dtype=np.uint32).reshape(80, 72, 3).astype(np.uint8)
    output = finished(pixels, MANIFEST)
    assert np.array_equal(output.pixels, pixels[8:72, 4:68])
    assert (output.timings, output.warnings) == ({"denoise": 1.0}, ["first"])


@pytest.mark.parametrize(("width", "warnings"), [(64, 1), (128, 2)])
def test_native_sizes_are_resized(width, warnings):
    """Models with a native size add the time of resizing, and a warning if the size changed."""
    native = msgspec.structs.replace(MANIFEST, native_size=(64, 64))
    output = finished(np.zeros((64, 64, 3), np.uint8), native, width=width, height=width)
    assert output.pixels.shape == (width, width, 3)
    assert list(output.timings) == ["denoise", "resize"]
    assert len(output.warnings) == warnings
