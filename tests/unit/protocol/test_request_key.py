"""The key of an image: equal for equal requests, different for all others."""

from __future__ import annotations

import base64
import io

import msgspec
import pytest
from PIL import Image

from lambdiff.protocol.contract import Defaults, GenerateRequest, Generation, Limits
from lambdiff.protocol.pictures import WHITE, Picture
from lambdiff.protocol.request_key import request_key

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=2, width=256, height=256, scheduler="euler")
MODEL = "a" * 64
OTHERS = {
    "prompt": "a dog", "negative_prompt": "rain", "num_inference_steps": 5, "guidance_scale": 2.5, "width": 264,
    "height": 264, "seed": 8, "scheduler": "ddim", "sigma_schedule": "karras", "prompt_syntax": "a1111",
    "image": Picture(WHITE, "image"), "strength": 0.5, "mask": Picture(WHITE, "mask"), "image_format": "webp",
}  # fmt: skip


def generation(**fields) -> Generation:
    """Return a complete request with some fields changed."""
    return GenerateRequest.from_fields({"prompt": "a cat", "seed": 7, **fields}).resolve(DEFAULTS, Limits())


@pytest.mark.parametrize("name", Generation.__struct_fields__)
def test_every_field_changes_the_key(name):
    """Each field of a complete request counts."""
    changed = msgspec.structs.replace(generation(), **{name: OTHERS[name]})
    assert request_key(changed, MODEL) != request_key(generation(), MODEL)


def test_a_default_and_its_value_have_one_key():
    """A parameter that is left out counts as the model's default; an integer counts as the same float."""
    spelled_out = generation(num_inference_steps=4, guidance_scale=2, width=256, height=256, scheduler="euler")
    assert request_key(spelled_out, MODEL) == request_key(generation(), MODEL)


def test_a_picture_counts_with_its_pixels():
    """The same pixels in another file give the same key."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(stream, "WEBP", lossless=True)
    other = base64.b64encode(stream.getvalue()).decode()
    assert request_key(generation(image=other), MODEL) == request_key(generation(image=WHITE), MODEL)


def test_the_model_counts():
    """Another model gives another key, and a model without a digest none."""
    assert request_key(generation(), "b" * 64) != request_key(generation(), MODEL)
    with pytest.raises(ValueError, match="digest is empty"):
        request_key(generation(), "")
