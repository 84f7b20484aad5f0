"""The handler under AWS's Lambda runtime client, and under AWS's runtime interface emulator."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lambdiff.protocol import metadata
from lambdiff.protocol.headers import PROBLEM_JSON, decode_timings
from support import tiny_pipeline
from support.runtime_api import EmulatedFunction, Function, FunctionError, FunctionTimeout
from support.stub_engine import pattern

pytestmark = pytest.mark.slow

STUB = "support.lambda_stub.handler"
Start = Callable[..., Any]
BOTH = pytest.mark.parametrize("start", [Function, pytest.param(EmulatedFunction, marks=pytest.mark.linux)])


def event(body: Any = None, *, encode: bool = False, method: str = "POST", **fields: Any) -> dict[str, Any]:
    """Return a Function URL event for a request."""
    text = json.dumps({"prompt": "a cat", **fields}) if body is None else body
    return {
        "version": "2.0",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": method, "path": "/"}, "timeEpoch": int(time.time() * 1000)},
        "body": base64.b64encode(text.encode()).decode() if encode else text,
        "isBase64Encoded": encode,
    }


def image_of(reply: dict[str, Any]) -> bytes:
    """Return the image's bytes in a successful response."""
    assert reply["statusCode"] == 200, reply
    assert reply["isBase64Encoded"]
    assert reply["headers"]["content-type"].startswith("image/")
    return base64.b64decode(reply["body"])


def slug(reply: dict[str, Any]) -> str:
    """Return the kind of a problem document, after checking that it is one."""
    document = json.loads(reply["body"])
    assert reply["headers"]["content-type"] == PROBLEM_JSON
    assert document["status"] == reply["statusCode"]
    return str(document["type"].rpartition(":")[2])


@BOTH
def test_both_encodings_of_a_body_give_the_same_image(start: Start) -> None:
    """A body as text and the same body as base64 give the same image, and the health document works, too."""
    with start(STUB) as function:
        content = image_of(function.invoke(event(seed=3)))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pattern(3, 64, 64))
        assert image_of(function.invoke(event(seed=3, encode=True))) == content
        health = function.invoke(event(method="GET"))
        assert json.loads(health["body"])["loaded"] is True


@BOTH
def test_an_exception_is_a_500_without_details_and_the_function_survives(start: Start) -> None:
    """An exception becomes a 500; log and response contain neither the prompt nor the exception's message."""
    with start(STUB, STUB=json.dumps({"error": "purple elephant"})) as function:
        reply = function.invoke(event(prompt="purple elephant"))
        assert (reply["statusCode"], slug(reply)) == (500, "internal-error")
        assert function.invoke(event(method="GET"))["statusCode"] == 200
        entries = [json.loads(line) for line in _lines(function, 2) if line.startswith("{")]
        assert "elephant" not in function.log + reply["body"]
        failed = next(entry for entry in entries if entry["status"] == 500)
        assert failed["failure"][0] == "RuntimeError"
        assert failed["request_id"] == reply["headers"]["lambdiff-request-id"]


@BOTH
def test_the_deadline_comes_from_lambda(start: Start) -> None:
    """A generation that takes too long gets a problem document before Lambda kills the function."""
    with start(STUB, timeout=4, STUB=json.dumps({"step_seconds": 0.1})) as function:
        reply = function.invoke(event(num_inference_steps=100))
        assert (reply["statusCode"], slug(reply)) == (502, "timed-out")
        image_of(function.invoke(event(num_inference_steps=1)))


def test_a_step_that_outlasts_the_timeout_is_killed() -> None:
    """A step that takes longer than the function's timeout cannot be interrupted, so Lambda kills the function."""
    with Function(STUB, timeout=1, STUB=json.dumps({"step_seconds": 60})) as function:
        with pytest.raises(FunctionTimeout):
            function.invoke(event())


@pytest.mark.linux
def test_the_emulator_replaces_a_function_that_timed_out() -> None:
    """The emulator kills a function that exceeds its timeout, and a new process handles the next event."""
    with EmulatedFunction(STUB, timeout=3, STUB=json.dumps({"step_seconds": 60})) as function:
        assert "Task timed out after 3.00 seconds" in function.invoke(event())
        assert function.invoke(event(method="GET"))["statusCode"] == 200


@BOTH
def test_a_response_over_six_megabytes_is_a_problem_document(start: Start) -> None:
    """A response over Lambda's limit becomes a problem document, because Lambda's own error would not explain it."""
    with start(STUB, STUB=json.dumps({"noise": [1600, 1000]})) as function:
        reply = function.invoke(event())
        assert (reply["statusCode"], slug(reply)) == (500, "reply-too-large")
        assert len(image_of(function.invoke(event(image_format="jpeg")))) > 1_000_000


@pytest.mark.linux
def test_the_largest_response_passes_the_emulator() -> None:
    """A response that just fits by lambdiff's estimate passes: 4.6 MB of noise, which Lambda counts as 6.1 MB."""
    with EmulatedFunction(STUB, STUB=json.dumps({"noise": [1540, 1000]})) as function:
        assert len(image_of(function.invoke(event()))) > 4_600_000


def test_a_failure_at_init_is_reported() -> None:
    """The runtime client reports an import that fails and a handler that does not exist."""
    with Function(STUB, STUB=json.dumps({"fail_at_import": True})) as function, pytest.raises(FunctionError) as error:
        function.invoke(event())
    assert error.value.type == "OSError"
    with Function("support.lambda_stub.nothing") as function, pytest.raises(FunctionError, match="nothing"):
        function.invoke(event())


@BOTH
def test_the_function_survives_hostile_events(start: Start) -> None:
    """Anything that is not a valid event gets a 400, and the process handles the next event."""
    with start(STUB) as function:
        for hostile in (None, [], "x", {}, {"Records": []}, event(body="\ud800"), event(body="{")):
            assert function.invoke(hostile)["statusCode"] == 400
        image_of(function.invoke(event()))


def test_a_missing_model_is_a_503_with_a_fix() -> None:
    """Without a model, the real entry point returns a 503 that names LAMBDIFF_MODEL_DIR."""
    with Function("lambdiff.handler.function.handler", LAMBDIFF_MODEL_DIR="/nonexistent") as function:
        reply = function.invoke(event())
        assert (reply["statusCode"], slug(reply)) == (503, "model-unavailable")
        assert "LAMBDIFF_MODEL_DIR" in reply["body"]


@pytest.mark.engine
@pytest.mark.linux
def test_the_real_entry_point_with_a_real_engine() -> None:
    """The entry point with a baked model works under the emulator, and the same seed gives the same bytes."""
    environment = {"LAMBDIFF_MODEL_DIR": str(tiny_pipeline.baked())}
    with EmulatedFunction("lambdiff.handler.function.handler", **environment) as function:
        assert json.loads(function.invoke(event(method="GET"))["body"])["loaded"] is False
        first = function.invoke(event(prompt="a cat in the top hat", seed=5))
        generation = metadata.read(image_of(first)).generation
        assert (generation.prompt, generation.seed) == ("a cat in the top hat", 5)
        assert "load" in decode_timings(first["headers"]["server-timing"])
        second = function.invoke(event(prompt="a cat in the top hat", seed=5))
        assert image_of(second) == image_of(first)
        assert "load" not in decode_timings(second["headers"]["server-timing"])
        assert "top hat" not in function.log


def actions(function: Function) -> list[str]:
    """Return the actions that `watched_function` has logged so far."""
    entries = [json.loads(line) for line in function.log.splitlines() if line.startswith("{")]
    return [entry["action"] for entry in entries if "action" in entry]


@pytest.mark.engine
def test_with_snapstart_everything_is_loaded_before_the_snapshot() -> None:
    """Before the snapshot the model is loaded and generates an image; afterwards no request loads, and seeds differ."""
    model = str(tiny_pipeline.baked())
    with Function("support.watched_function.handler", timeout=120, snapshot=True, LAMBDIFF_MODEL_DIR=model) as function:
        function.wait_for("/restore/next")
        before = actions(function)
        assert before.count("compile") == 3
        assert {"text_encoder", "unet", "decoder"} <= set(before)
        function.restore()
        replies = [function.invoke(event(num_inference_steps=1)) for _ in range(2)]
        assert json.loads(function.invoke(event(method="GET"))["body"])["loaded"] is True
        assert actions(function).count("compile") == 3
    assert function.calls[:2] == ["/restore/next", "/invocation/next"]
    assert all("load" not in decode_timings(reply["headers"]["server-timing"]) for reply in replies)
    assert len({reply["headers"]["lambdiff-seed"] for reply in replies}) == 2


def test_two_restores_of_one_snapshot_get_different_seeds() -> None:
    """Two restores share all state, including random generators, but get different seeds from the operating system."""
    options = json.dumps({"step_seconds": 0.5})  # the first one is busy when the second request arrives
    with Function("support.twice_restored.handler", snapshot=True, STUB=options) as function:
        function.restore()
        function.wait_for("/invocation/next", 2)
        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(function.invoke, [event(num_inference_steps=2)] * 2))
    assert len({reply["process"] for reply in replies}) == 2
    assert len({reply["state"] for reply in replies}) == 1
    assert len({reply["headers"]["lambdiff-seed"] for reply in replies}) == 2
    assert image_of(replies[0]) != image_of(replies[1])


def test_a_model_that_fails_before_the_snapshot_fails_the_version() -> None:
    """If the model cannot be loaded before the snapshot, the runtime client reports the error and its fix."""
    with Function("lambdiff.handler.function.handler", snapshot=True, LAMBDIFF_MODEL_DIR="/nonexistent") as function:
        with pytest.raises(FunctionError, match="LAMBDIFF_MODEL_DIR") as error:
            function.invoke(event())
    assert error.value.type == "ModelError"
    assert function.calls == ["/init/error"]
    assert function.error_type == "Runtime.BeforeSnapshotError"


def _lines(function: Any, count: int) -> list[str]:
    """Return the function's log once it has `count` JSON lines."""
    deadline = time.monotonic() + 60
    while True:
        lines: list[str] = function.log.splitlines()
        if len([line for line in lines if line.startswith("{")]) >= count or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)
