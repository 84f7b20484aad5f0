"""Turning HTTP requests into Function URL events (local/lambda_event.py)."""

from __future__ import annotations

import json

import pytest

from lambdiff.auth.verification import ReceivedRequest
from lambdiff.local.lambda_event import make_event


def test_events_have_payload_format_2() -> None:
    """Events have payload format 2.0, without the headers that only the signature needs."""
    headers = (
        ("host", "h"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("authorization", "secret"),
        ("x-amz-security-token", "secret"),
    )
    request = ReceivedRequest(
        "POST", "/a%20b?x=1&y=", (*headers, ("content-type", "application/json")), b'{"a":"\xc3\xa4"}'
    )
    event = make_event(request, {"REMOTE_ADDR": "127.0.0.1"}, "id")
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/a%20b", "x=1&y=")
    assert event["queryStringParameters"] == {"x": "1", "y": ""}
    assert event["headers"] == {"host": "h", "x-a": "1,2", "content-type": "application/json"}
    assert (event["body"], event["isBase64Encoded"]) == ('{"a":"ä"}', False)
    assert event["requestContext"]["http"]["method"] == "POST"
    assert "secret" not in json.dumps(event)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", b"", (None, False)),
        ("application/json", b"\xff", ("/w==", True)),
        ("text/plain", b"a", ("a", False)),
        ("image/png", b"a", ("YQ==", True)),
        ("", b"a", ("YQ==", True)),
    ],
)
def test_bodies_are_encoded_as_lambda_does(kind: str, body: bytes, expected: tuple[str | None, bool]) -> None:
    """As in Lambda, bodies of textual media types are passed as text, and others as base64."""
    event = make_event(ReceivedRequest("POST", "/", (("content-type", kind),), body), {}, "id")
    assert (event["body"], event["isBase64Encoded"]) == expected
