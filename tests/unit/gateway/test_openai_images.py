"""OpenAI's images API, through the application, with the stub engine behind it."""

from __future__ import annotations

import base64
import io
import json
import typing

import numpy as np
import pytest
from openai.types import image_edit_params, image_generate_params
from PIL import Image
from starlette.testclient import TestClient

from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed
from lambdiff.gateway.app import make_app
from lambdiff.gateway.openai_fields import HONOURED, IGNORED, PICTURES, REFUSED
from lambdiff.gateway.settings import Settings
from support.stub_engine import WITH_PICTURES, StubEngine, pattern
from support.stub_transport import StubTransport

BASE = "http://127.0.0.1:9100"
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


def browser(engine=None, **settings):
    """Return a client of a gateway in front of an engine."""
    client = Client(transport=StubTransport(engine or StubEngine()))
    return TestClient(make_app(client, Settings(**settings)), base_url=BASE, raise_server_exceptions=False)


def pixels(datum):
    """Return the pixels of an image in a reply."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(datum["b64_json"]))).convert("RGB"))


def error_of(reply):
    """Return the error in a reply."""
    assert reply.headers["content-type"] == "application/json"
    return reply.json()["error"]


@pytest.mark.parametrize("kind", [image_generate_params, image_edit_params], ids=["generate", "edit"])
def test_every_field_of_the_sdk_is_honoured_ignored_or_refused(kind):
    """Whatever the SDK can send has a place in one of the tables."""
    names = [name for name in dir(kind) if name.startswith("Image") and name.endswith(("Base", "Streaming"))]
    fields = {field for name in names for field in typing.get_type_hints(getattr(kind, name))}
    assert len(fields) > 15
    assert fields <= {*HONOURED, *IGNORED, *REFUSED, *PICTURES, "background"}


def test_images_have_consecutive_seeds_and_the_requested_form():
    """`n`, `size`, `output_format` and our own parameters decide what comes back."""
    body = {"prompt": "a cat", "n": 3, "size": "64x128", "output_format": "webp", "seed": 7, "num_inference_steps": 1}
    reply = browser().post(GENERATIONS, json=body)
    document = reply.json()
    assert reply.status_code == 200, document
    assert (document["output_format"], document["size"], document["warnings"]) == ("webp", "64x128", [])
    assert [datum["seed"] for datum in document["data"]] == [7, 8, 9]
    assert all(pixels(datum).shape == (128, 64, 3) for datum in document["data"])


def test_auto_is_the_models_size_and_png_the_default():
    """Without a size, images have the model's; pixels are those that `Client` would give."""
    datum = browser().post(GENERATIONS, json={"prompt": "a cat", "size": "auto", "seed": 7}).json()["data"][0]
    assert (pixels(datum) == pattern(7, 64, 64)).all()


def test_what_has_no_effect_is_named():
    """Fields without a counterpart are named in the document and in a header."""
    body = {"prompt": "a cat", "quality": "hd", "style": "vivid", "user": "me", "model": "gpt-image-2", "seed": 1}
    reply = browser(StubEngine(warnings=("Mind the gap.",))).post(GENERATIONS, json=body)
    assert reply.json()["warnings"] == [
        "`quality` is ignored.",
        "`style` is ignored.",
        "`user` is ignored.",
        "`model` is ignored: this endpoint has stub only.",
        "Mind the gap.",
    ]
    assert json.loads(reply.headers["lambdiff-warnings"]) == reply.json()["warnings"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"size": "512"}, "size"),
        ({"size": "100x64"}, "size"),
        ({"size": "4096x4096"}, "size"),
        ({"response_format": "file"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"stream": "yes"}, "stream"),
        ({"partial_images": 2}, "partial_images"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"partial_images": 1, "stream": True}, "partial_images"),  # the stub has no previews
        ({"frame_count": 4}, "frame_count"),
        ({"seed": -1}, "seed"),
        ({"scheduler": "eular"}, "scheduler"),
        ({"image": "aGk="}, "image"),
        ({"promt": "x"}, "promt"),
    ],
)
def test_bad_fields_are_named(fields, param):
    """A bad field is `param` of an error in OpenAI's shape, and nothing is generated."""
    engine = StubEngine()
    reply = browser(engine).post(GENERATIONS, json={"prompt": "a cat", **fields})
    error = error_of(reply)
    assert (reply.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error
    assert engine.calls == 0


def test_links_expire_in_memory():
    """With `url`, a link leads to the image; other names lead nowhere."""
    page = browser(api_key="secret-key")
    key = {"authorization": "Bearer secret-key"}
    body = {"prompt": "a cat", "response_format": "url", "seed": 7}
    url = page.post(GENERATIONS, json=body, headers=key).json()["data"][0]["url"]
    assert url.startswith(f"{BASE}/v1/images/files/")
    image = page.get(url)
    assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
    assert page.get(f"{url}x").status_code == 404


def test_a_stream_ends_with_the_image():
    """With `stream`, the image is an event; a failure is an event, too."""
    lines = browser().post(GENERATIONS, json={"prompt": "a cat", "stream": True, "seed": 7}).text.splitlines()
    assert lines[0] == "event: image_generation.completed"
    assert (pixels(json.loads(lines[1].removeprefix("data: "))) == pattern(7, 64, 64)).all()
    failing = browser(StubEngine(error=EndpointFailed("It failed.")))
    lines = failing.post(GENERATIONS, json={"prompt": "a cat", "stream": True}).text.splitlines()
    assert lines[0] == "event: error"


def png(mode="RGB", color="red", size=(64, 64)):
    """Return a PNG file."""
    stream = io.BytesIO()
    Image.new(mode, size, color).save(stream, "PNG")
    return stream.getvalue()


class Recording(StubEngine):
    """Remembers the requests."""

    def generate(self, generation, on_step=None):
        self.last = generation
        return super().generate(generation, on_step)


def test_an_edit_has_a_start_image_and_a_mask_that_is_white_where_it_was_transparent():
    """Numbers come as text in forms; the transparent part of a mask is what is redrawn."""
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    engine = Recording(manifest=WITH_PICTURES)
    files = {"image": ("a.png", png()), "mask": ("m.png", stream.getvalue())}
    data = {"prompt": "a cat", "n": "1", "strength": "0.5", "seed": "7", "size": "64x64"}
    reply = browser(engine).post(EDITS, data=data, files=files)
    assert reply.status_code == 200, reply.text
    assert (engine.last.strength, engine.last.seed) == (0.5, 7)
    assert engine.last.image.pixels[0, 0].tolist() == [255, 0, 0]
    assert engine.last.mask.pixels[0].tolist() == [255] * 32 + [0] * 32


@pytest.mark.parametrize(
    ("files", "data", "param"),
    [
        ({}, {"image": "x"}, "image"),
        ({"mask": ("m.png", png("RGBA", (0, 0, 0, 0)))}, {}, "image"),
        ({"image": ("a.png", b"hello")}, {}, "image"),
        ({"image": ("a.png", png()), "mask": ("m.png", png())}, {}, "mask"),
    ],
)
def test_bad_pictures_are_named(files, data, param):
    """A missing or unusable picture is `param` of the error."""
    files = files or {"other": ("o.png", b"")}
    reply = browser(Recording(manifest=WITH_PICTURES)).post(EDITS, data={"prompt": "a cat", **data}, files=files)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == param


def test_a_model_without_start_images_says_so():
    """An edit at such a model is refused by the name of the field."""
    reply = browser().post(EDITS, data={"prompt": "a cat"}, files={"image": ("a.png", png())})
    assert (reply.status_code, error_of(reply)["param"]) == (400, "image")


def test_the_model_is_listed():
    """The endpoint's model is the only one."""
    page = browser()
    (model,) = page.get("/v1/models").json()["data"]
    assert (model["id"], model["object"]) == ("stub", "model")
    assert page.get("/v1/models/stub").json() == model
    assert error_of(page.get("/v1/models/other"))["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", GENERATIONS, {}, 405),
        ("POST", GENERATIONS, {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", GENERATIONS, {"content": b"[]", "headers": {"content-type": "application/json"}}, 400),
        ("POST", GENERATIONS, {"content": b"x"}, 415),
        ("POST", EDITS, {"json": {"prompt": "a"}}, 415),
        ("POST", GENERATIONS, {"content": b"x" * 10_000_000, "headers": {"content-type": "application/json"}}, 413),
    ],
)
def test_errors_have_openais_shape(method, path, options, status):
    """Whatever goes wrong, the reply is an error document."""
    reply = browser().request(method, path, **options)
    assert reply.status_code == status
    assert set(error_of(reply)) == {"message", "type", "param", "code"}


def test_failures_of_the_endpoint_are_server_errors_without_the_prompt(capsys):
    """A 5xx of the endpoint becomes one of the gateway; neither reply nor log repeats the prompt."""
    reply = browser(StubEngine(error=EndpointFailed("It failed."))).post(GENERATIONS, json={"prompt": "a secret cat"})
    assert reply.status_code == 502
    assert error_of(reply)["type"] == "server_error"
    assert "secret" not in reply.text + "".join(capsys.readouterr())


def test_images_of_an_hour_are_limited():
    """More images than allowed are refused, with the time after which to try again."""
    page = browser(max_images_per_hour=3)
    assert page.post(GENERATIONS, json={"prompt": "a", "n": 2}).status_code == 200
    reply = page.post(GENERATIONS, json={"prompt": "a", "n": 2})
    assert (reply.status_code, error_of(reply)["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(reply.headers["retry-after"]) <= 3_600
    assert page.post(GENERATIONS, json={"prompt": "a"}).status_code == 200
