"""The handler with the stub engine: images, problem documents, deadlines and logs (handler/app.py)."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from lambdiff.engine.manifest import Approximations
from lambdiff.errors import Cancelled, MissingExtra, ModelError
from lambdiff.handler.app import App
from lambdiff.protocol import contract, metadata
from lambdiff.protocol.headers import (
    ENGINE_HEADER,
    MAX_WARNINGS_HEADER,
    MODEL_HEADER,
    PROBLEM_JSON,
    SEED_HEADER,
    TIMING_HEADER,
    WARNINGS_HEADER,
    decode_timings,
    decode_warnings,
)
from lambdiff.protocol.http import HttpRequest, HttpResponse
from support.stub_engine import MANIFEST, WITH_PICTURES, StubEngine, pattern


def post(app: App, body: Any = None, **changes: Any) -> HttpResponse:
    """Send a POST; a body other than bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps({"prompt": "a cat"} if body is None else body).encode()
    headers = {"content-type": "application/json"}
    return app.handle(HttpRequest(**{"method": "POST", "headers": headers, "body": content, **changes}))


def problem(response: HttpResponse) -> dict[str, Any]:
    """Return the problem document of a response, after checking that it is one."""
    assert response.content_type == PROBLEM_JSON
    document: dict[str, Any] = json.loads(response.body)
    assert document["status"] == response.status
    return document


def test_a_prompt_becomes_an_image() -> None:
    """The pixels are the engine's; headers and metadata describe how they were generated."""
    engine = StubEngine(warnings=("The prompt was cut.",))
    response = post(App(lambda: engine), {"prompt": "a cat", "seed": 7, "width": 128})
    assert response.status == 200
    assert response.content_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(response.body))), pattern(7, 128, 64))
    assert response.headers[SEED_HEADER] == "7"
    assert response.headers[MODEL_HEADER] == "stub@r1"
    assert response.headers[ENGINE_HEADER] == "stub f32"
    assert decode_warnings(response.headers[WARNINGS_HEADER]) == ["The prompt was cut."]
    timings = decode_timings(response.headers[TIMING_HEADER])
    assert list(timings) == ["queue", "load", "encode", "denoise", "decode", "compress"]
    recorded = metadata.read(response.body)
    assert (recorded.generation.seed, recorded.generation.width, recorded.model) == (7, 128, "stub")


@pytest.mark.parametrize(("name", "pillow"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_image_formats(name: str, pillow: str) -> None:
    """Bytes, content type and metadata have the requested format."""
    response = post(App(StubEngine), {"prompt": "a cat", "image_format": name})
    assert response.content_type == f"image/{name}"
    assert Image.open(io.BytesIO(response.body)).format == pillow
    assert metadata.read(response.body).generation.image_format == name


def test_the_engine_is_opened_and_loaded_once() -> None:
    """A second request uses the loaded engine, and its timings contain no load phase."""
    opened = []
    app = App(lambda: opened.append(StubEngine()) or opened[-1])  # type: ignore[func-returns-value]
    post(app)
    second = post(app)
    assert len(opened) == 1
    assert "load" not in decode_timings(second.headers[TIMING_HEADER])


def test_health_does_not_load_the_weights() -> None:
    """`GET /` describes the model without loading its weights."""
    engine = StubEngine()
    response = App(lambda: engine).handle(HttpRequest(method="GET"))
    health = json.loads(response.body)
    assert response.status == 200
    assert health["status"] == "ok"
    model = {"name": "stub", "revision": "r1", "license": "MIT", "digest": engine.manifest.digest}
    assert health["model"] == model
    assert health["defaults"]["scheduler"] == "euler"
    assert health["limits"]["max_size"] == 512
    assert (health["loaded"], engine.loads) == (False, 0)


@pytest.mark.parametrize("content_type", [None, "application/json", "Application/JSON; charset=utf-8"])
def test_the_content_type_may_be_missing(content_type: str | None) -> None:
    """A request without a content type is accepted, because clients from tutorials send none."""
    headers = {} if content_type is None else {"content-type": content_type}
    assert post(App(StubEngine), headers=headers).status == 200


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"path": "/health"}, 404, "not-found"),
        ({"path": "//"}, 404, "not-found"),
        ({"method": "HEAD"}, 405, "method-not-allowed"),
        ({"method": "DELETE"}, 405, "method-not-allowed"),
        ({"body": b"x" * (contract.MAX_BODY + 1)}, 413, "payload-too-large"),
        ({"headers": {"content-type": "text/plain"}}, 415, "unsupported-media-type"),
        ({"headers": {"content-type": ""}}, 415, "unsupported-media-type"),
        ({"body": b"{"}, 400, "malformed-request"),
        ({"body": b""}, 400, "malformed-request"),
        ({"body": b"{}"}, 422, "invalid-value"),
        ({"body": b'{"prompt":"a","width":1024}'}, 422, "invalid-value"),
    ],
)
def test_bad_requests_get_a_problem_document(changes: dict[str, Any], status: int, slug: str) -> None:
    """Each kind of mistake has its own status and problem type, and the engine is not loaded."""
    engine = StubEngine()
    response = post(App(lambda: engine), **changes)
    assert response.status == status
    assert problem(response)["type"].endswith(f":{slug}")
    assert engine.loads == 0
    if status == 405:
        assert response.headers["allow"] == "GET, POST"


def test_thousands_of_bad_fields_get_a_short_response() -> None:
    """The problem document lists only the first invalid fields."""
    response = post(App(StubEngine), {f"f{index}": 1 for index in range(5_000)})
    assert response.status == 422
    assert len(response.body) < 10_000


def test_a_500_reveals_no_internals() -> None:
    """The response contains neither message nor traceback; the log has the error's type and frames but no message."""
    entries: list[dict[str, Any]] = []
    secret = "prompt text in /internal/path"
    app = App(lambda: StubEngine(error=RuntimeError(secret)), write_log=entries.append)
    response = post(app, {"prompt": secret}, request_id="id-1")
    assert response.status == 500
    assert "id-1" in problem(response)["detail"]
    assert secret not in response.body.decode()
    logged = json.dumps(entries)
    assert secret not in logged
    assert entries[0]["level"] == "ERROR"
    assert entries[0]["failure"][0] == "RuntimeError"
    assert any("stub_engine.py" in line for line in entries[0]["failure"])


@pytest.mark.parametrize("error", [ModelError("No model.", fix="Bake one."), MissingExtra("The engine", "local")])
def test_a_model_that_cannot_be_loaded_is_a_503(error: Exception) -> None:
    """The response contains the fix, and the next request tries to load the model again."""
    engine = StubEngine(load_error=error)
    app = App(lambda: engine)
    response = post(app)
    assert response.status == 503
    assert error.fix in problem(response)["detail"]  # type: ignore[attr-defined]
    engine.load_error = None
    assert post(app).status == 200


def test_opening_the_engine_is_retried() -> None:
    """If opening the engine fails, the next request opens it again."""
    engines: list[Any] = [ModelError("No model."), StubEngine()]

    def open_engine() -> StubEngine:
        if isinstance(first := engines.pop(0), Exception):
            raise first
        return first

    app = App(open_engine)
    assert [post(app).status, post(app).status] == [503, 200]


def test_callers_in_the_same_process_get_exceptions() -> None:
    """With `raise_errors`, errors are raised to the caller; invalid requests still get problem documents."""
    app = App(lambda: StubEngine(load_error=MissingExtra("The engine", "local")), raise_errors=True)
    with pytest.raises(MissingExtra):
        post(app)
    assert post(app, {}).status == 422
    with pytest.raises(ZeroDivisionError):
        post(App(lambda: StubEngine(error=ZeroDivisionError()), raise_errors=True))


def test_a_response_over_six_megabytes_suggests_a_smaller_one() -> None:
    """A response that exceeds Lambda's limit is replaced by a problem document that suggests JPEG."""
    engine = StubEngine(noise=(1600, 1000))
    response = post(App(lambda: engine))
    assert response.status == 500
    assert problem(response)["type"].endswith(":reply-too-large")
    assert "jpeg" in problem(response)["detail"]
    assert post(App(lambda: engine), {"prompt": "a", "image_format": "jpeg"}).status == 200


def test_the_caller_can_cancel() -> None:
    """`on_step` is called after every step, and cancels the generation by returning True."""
    engine = StubEngine()
    seen: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> bool:
        seen.append((done, total))
        return done == 2

    app = App(lambda: engine)
    with pytest.raises(Cancelled):
        app.handle(HttpRequest(method="POST", body=b'{"prompt":"a","num_inference_steps":5}'), on_step)
    assert seen == [(1, 5), (2, 5)]
    assert post(app).status == 200


class FakeClock:
    """A monotonic clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def test_a_response_is_sent_before_the_deadline() -> None:
    """An image that would not be ready in time is cancelled and answered with a problem document."""
    clock = FakeClock()
    engine = StubEngine(before_step=lambda: clock.advance(1))
    app = App(lambda: engine, clock=clock)
    response = post(app, {"prompt": "a", "num_inference_steps": 100}, deadline=clock() + 20)
    assert response.status == 502
    assert problem(response)["type"].endswith(":timed-out")
    assert engine.steps == 19  # the soft deadline is 1.5 s before the other one
    assert clock() < 1_020


@pytest.mark.parametrize(("seconds", "steps"), [(2, 2), (4, 3), (8, 7), (60, 59)])
def test_the_margin_before_the_deadline_is_limited(seconds: float, steps: int) -> None:
    """The margin is a quarter of the remaining time, and at most 1.5 seconds."""
    clock = FakeClock()
    engine = StubEngine(before_step=lambda: clock.advance(1))
    post(App(lambda: engine, clock=clock), {"prompt": "a", "num_inference_steps": 100}, deadline=clock() + seconds)
    assert engine.steps == steps


def test_waiting_for_another_image_counts_against_the_deadline() -> None:
    """A request that waits too long for another image gets a problem document, and the other one continues."""
    started, finish = threading.Event(), threading.Event()
    engine = StubEngine(before_step=lambda: started.set() or finish.wait(60))
    app = App(lambda: engine)
    responses: list[HttpResponse] = []
    first = threading.Thread(target=lambda: responses.append(post(app)))
    first.start()
    assert started.wait(60)
    late = post(app, deadline=time.monotonic() + 0.2)
    finish.set()
    first.join()
    assert (late.status, problem(late)["type"].rpartition(":")[2]) == (502, "timed-out")
    assert [response.status for response in responses] == [200]
    assert engine.calls == 1


def test_time_in_transit_counts_as_queue() -> None:
    """The queue phase begins when the Function URL receives the request, unless that time is in the future."""
    response = post(App(StubEngine), sent_at=time.time() - 2)
    assert decode_timings(response.headers[TIMING_HEADER])["queue"] == pytest.approx(2, abs=0.5)
    response = post(App(StubEngine), sent_at=time.time() + 1000)
    assert decode_timings(response.headers[TIMING_HEADER])["queue"] < 0.5


def test_headers_are_short_printable_ascii() -> None:
    """Header values are printable ASCII of limited length, whatever manifest and warnings contain."""
    manifest = msgspec.structs.replace(MANIFEST, name="mödel\r\nset-cookie: a=b", revision="x" * 500)
    response = post(App(lambda: StubEngine(manifest=manifest, warnings=("zwölf\r\n",))))
    assert response.status == 200
    for name, value in response.headers.items():
        assert (name + value).isascii()
        assert (name + value).isprintable()
        assert len(value) <= MAX_WARNINGS_HEADER


def test_the_log_has_the_parameters_and_no_prompt() -> None:
    """The log line of a request contains its parameters and timings, but no text from the caller."""
    entries: list[dict[str, Any]] = []
    engine = StubEngine(warnings=("ignored: purple elephant",))
    app = App(lambda: engine, write_log=entries.append)
    post(app, {"prompt": "purple elephant", "negative_prompt": "green giraffe", "seed": 3}, request_id="id-7")
    post(app, {"prompt": 5, "purple elephant": 1, "seed": -1})
    logged = json.dumps(entries)
    assert "elephant" not in logged
    assert "giraffe" not in logged
    assert entries[0]["request_id"] == "id-7"
    assert entries[0]["parameters"]["prompt_characters"] == 15
    assert entries[0]["parameters"]["seed"] == 3
    assert entries[0]["timings"].keys() >= {"queue", "denoise", "compress"}
    assert entries[1]["problem"] == "invalid-value"
    assert entries[1]["fields"] == ["?", "prompt", "seed"]


def test_invoke_returns_a_lambda_response() -> None:
    """`invoke` returns a dictionary in Lambda's format, even for something that is not an event."""
    app = App(StubEngine)
    reply = app.invoke({"requestContext": {"http": {"method": "POST"}}, "body": '{"prompt": "a cat"}'})
    assert (reply["statusCode"], reply["isBase64Encoded"]) == (200, True)
    assert base64.b64decode(reply["body"]).startswith(b"\x89PNG")
    reply = app.invoke("nonsense")
    assert (reply["statusCode"], reply["isBase64Encoded"]) == (400, False)
    assert json.loads(reply["body"])["errors"][0]["field"] == "event"


def test_warming_up_runs_one_step() -> None:
    """`warm_up` loads the engine and generates an image with one step."""
    engine = StubEngine()
    App(lambda: engine).warm_up()
    assert (engine.loaded, engine.steps) == (True, 1)


def test_warming_up_with_approximations_runs_every_step() -> None:
    """With approximations, steps run different graphs, so `warm_up` runs all of the default steps."""
    engine = StubEngine(manifest=msgspec.structs.replace(MANIFEST, approximations=Approximations(deepcache_interval=2)))
    App(lambda: engine).warm_up()
    assert engine.steps == MANIFEST.defaults.num_inference_steps > 1


def with_picture(image: Image.Image, **fields: Any) -> dict[str, Any]:
    """Return a request with a start image."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"prompt": "a cat", "image": base64.b64encode(stream.getvalue()).decode(), **fields}


def test_pictures_are_not_logged() -> None:
    """The log has the pictures' sizes, and neither their content nor their hashes; other requests have no entry."""
    entries: list[dict[str, Any]] = []
    app = App(lambda: StubEngine(manifest=WITH_PICTURES), write_log=entries.append)
    random = Image.effect_noise((320, 200), 64).convert("RGB")
    body = with_picture(random, strength=0.5)
    response = post(app, body | {"mask": body["image"]})
    assert response.status == 200
    logged = entries[0]["parameters"]
    assert (logged["image"], logged["mask"], logged["strength"]) == ("320x200", "320x200", 0.5)
    sha256 = metadata.read(response.body).image_sha256
    assert len(json.dumps(entries[0])) < 1_500
    assert sha256 not in json.dumps(entries[0])
    post(app, body | {"image": body["image"][:-400]})
    assert (entries[1]["fields"], len(json.dumps(entries[1])) < 500) == (["image"], True)
    post(app)
    assert not {"image", "mask", "strength"} & entries[2]["parameters"].keys()


def test_only_models_that_take_pictures_accept_large_bodies() -> None:
    """Others answer 422 for a picture of any size; a body without one is limited as before, at all of them."""
    engine = StubEngine(manifest=WITH_PICTURES)
    random = with_picture(Image.effect_noise((1024, 1024), 64).convert("RGB"), width=64, height=64)
    assert len(json.dumps(random)) > 10 * contract.MAX_BODY
    assert post(App(lambda: engine), random).status == 200
    refused = post(App(StubEngine), random)
    assert (refused.status, [error["field"] for error in problem(refused)["errors"]]) == (422, ["image"])
    for app in (App(StubEngine), App(lambda: engine)):
        assert post(app, {"prompt": "a cat", "negative_prompt": " " * contract.MAX_BODY}).status == 413
    assert engine.calls == 1


def test_a_model_may_need_pictures() -> None:
    """A model that fills in parts of images refuses a prompt alone, and names what is missing."""
    limits = msgspec.structs.replace(MANIFEST.limits, image="required", mask="required")
    app = App(lambda: StubEngine(manifest=msgspec.structs.replace(MANIFEST, limits=limits)))
    assert [error["field"] for error in problem(post(app))["errors"]] == ["image", "mask"]
    body = with_picture(Image.new("RGB", (64, 64)))
    assert post(app, body | {"mask": body["image"]}).status == 200


def test_pixels_outside_of_the_mask_stay() -> None:
    """What is black in the mask has the start image's pixels, and gray blends both images."""
    start = Image.effect_noise((64, 64), 64).convert("RGB")
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 20:40], mask[:, 40:] = 51, 255
    body = with_picture(start, seed=7) | {"mask": with_picture(Image.fromarray(mask))["image"]}
    response = post(App(lambda: StubEngine(manifest=WITH_PICTURES)), body)
    pixels = np.asarray(Image.open(io.BytesIO(response.body))).astype(int)
    original, generated = np.asarray(start).astype(int), pattern(7, 64, 64).astype(int)
    assert (pixels[:, :20] == original[:, :20]).all()
    assert (pixels[:, 40:] == generated[:, 40:]).all()
    blended = 0.8 * original + 0.2 * generated
    assert np.abs(pixels - blended)[:, 20:40].max() <= 1


def test_models_that_need_pictures_warm_up() -> None:
    """A warm-up has the pictures that the model needs, in the default size."""
    limits = msgspec.structs.replace(MANIFEST.limits, image="required", mask="required")
    engine = StubEngine(manifest=msgspec.structs.replace(MANIFEST, limits=limits))
    App(lambda: engine).warm_up()
    assert engine.calls == 1
