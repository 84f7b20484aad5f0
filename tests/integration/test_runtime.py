"""The handler under AWS's own runtime client, and under AWS's runtime interface emulator."""

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

STUB = "support.lambda_stub.handler"
Start = Callable[..., Any]
BOTH = pytest.mark.parametrize("start", [Function, pytest.param(EmulatedFunction, marks=pytest.mark.linux)])


def event(body: Any = None, *, encode: bool = False, method: str = "POST", **fields: Any) -> dict[str, Any]:
    """A Function URL's event around a request."""
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


def picture(reply: dict[str, Any]) -> bytes:
    """The bytes of a successful reply."""
    assert reply["statusCode"] == 200, reply
    assert reply["isBase64Encoded"]
    assert reply["headers"]["content-type"].startswith("image/")
    return base64.b64decode(reply["body"])


def slug(reply: dict[str, Any]) -> str:
    """The kind of a problem document, after checking that it is one."""
    document = json.loads(reply["body"])
    assert reply["headers"]["content-type"] == PROBLEM_JSON
    assert document["status"] == reply["statusCode"]
    return str(document["type"].rpartition(":")[2])


@BOTH
def test_both_forms_of_a_body_become_the_same_picture(start: Start) -> None:
    """First request and further ones, plain and base64, and the health document."""
    with start(STUB) as function:
        content = picture(function.invoke(event(seed=3)))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pattern(3, 64, 64))
        assert picture(function.invoke(event(seed=3, encode=True))) == content
        health = function.invoke(event(method="GET"))
        assert json.loads(health["body"])["loaded"] is True


@BOTH
def test_an_exception_is_a_500_that_says_nothing_and_the_function_lives_on(start: Start) -> None:
    """The log has the type and the request's id; neither log nor reply has the prompt or the message."""
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
    """A picture that takes too long ends with a problem document before the function is killed."""
    with start(STUB, timeout=2, STUB=json.dumps({"step_seconds": 0.1})) as function:
        reply = function.invoke(event(num_inference_steps=100))
        assert (reply["statusCode"], slug(reply)) == (502, "timed-out")
        picture(function.invoke(event(num_inference_steps=1)))


def test_a_step_that_outlasts_the_function_is_killed() -> None:
    """Nothing of ours can stop it; Lambda does."""
    with Function(STUB, timeout=1, STUB=json.dumps({"step_seconds": 60})) as function:
        with pytest.raises(FunctionTimeout):
            function.invoke(event())


@pytest.mark.linux
def test_the_emulator_kills_it_and_starts_another() -> None:
    """The next event finds a fresh process."""
    with EmulatedFunction(STUB, timeout=1, STUB=json.dumps({"step_seconds": 60})) as function:
        assert "Task timed out after 1.00 seconds" in function.invoke(event())
        assert function.invoke(event(method="GET"))["statusCode"] == 200


@BOTH
def test_a_reply_over_six_megabytes_is_a_problem_document(start: Start) -> None:
    """Lambda's own error, which the emulator knows too, would name neither the cause nor the way out."""
    with start(STUB, STUB=json.dumps({"noise": [1600, 1000]})) as function:
        reply = function.invoke(event())
        assert (reply["statusCode"], slug(reply)) == (500, "reply-too-large")
        assert len(picture(function.invoke(event(image_format="jpeg")))) > 1_000_000


@pytest.mark.linux
def test_the_largest_reply_passes_the_emulator() -> None:
    """What is judged to fit does fit: 4.6 MB of noise, 6.1 MB as Lambda counts."""
    with EmulatedFunction(STUB, STUB=json.dumps({"noise": [1540, 1000]})) as function:
        assert len(picture(function.invoke(event()))) > 4_600_000


def test_a_failure_at_init_is_reported() -> None:
    """A broken image and a missing function each with the runtime client's own words."""
    with Function(STUB, STUB=json.dumps({"fail_at_import": True})) as function, pytest.raises(FunctionError) as error:
        function.invoke(event())
    assert error.value.type == "OSError"
    with Function("support.lambda_stub.nothing") as function, pytest.raises(FunctionError, match="nothing"):
        function.invoke(event())


@BOTH
def test_hostile_events_leave_the_function_alive(start: Start) -> None:
    """What is no event gets a 400, and the process goes on."""
    with start(STUB) as function:
        for hostile in (None, [], "x", {}, {"Records": []}, event(body="\ud800"), event(body="{")):
            assert function.invoke(hostile)["statusCode"] == 400
        picture(function.invoke(event()))


def test_a_missing_model_is_a_503_that_names_the_fix() -> None:
    """The function's real entry point, without its model."""
    with Function("lambdiff.handler.function.handler", LAMBDIFF_MODEL_DIR="/nonexistent") as function:
        reply = function.invoke(event())
        assert (reply["statusCode"], slug(reply)) == (503, "model-unavailable")
        assert "LAMBDIFF_MODEL_DIR" in reply["body"]


@pytest.mark.engine
@pytest.mark.linux
def test_the_real_entry_point_draws_with_a_real_engine() -> None:
    """A baked model, the OpenVINO engine, the emulator: the container but for the container. Same seed, same bytes."""
    environment = {"LAMBDIFF_MODEL_DIR": str(tiny_pipeline.baked())}
    with EmulatedFunction("lambdiff.handler.function.handler", **environment) as function:
        assert json.loads(function.invoke(event(method="GET"))["body"])["loaded"] is False
        first = function.invoke(event(prompt="a cat in the top hat", seed=5))
        generation = metadata.read(picture(first)).generation
        assert (generation.prompt, generation.seed) == ("a cat in the top hat", 5)
        assert "load" in decode_timings(first["headers"]["server-timing"])
        second = function.invoke(event(prompt="a cat in the top hat", seed=5))
        assert picture(second) == picture(first)
        assert "load" not in decode_timings(second["headers"]["server-timing"])
        assert "top hat" not in function.log


def done(function: Function) -> list[str]:
    """What `watched_function` has told until now."""
    told = [json.loads(line) for line in function.log.splitlines() if line.startswith("{")]
    return [entry["did"] for entry in told if "did" in entry]


@pytest.mark.engine
def test_with_snapstart_nothing_heavy_is_left_for_the_restore() -> None:
    """Before the snapshot the model is loaded and has drawn; after the restore no request loads, and seeds differ."""
    model = str(tiny_pipeline.baked())
    with Function("support.watched_function.handler", timeout=120, snapshot=True, LAMBDIFF_MODEL_DIR=model) as function:
        function.wait_for("/restore/next")
        before = done(function)
        assert before.count("compile") == 3
        assert {"text_encoder", "unet", "decoder"} <= set(before)
        function.restore()
        replies = [function.invoke(event(num_inference_steps=1)) for _ in range(2)]
        assert json.loads(function.invoke(event(method="GET"))["body"])["loaded"] is True
        assert done(function).count("compile") == 3
    assert function.asked[:2] == ["/restore/next", "/invocation/next"]
    assert all("load" not in decode_timings(reply["headers"]["server-timing"]) for reply in replies)
    assert len({reply["headers"]["lambdiff-seed"] for reply in replies}) == 2


def test_two_restores_of_one_snapshot_draw_different_seeds() -> None:
    """Both hold the same state, down to the generators in it; seeds and request ids come from elsewhere."""
    options = json.dumps({"step_seconds": 0.5})  # the first to get a request is busy when the second comes
    with Function("support.twice_restored.handler", snapshot=True, STUB=options) as function:
        function.restore()
        function.wait_for("/invocation/next", 2)
        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(function.invoke, [event(num_inference_steps=2)] * 2))
    assert len({reply["process"] for reply in replies}) == 2
    assert len({reply["state"] for reply in replies}) == 1
    assert len({reply["headers"]["lambdiff-seed"] for reply in replies}) == 2
    assert picture(replies[0]) != picture(replies[1])


def test_a_model_that_fails_before_the_snapshot_fails_the_version() -> None:
    """The runtime client reports it, with the fix, and never asks to be restored."""
    with Function("lambdiff.handler.function.handler", snapshot=True, LAMBDIFF_MODEL_DIR="/nonexistent") as function:
        with pytest.raises(FunctionError, match="LAMBDIFF_MODEL_DIR") as error:
            function.invoke(event())
    assert error.value.type == "ModelError"
    assert function.asked == ["/init/error"]
    assert function.fault == "Runtime.BeforeSnapshotError"


def _lines(function: Any, count: int) -> list[str]:
    """The function's log, once it has so many JSON lines."""
    deadline = time.monotonic() + 5
    while True:
        lines: list[str] = function.log.splitlines()
        if len([line for line in lines if line.startswith("{")]) >= count or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)
