"""Converts events of a Function URL (payload format 2.0) to HTTP requests, and HTTP responses to Lambda's format.

Source of the format: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
"""

from __future__ import annotations

import base64
import binascii
import re
import time
import uuid
from typing import Any, Protocol, TypeVar

from lambdiff.errors import MalformedRequest
from lambdiff.protocol.http import HttpRequest, HttpResponse
from lambdiff.protocol.pictures import MAX_BODY

T = TypeVar("T")
_JSON_TYPES = {dict: "JSON object", str: "string", bool: "boolean"}


class LambdaContext(Protocol):
    """The parts of a Lambda handler's second argument that lambdiff uses."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda kills the function."""


def parse(event: object, context: LambdaContext | None = None) -> HttpRequest:
    """Convert an event to a request. Path, headers and body may be missing; the method may not.

    Raises:
        MalformedRequest: it is not a Function URL event; the message names the wrong part.
    """
    if not isinstance(event, dict):
        raise MalformedRequest("The event is not a JSON object.", problems=[("event", "is not a JSON object")])
    request_context: dict[str, Any] = _part(event, "requestContext", {})
    http: dict[str, Any] = _part(request_context, "http", {})
    headers: dict[str, Any] = _part(event, "headers", {})
    if not all(isinstance(text, str) for pair in headers.items() for text in pair):
        detail = "are not all strings"
        raise MalformedRequest(f"The event's headers {detail}.", problems=[("headers", detail)])
    milliseconds = request_context.get("timeEpoch")
    method = _part(http, "method", "").upper()
    if not method:
        raise MalformedRequest(
            "This is not an event of payload format 2.0: requestContext.http.method is missing.",
            problems=[("method", "is missing")],
        )
    return HttpRequest(
        method=method,
        path=_part(event, "rawPath", "") or "/",
        headers={name.lower(): value for name, value in headers.items()},
        body=_body(_part(event, "body", ""), _part(event, "isBase64Encoded", False)),
        request_id=request_id(event, context),
        deadline=_deadline(context),
        sent_at=milliseconds / 1000 if isinstance(milliseconds, int) and 0 < milliseconds < 1e15 else None,
    )


def request_id(event: object, context: LambdaContext | None = None) -> str:
    """Return the id under which AWS logs the request, or a new one if that does not fit into a header."""
    outer = event.get("requestContext") if isinstance(event, dict) else None
    for candidate in (
        getattr(context, "aws_request_id", None),
        outer.get("requestId") if isinstance(outer, dict) else None,
    ):
        if isinstance(candidate, str) and re.fullmatch(r"[\w.:=-]{1,64}", candidate, re.ASCII):
            return candidate
    return str(uuid.uuid4())


def render(response: HttpResponse) -> dict[str, Any]:
    """Convert a response to the return value of a Lambda handler: JSON as text, everything else as base64."""
    text = response.content_type.endswith("json")
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode() if text else base64.b64encode(response.body).decode(),
        "isBase64Encoded": not text,
    }


def rendered_size(response: HttpResponse) -> int:
    """Return an upper bound for the size of a rendered binary response in bytes, including base64 and JSON."""
    headers = sum(len(name) + len(value) + 8 for name, value in response.headers.items())
    return 4 * -(-len(response.body) // 3) + 2 * headers + 128


def _part(parent: dict[str, Any], name: str, default: T) -> T:
    value = parent.get(name)
    if value is None:
        return default
    if not isinstance(value, type(default)):
        detail = f"is not a {_JSON_TYPES[type(default)]}"
        raise MalformedRequest(
            f"This is not an event of payload format 2.0: {name} {detail}.", problems=[(name, detail)]
        )
    return value


def _body(body: str, is_base64: bool) -> bytes:
    if len(body) > 4 * -(-MAX_BODY // 3):
        return body.encode("ascii", "replace")  # too large either way, so not worth decoding
    try:
        return base64.b64decode(body, validate=True) if is_base64 else body.encode()
    except (binascii.Error, ValueError):
        detail = "is not base64" if is_base64 else "contains a lone surrogate"
        raise MalformedRequest(f"The body {detail}.", problems=[("body", detail)]) from None


def _deadline(context: LambdaContext | None) -> float | None:
    if context is None:
        return None
    return time.monotonic() + context.get_remaining_time_in_millis() / 1000
