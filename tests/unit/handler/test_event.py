"""Parsing events of payload format 2.0, and rendering responses for Lambda (handler/event.py)."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from lambdiff.errors import MalformedRequest
from lambdiff.handler.event import parse, render, rendered_size, request_id
from lambdiff.protocol.http import HttpResponse


class LambdaContext:
    aws_request_id = "11111111-2222-3333-4444-555555555555"

    def get_remaining_time_in_millis(self) -> int:
        return 5_000


def event(**changes: Any) -> dict[str, Any]:
    """Return a Function URL event as AWS documents it, with some keys changed."""
    return {
        "version": "2.0",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {"Content-Type": "application/json", "host": "x.lambda-url.eu-west-1.on.aws"},
        "requestContext": {
            "http": {"method": "POST", "path": "/"},
            "requestId": "abc-123",
            "timeEpoch": 1_700_000_000_500,
        },
        "body": '{"prompt": "a cat"}',
        "isBase64Encoded": False,
        **changes,
    }


def test_a_plain_body_is_read() -> None:
    """The request has the event's method, path, body, id, deadline and time, and lower-case header names."""
    before = time.monotonic()
    request = parse(event(), LambdaContext())
    assert (request.method, request.path, request.body) == ("POST", "/", b'{"prompt": "a cat"}')
    assert request.headers["content-type"] == "application/json"
    assert request.request_id == LambdaContext.aws_request_id
    assert request.sent_at == 1_700_000_000.5
    assert request.deadline is not None
    assert before + 5 <= request.deadline <= time.monotonic() + 5


def test_a_base64_body_is_decoded() -> None:
    """A body that Lambda has encoded in base64 is decoded."""
    encoded = base64.b64encode('{"prompt": "Katze mit Hut, größer"}'.encode()).decode()
    assert "größer" in parse(event(body=encoded, isBase64Encoded=True)).body.decode()


def test_missing_keys_have_defaults() -> None:
    """All keys except the method have defaults, and null counts as missing."""
    request = parse({"requestContext": {"http": {"method": "get"}}, "headers": None, "body": None, "rawPath": None})
    assert (request.method, request.path, request.body, dict(request.headers)) == ("GET", "/", b"", {})
    assert request.deadline is None
    assert request.sent_at is None


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (None, "event"),
        ([], "event"),
        ({}, "method"),
        (event(requestContext=[]), "requestContext"),
        (event(requestContext={"http": 1}), "http"),
        (event(requestContext={"http": {"method": 5}}), "method"),
        (event(rawPath=7), "rawPath"),
        (event(headers=[1]), "headers"),
        (event(headers={"a": 1}), "headers"),
        (event(body={"prompt": "a"}), "body"),
        (event(isBase64Encoded="yes"), "isBase64Encoded"),
        (event(body="%%%", isBase64Encoded=True), "body"),
        (event(body="YQ", isBase64Encoded=True), "body"),
        (event(body="ä", isBase64Encoded=True), "body"),
        (event(body="\ud800"), "body"),
    ],
)
def test_malformed_events_are_refused(bad: Any, field: str) -> None:
    """The error for a malformed event names the invalid part."""
    with pytest.raises(MalformedRequest) as refusal:
        parse(bad)
    assert refusal.value.problems[0][0] == field


@pytest.mark.parametrize("hostile", ["a\r\nset-cookie: x", "", "x" * 65, "ä", 5, None])
def test_an_id_that_does_not_fit_into_a_header_is_replaced(hostile: Any) -> None:
    """A request id that is not short, printable ASCII is replaced, because it is sent back in a header."""
    new_id = request_id({"requestContext": {"requestId": hostile}})
    assert new_id != hostile
    assert len(new_id) == 36


def test_json_is_rendered_as_text_and_images_as_base64() -> None:
    """JSON responses are rendered as text, and images as base64, which the response declares."""
    headers = {"content-type": "application/problem+json"}
    assert render(HttpResponse(404, headers, b"{}")) == {
        "statusCode": 404,
        "headers": headers,
        "body": "{}",
        "isBase64Encoded": False,
    }
    rendered = render(HttpResponse(200, {"content-type": "image/png"}, b"\x89PNG"))
    assert rendered["isBase64Encoded"]
    assert base64.b64decode(rendered["body"]) == b"\x89PNG"


def test_the_estimated_size_is_an_upper_bound() -> None:
    """The estimated size of a response is at least its real size."""
    import json

    for size in (0, 1, 2, 3, 1_000):
        response = HttpResponse(200, {"content-type": "image/png", "lambdiff-warnings": '["\\u00e4\\""]'}, bytes(size))
        assert len(json.dumps(render(response))) <= rendered_size(response)
