"""Start images and masks as callers have them (client/pictures.py)."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import build_request, build_requests
from lambdiff.client.pictures import EncodedPicture, encode, encode_like
from lambdiff.errors import EndpointFailed, EndpointRefused, InvalidRequest
from lambdiff.handler.app import App
from lambdiff.protocol import metadata
from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpRequest, HttpResponse
from lambdiff.protocol.pictures import Picture
from support.stub_engine import MANIFEST, WITH_PICTURES, StubEngine

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (48, 64, 3), np.uint8)


class InProcess:
    """Sends requests to a handler, and keeps their bodies."""

    url = "in process"

    def __init__(self, app: App) -> None:
        self.app = app
        self.bodies: list[bytes] = []

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        self.bodies.append(body)
        return self.app.handle(HttpRequest(method=method, body=body), on_step)

    def close(self) -> None: ...


@pytest.fixture
def transport() -> InProcess:
    """A handler whose model takes pictures."""
    return InProcess(App(lambda: StubEngine(manifest=WITH_PICTURES)))


@pytest.fixture
def client(transport: InProcess) -> Client:
    """A client of this handler."""
    return Client(transport=transport)


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """Return a file's bytes."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def sent(text: str) -> np.ndarray:
    """Return the pixels of what is sent."""
    return Picture(text, "image").pixels


def test_every_source_gives_the_same_pixels(tmp_path: Path) -> None:
    """Paths, bytes, images and arrays give the same request."""
    path = tmp_path / "cat.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))
    opaque = np.dstack([PIXELS, np.full((48, 64), 255, np.uint8)])
    sources: list[Any] = [
        path, str(path), path.read_bytes(), bytearray(path.read_bytes()), Image.fromarray(PIXELS), PIXELS,
        PIXELS.astype(np.int64), PIXELS / 255, opaque, GeneratedImage.open(path),
    ]  # fmt: skip
    for source in sources:
        request = build_request(prompt="a", image=source)
        assert request.image is not None
        assert (sent(request.image) == PIXELS).all(), type(source)


def test_masks_may_be_boolean_arrays() -> None:
    """A mask of booleans or of numbers is white where it is true or 1."""
    mask = np.zeros((48, 64), bool)
    mask[:, 32:] = True
    for source in (mask, mask.astype(float), mask[..., None] * np.uint8(255)):
        text = build_request(prompt="a", image=PIXELS, mask=source).mask
        assert (Picture(text or "", "mask").pixels == mask * 255).all()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("nowhere.png", "cannot be read"),
        (b"GIF89a", "is not a PNG, JPEG or WebP image"),
        (b"", "is not a PNG, JPEG or WebP image"),
        (encoded(Image.fromarray(PIXELS))[:-900], "is damaged"),
        (
            encoded(Image.fromarray(PIXELS), save_all=True, append_images=[Image.new("RGB", (64, 48))]),
            "is an animation",
        ),
        (5, "must be a path"),
        (object(), "must be a path"),
        (np.zeros((2, 3, 5)), "must have the shape"),
        (np.zeros((0, 3)), "must be a path"),
        (np.full((2, 3), 1.5), "must have numbers in 0..1"),
        (np.full((2, 3), np.nan), "must have numbers in 0..1"),
        (np.full((2, 3), 256), "must have numbers in 0..1"),
        (encoded(Image.new("1", (16_000, 10_000))), "more than 150,000,000"),
        (encoded(Image.new("1", (20_000, 10_000))), "more than 150,000,000"),
    ],
)
def test_bad_sources_are_refused_by_name(source: Any, problem: str) -> None:
    """What is not a picture is named by its parameter, before anything is sent."""
    for name, fields in (("image", {}), ("mask", {"image": PIXELS})):
        with pytest.raises(InvalidRequest, match=problem) as refused:
            build_request(prompt="a", **{**fields, name: source})
        assert [field for field, _ in refused.value.problems] == [name]


def test_a_photo_is_turned_upright_and_loses_its_metadata() -> None:
    """The picture that is sent has no EXIF data, such as a position, and needs none to be upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    exif[0x010F] = "GPSCAMERA"
    photo = encoded(Image.fromarray(PIXELS), "JPEG", quality=95, exif=exif)
    assert b"GPSCAMERA" in photo
    request = build_request(prompt="a", image=photo)
    content = base64.b64decode(request.image or "")
    assert b"GPSCAMERA" not in content
    assert b"eXIf" not in content
    assert Image.open(io.BytesIO(content)).size == (48, 64)


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        ((3000, 2000), (None, None), (1024, 683)),
        ((2000, 3000), (512, None), (683, 1024)),
        ((3000, 2000), (768, 512), (768, 512)),
        ((3000, 2000), (512, 512), (768, 512)),
        ((300, 200), (512, 512), (300, 200)),
        ((300, 200), (None, None), (300, 200)),
        ((5000, 10), (None, None), (1024, 2)),
        ((9000, 90), (1024, 1024), (9000, 90)),
        ((9000, 900), (1024, 1024), (3238, 324)),
    ],
)
def test_pictures_are_scaled_down(size: tuple[int, int], given: Any, expected: tuple[int, int]) -> None:
    """A picture keeps its aspect ratio, covers the requested size, and has no more pixels than the largest image."""
    picture = encode(Image.new("RGB", size), "image", given)
    height, width, _ = sent(picture.text).shape
    assert (width, height) == expected
    assert width * height <= 1024 * 1025


def test_the_pictures_arrive(client: Client, transport: InProcess) -> None:
    """The image records strength and the hashes of what arrived, and its size follows from the start image."""
    mask = np.zeros((96, 192), np.uint8)
    image = client.generate("a", image=Image.new("RGB", (192, 96), "red"), strength=0.5, mask=mask, seed=7)
    assert image.parameters.strength == 0.5
    assert image.size == (128, 64) == (image.parameters.width, image.parameters.height)
    assert image.metadata.image_sha256 == encode(Image.new("RGB", (192, 96), "red"), "image").sha256
    assert image.metadata.mask_sha256 == encode(mask, "mask").sha256
    assert b"image_sha256" in image.content
    assert "Denoising strength: 0.5" in str(Image.open(io.BytesIO(image.content)).info["parameters"])
    assert image.warnings == []
    assert client.generate("a", image=PIXELS, seed=7).parameters.strength == 0.75
    assert len(transport.bodies) == 2


def test_many_requests_share_a_start_image(client: Client) -> None:
    """A shared picture is encoded once; a prompt may have its own; failures can be passed on again."""
    batch = client.generate_many(["a", {"prompt": "b", "image": PIXELS[::-1]}], image=PIXELS, strength=0.5, n=2, seed=1)
    first, _, other, _ = batch.images
    assert first.metadata.image_sha256 != other.metadata.image_sha256
    requests = build_requests(["a", "b"], {"image": PIXELS}, n=2)
    assert len({id(request["image"]) for request in requests}) == 1
    refused = Client(transport=InProcess(App(lambda: StubEngine(manifest=MANIFEST)))).generate_many(["a"], image=PIXELS)
    (failure,) = refused.failures
    assert isinstance(failure, Failure)
    assert isinstance(failure.request["image"], EncodedPicture)
    assert "iVBOR" not in repr(failure.request)
    assert len(client.generate_many([failure.request]).images) == 1
    own = client.generate_many([{"prompt": "a", "image": PIXELS}], strength=0.5)
    assert own.images[0].parameters.strength == 0.5


def test_models_without_an_encoder_say_so() -> None:
    """The error names the parameter and what adds an encoder, for small and for large pictures."""
    client = Client(transport=InProcess(App(lambda: StubEngine(manifest=MANIFEST))))
    assert client.health().limits.image == "unsupported"
    for side in (8, 512):
        with pytest.raises(EndpointRefused, match=r"\(422\): `image=` is not taken by this model.*lambdiff bake"):
            client.generate("a", image=RANDOM.integers(0, 256, (side, side, 3), np.uint8))


def test_the_image_of_another_start_image_is_refused(transport: InProcess) -> None:
    """A reply that was made from another start image is not returned."""

    class Swapping(InProcess):
        def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
            return super().request(method, build_request(prompt="a", image=PIXELS[::-1], seed=1).to_json(), on_step)

    with pytest.raises(EndpointFailed, match="`image=` is another one"):
        Client(transport=Swapping(transport.app)).generate("a", image=PIXELS, seed=1)


def test_an_earlier_image_tells_its_start_image(client: Client) -> None:
    """The hash agrees whether the size was given or followed from the start image; another picture has another hash."""
    photo = Image.fromarray(RANDOM.integers(0, 256, (800, 1200, 3), np.uint8))
    for fields in ({}, {"width": 96, "height": 64}):
        recorded = client.generate("a", image=photo, seed=1, **fields).metadata
        size = recorded.request.width, recorded.request.height
        _, same = encode_like(photo, "image", size, recorded.image_sha256)
        assert same
    _, same = encode_like(photo.rotate(180), "image", size, recorded.image_sha256)
    assert not same


def test_metadata_survives_another_format(client: Client, tmp_path: Path) -> None:
    """Strength and hashes are kept when an image is saved in another format, and are reusable with the start image."""
    image = client.generate("a", image=PIXELS, strength=0.6, seed=1)
    path = image.save(tmp_path / "a.jpg")
    recorded = metadata.read(path)
    assert (recorded.request.strength, recorded.image_sha256) == (0.6, image.metadata.image_sha256)
    again = client.generate(**recorded.reusable(), image=PIXELS)
    assert again.content == image.content
    with pytest.raises(InvalidRequest, match="`strength=` needs a start image"):
        client.generate(**recorded.reusable())
