"""Generated images: their description and saving (client/image.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lambdiff.client.client import Client
from lambdiff.errors import InvalidRequest, OutputError
from support.stub_engine import pattern


def test_an_image_describes_itself(client: Client) -> None:
    """An image has its pixels, seed, parameters, model, warnings and timings."""
    image = client.generate("a cat", seed=7, num_inference_steps=3, width=128, height=64)
    assert image.image.size == image.size == (128, 64)
    assert image.seed == 7
    assert image.parameters.prompt == "a cat"
    assert image.parameters.num_inference_steps == 3
    assert image.parameters.scheduler == "euler"
    assert image.metadata.exact
    assert image.model.startswith("stub")
    assert image.warnings == ["a warning with ünïcode"]
    assert {"load", "denoise", "compress", "total"} <= set(image.timings)
    assert repr(image).startswith("<GeneratedImage 128x64 png seed=7 model='stub")
    assert image.image.tobytes() == pattern(7, 128, 64).tobytes()


def test_an_image_is_saved_in_the_format_of_the_suffix(client: Client, tmp_path: Path) -> None:
    """The suffix determines the format; an unknown suffix, or an existing file without `force`, is refused."""
    image = client.generate("a cat", seed=7)
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")):
        assert Image.open(image.save(tmp_path / name)).format == kind
    with pytest.raises(OutputError):
        image.save(tmp_path / "a.png")
    with pytest.raises(InvalidRequest):
        image.save(tmp_path / "a.tiff")
    assert image._repr_png_() == image.content
