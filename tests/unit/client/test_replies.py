"""What an endpoint sends as a success is checked (client/replies.py, protocol/image_decoding.py, headers.py)."""

from __future__ import annotations

import json
import math
import time
import warnings
from typing import Any

import msgspec
import pytest
from PIL import Image

from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.errors import EndpointFailed
from lambdiff.protocol import metadata
from lambdiff.protocol.contract import GenerateRequest, ModelIdentity
from lambdiff.protocol.headers import MEDIA_TYPES
from lambdiff.protocol.http import HttpResponse
from lambdiff.protocol.image_decoding import MAX_SCANS, read_header
from support import hostile_images
from support.stub_engine import MANIFEST, StubEngine, pattern
from support.stub_transport import StubTransport

ASKED = GenerateRequest(prompt="a cat", width=64, height=64, seed=7)
REFUSED = list(hostile_images.refused())
HARMFUL = list(hostile_images.harmful())


def receive(content: bytes, request: GenerateRequest = ASKED, **headers: str) -> GeneratedImage:
    """Receive a reply with these headers; its content type is what was asked for."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = HttpResponse(200, {"content-type": MEDIA_TYPES[request.image_format], **named}, content)
    return GeneratedImage.from_reply(reply, request, 1.0)


def image(**changes: Any) -> bytes:
    """Return an image as the handler encodes it, for a request that differs from `ASKED` in these parameters."""
    request = msgspec.structs.replace(ASKED, **changes)
    generation = request.resolve(MANIFEST.defaults)
    identity = ModelIdentity(name="stub", revision="r", license="MIT")
    pixels = Image.fromarray(pattern(generation.seed, generation.width, generation.height))
    return metadata.encode(pixels, metadata.ImageMetadata.of(generation, identity))


@pytest.mark.parametrize(("name", "image_format", "content"), REFUSED, ids=[f"{n}, {f}" for n, f, _ in REFUSED])
def test_only_the_requested_format_and_size_are_decoded(
    monkeypatch: pytest.MonkeyPatch, name: str, image_format: Any, content: bytes
) -> None:
    """Anything else is an `EndpointFailed` without a warning, before Pillow allocates or starts anything for it."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EndpointFailed) as caught:
            receive(content, msgspec.structs.replace(ASKED, image_format=image_format))
    assert caught.value.fix
    assert "object at 0x" not in caught.value.message


@pytest.mark.parametrize(("name", "image_format", "content"), HARMFUL, ids=[f"{n}, {f}" for n, f, _ in HARMFUL])
def test_what_expands_or_is_damaged_does_no_harm(name: str, image_format: Any, content: bytes) -> None:
    """An image with hostile parts is either refused or has the requested size; it takes no time."""
    started = time.monotonic()
    try:
        assert receive(content, msgspec.structs.replace(ASKED, image_format=image_format)).size == (64, 64)
    except EndpointFailed as error:
        assert len(error.message) < 400
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_the_requested_image_is_accepted(image_format: Any) -> None:
    """An image of each format and of any allowed size is accepted, and a header tells its size."""
    for size in ((64, 64), (1024, 64), (256, 1024)):
        content = image(width=size[0], height=size[1], image_format=image_format)
        request = GenerateRequest(prompt="a cat", image_format=image_format)
        assert receive(content, request).size == read_header(content, image_format) == size
        assert receive(content, msgspec.structs.replace(request, width=size[0])).seed == 7
    for options in ({"progressive": True}, {"lossless": True}, {"interlace": 1}):
        assert receive(hostile_images.encoded(image_format, **options), request)


def test_progressive_images_have_fewer_scans_than_the_limit() -> None:
    """The limit of scans is far beyond what an encoder writes."""
    assert 5 < hostile_images.encoded("jpeg", progressive=True).count(b"\xff\xda") < MAX_SCANS / 5


@pytest.mark.parametrize("request_", [GenerateRequest(prompt="a cat"), GenerateRequest(prompt="a cat", width=1024)])
def test_a_default_size_is_limited(request_: GenerateRequest) -> None:
    """Without a requested size, the contract's largest is the limit."""
    with pytest.raises(EndpointFailed, match="at most 1024"):
        receive(hostile_images.encoded("png", (1024, 1032)), request_)


@pytest.mark.parametrize("kind", ["text/html", "image/jpeg", "image/svg+xml", "", "image/png, image/png", "\x1b[31m"])
def test_the_content_type_must_be_that_of_the_request(kind: str) -> None:
    """Another content type is an error that names it."""
    with pytest.raises(EndpointFailed, match="not image/png") as caught:
        GeneratedImage.from_reply(HttpResponse(200, {"content-type": kind}, image()), ASKED, 1.0)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "changes", [{"seed": 8}, {"prompt": "a dog"}, {"negative_prompt": "a dog"}, {"width": 72}, {"height": 72}]
)
def test_the_image_of_another_request_is_refused(changes: dict[str, Any]) -> None:
    """An image with another prompt, seed or size is an error, which quotes no prompt."""
    asked = msgspec.structs.replace(ASKED, negative_prompt="blurry")
    with pytest.raises(EndpointFailed) as caught:
        receive(image(**{"negative_prompt": "blurry", **changes}), asked)
    assert not {"a cat", "a dog", "blurry"} & set(str(caught.value).split("'"))
    assert receive(image(negative_prompt="blurry"), asked).warnings == []


def test_a_changed_parameter_is_a_warning() -> None:
    """Another number of steps, guidance scale or scheduler is accepted and named."""
    asked = msgspec.structs.replace(ASKED, num_inference_steps=4, guidance_scale=7, scheduler="euler")
    received = receive(image(num_inference_steps=2, guidance_scale=1.0, scheduler="ddim"), asked)
    assert received.warnings == [
        "The endpoint used `num_inference_steps=2` instead of 4.",
        "The endpoint used `guidance_scale=1.0` instead of 7.",
        "The endpoint used `scheduler=ddim` instead of euler.",
    ]


def test_the_seed_of_the_header_must_fit() -> None:
    """The header's seed is compared with the requested one, and with the one in the image."""
    with pytest.raises(EndpointFailed, match="its seed is 9, not 7"):
        receive(hostile_images.encoded("png"), lambdiff_seed="9")
    with pytest.raises(EndpointFailed, match="its seed is 7, not 9"):
        receive(image(), GenerateRequest(prompt="a cat"), lambdiff_seed="9")
    assert receive(hostile_images.encoded("png"), GenerateRequest(prompt="a cat"), lambdiff_seed="9").seed == 9


@pytest.mark.parametrize(
    "value", ["9" * 5_000, "-1", "4294967296", "1e3", "nan", "inf", "7.0", "0x7", "1_0", " 7", "\u0667", "", "7\x1b"]
)
def test_an_impossible_seed_is_ignored(value: str) -> None:
    """A header that is no seed counts as none: the seed in the image is used."""
    assert receive(image(), lambdiff_seed=value).seed == 7


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "-1", "1e999", "9" * 5_000, "1_0", "\u0667", "0x1", "", " ", "1;2", "\x1b[31m"]
)
def test_impossible_durations_are_ignored(value: str) -> None:
    """Durations that are no finite positive numbers do not reach the timings, the cost or JSON."""
    timing = f"denoise;dur=1500.0, load;dur={value}, \x1b[31m;dur=1, {'x' * 100};dur=1"
    reply = HttpResponse(200, {"content-type": "image/png", "server-timing": timing}, image())
    received = GeneratedImage.from_reply(reply, ASKED, 2.0, price=lambda seconds: seconds * 0.5)
    assert received.timings == {"denoise": 1.5, "total": 2.0}
    assert received.cost == 0.75
    assert math.isfinite(json.loads(json.dumps(received.to_dict(), allow_nan=False))["cost"])


def test_headers_are_safe_to_print() -> None:
    """Names and warnings from headers have no control characters, and are cut."""
    hostile = "\x1b]0;title\x07\x9b2J\u202e"
    received = receive(
        image(),
        lambdiff_model=hostile,
        lambdiff_engine=hostile + "x" * 60_000,
        lambdiff_warnings=json.dumps([hostile, "y" * 60_000] + ["z"] * 10_000),
        server_timing=", ".join(f"p{'a' * n};dur=1" for n in range(1, 1_000)),
    )
    texts = [received.model, received.engine, *received.warnings, repr(received), *received.timings]
    assert all(text.isprintable() and len(text) < 600 for text in texts)
    assert len(received.warnings) <= 20
    assert len(received.timings) <= 21


HEALTH = json.loads(StubTransport(StubEngine()).request("GET").body)


class Answering(StubTransport):
    """Answers every request with the same reply."""

    def __init__(self, body: bytes, content_type: str = "application/json") -> None:
        super().__init__(StubEngine())
        self.reply = HttpResponse(200, {"content-type": content_type}, body)

    def request(self, *_: object, **__: object) -> HttpResponse:
        return self.reply


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * 6_000_000, "application/json"),
        (json.dumps({**HEALTH, "cpu_features": ["avx2"] * 1_000_000}).encode(), "application/json"),
        (json.dumps({**HEALTH, "model": "x" * 6_000_000}).encode(), "application/json"),
        (json.dumps(HEALTH).encode()[:-1] + b', "threads": ' + b"9" * 5_000 + b"}", "application/json"),
        (json.dumps({**HEALTH, "defaults": {"\x1b]0;title\x07": 1}}).encode(), "application/json"),
        (json.dumps({**HEALTH, "limits": {"\x1b]0;title\x07": 1}}).encode(), "application/json"),
        (json.dumps({**HEALTH, "defaults": {**HEALTH["defaults"], "width": -1}}).encode(), "application/json"),
        (json.dumps({**HEALTH, "version": "\ud800"}).encode(), "application/json"),
        (json.dumps(HEALTH).encode(), "text/html"),
        (json.dumps(HEALTH).encode(), "\x1b[31m"),
        (b"\xff", "application/json"),
        (b"", "application/json"),
    ],
)  # fmt: skip
def test_a_hostile_health_report_is_an_error(body: bytes, kind: str) -> None:
    """A health report that is too large, malformed or of another type is an error that is safe to print."""
    with Client(transport=Answering(body, kind)) as client, pytest.raises(EndpointFailed) as caught:
        client.health()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_a_health_report_is_safe_to_print() -> None:
    """Names in a health report have no control characters."""
    model = {"name": "\x1b]0;title\x07", "revision": "\u202e", "license": "\x9b2J"}
    body = json.dumps({**HEALTH, "model": model, "version": "\x1b", "cpu_features": ["\x1b"], "precision": "\r"})
    with Client(transport=Answering(body.encode())) as client:
        assert repr(client.health()).isprintable()
        assert client.health().model.name == r"\x1b]0;title\x07"
