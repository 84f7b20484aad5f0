"""Generated images: their description and saving (client/image.py)."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage, format_of
from lambdiff.errors import InvalidRequest, MetadataError, OutputError
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


def test_a_notebook_gets_the_bytes_of_the_file(client: Client) -> None:
    """PNG and JPEG are displayed as they are, and WebP as PNG, because not every notebook displays it."""
    png, jpeg, webp = (client.generate("a cat", seed=7, image_format=each) for each in ("png", "jpeg", "webp"))
    assert (png._repr_png_(), png._repr_jpeg_()) == (png.content, None)
    assert (jpeg._repr_png_(), jpeg._repr_jpeg_()) == (None, jpeg.content)
    shown = webp._repr_png_()
    assert shown is not None
    assert Image.open(io.BytesIO(shown)).tobytes() == webp.image.tobytes()
    assert [each.media_type for each in (png, jpeg, webp)] == ["image/png", "image/jpeg", "image/webp"]


def test_an_image_is_an_array(client: Client) -> None:
    """numpy gets (height, width, 3) bytes, in the type that it asks for, as a copy that may be changed."""
    image = client.generate("a cat", seed=7, width=128, height=64)
    pixels = np.asarray(image)
    assert (pixels.shape, pixels.dtype) == ((64, 128, 3), np.uint8)
    assert (pixels == pattern(7, 128, 64)).all()
    pixels[:] = 0
    assert np.asarray(image).any()
    assert np.asarray(image, dtype=np.float32).dtype == np.float32
    assert np.array(image, copy=True).shape == pixels.shape
    assert np.stack([image, image]).shape == (2, 64, 128, 3)
    assert Image.fromarray(np.asarray(image)).tobytes() == image.image.tobytes()
    with pytest.raises(ValueError, match="without copying"):
        np.asarray(image, copy=False)


@pytest.mark.parametrize(
    ("mode", "channels"), [("P", 3), ("L", 3), ("1", 3), ("I;16", 3), ("LA", 4), ("RGBA", 4), ("CMYK", 3)]
)
def test_other_kinds_of_pixels_become_colors(tmp_path: Path, mode: str, channels: int) -> None:
    """An opened image of any program is an array of colors, not of a palette's indexes."""
    path = tmp_path / ("any.jpg" if mode == "CMYK" else "any.png")
    Image.new("RGB", (64, 32), "white").convert("L" if mode == "I;16" else mode).convert(mode).save(path)
    pixels = np.asarray(GeneratedImage.open(path))
    assert (pixels.shape, pixels.dtype) == ((32, 64, channels), np.uint8)
    assert (pixels >= 250).all()


@pytest.mark.parametrize("name", ["cat.png", "cat.jpg", "cat.webp"])
def test_a_saved_image_can_be_opened(client: Client, tmp_path: Path, name: str) -> None:
    """An opened image has the bytes, the parameters and the model of the saved one, and can be saved again."""
    image = client.generate("a cat", seed=7, width=128, height=64)
    path = image.save(tmp_path / name)
    opened = GeneratedImage.open(str(path))
    assert opened.content == path.read_bytes()
    assert (opened.format, opened.size, opened.seed) == (format_of(name), (128, 64), 7)
    assert msgspec.structs.replace(opened.parameters, image_format="png") == image.parameters
    assert opened.model == image.model
    assert (opened.engine, opened.timings, opened.warnings, opened.cost) == ("", {}, [], None)
    assert repr(opened) == f"<GeneratedImage 128x64 {opened.format} seed=7 model='stub@r1'>"
    assert GeneratedImage.open(opened.save(tmp_path / "again.webp")).parameters.prompt == "a cat"


def test_images_of_other_tools_say_what_is_missing(tmp_path: Path) -> None:
    """Any image can be opened and shown; an error names the parameters that it does not record."""
    text = PngInfo()
    text.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Model: other")
    Image.new("RGB", (64, 32)).save(tmp_path / "other.png", pnginfo=text)
    other = GeneratedImage.open(tmp_path / "other.png")
    assert (other.size, other.seed, other.model) == ((64, 32), 42, "other")
    assert other.metadata.request.prompt == "a cat"
    with pytest.raises(MetadataError, match="does not record all of its parameters: width, height missing"):
        _ = other.parameters

    Image.new("RGBA", (64, 32)).save(tmp_path / "plain.png")
    plain = GeneratedImage.open(tmp_path / "plain.png")
    assert np.asarray(plain).shape == (32, 64, 4)
    assert repr(plain) == "<GeneratedImage 64x32 png seed=None>"
    assert plain.to_dict()["parameters"] is None
    for missing in ("seed", "parameters", "metadata"):
        with pytest.raises(MetadataError, match="no generation parameters"):
            getattr(plain, missing)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "not a PNG, JPEG or WebP image"),
        (b"GIF89a", "not a PNG, JPEG or WebP image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not a PNG, JPEG or WebP image"),
        (b"\x89PNG\r\n\x1a\n", "is damaged"),
        (b"\xff\xd8\xff\xe0", "is damaged"),
    ],
)
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing, foreign or truncated file raises `MetadataError`, whose exit code is that of a usage error."""
    path = tmp_path / "cat.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MetadataError, match=message):
        GeneratedImage.open(path)
