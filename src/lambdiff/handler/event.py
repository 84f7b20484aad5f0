"""A Function URL's event (payload format 2.0) <-> an HTTP request and reply.

The format: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads.
`HttpResponse` is also what every endpoint, remote or in process, hands to the client: nothing heavy is imported.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
import uuid
from typing import Any, Protocol, TypeVar

from lambdiff.errors import MalformedRequest
from lambdiff.protocol.contract import MAX_BODY
from lambdiff.protocol.http import HttpRequest, HttpResponse

T = TypeVar("T")


class LambdaContext(Protocol):
    """What is used of the second argument of a Lambda handler."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the function."""


def parse(event: object, context: LambdaContext | None = None) -> HttpRequest:
    """Read an event. Path, headers and body may be missing; the method may not.

    Raises:
        MalformedRequest: no Function URL's event; the message names the part that is wrong.
    """
    if not isinstance(event, dict):
        raise MalformedRequest("The event is no JSON object.", problems=[("event", "is no JSON object")])
    request_context: dict[str, Any] = _part(event, "requestContext", {})
    http: dict[str, Any] = _part(request_context, "http", {})
    headers: dict[str, Any] = _part(event, "headers", {})
    if not all(isinstance(text, str) for pair in headers.items() for text in pair):
        raise MalformedRequest("The event's headers are not all text.", problems=[("headers", "are not all text")])
    milliseconds = request_context.get("timeEpoch")
    method = _part(http, "method", "").upper()
    if not method:
        raise MalformedRequest(
            "This is no event of payload format 2.0: requestContext.http.method is missing.",
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
    """The id under which AWS logs the request, or a new one if the event has none that is fit for a header."""
    outer = event.get("requestContext") if isinstance(event, dict) else None
    for candidate in (
        getattr(context, "aws_request_id", None),
        outer.get("requestId") if isinstance(outer, dict) else None,
    ):
        if isinstance(candidate, str) and re.fullmatch(r"[\w.:=-]{1,64}", candidate, re.ASCII):
            return candidate
    return str(uuid.uuid4())


def render(response: HttpResponse) -> dict[str, Any]:
    """A reply as Lambda wants it from a handler: text as it is, everything else as base64."""
    text = response.content_type.endswith("json")
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode() if text else base64.b64encode(response.body).decode(),
        "isBase64Encoded": not text,
    }


def rendered_size(response: HttpResponse) -> int:
    """Bytes that Lambda counts for a binary reply: base64, and the JSON around it, rounded up."""
    headers = sum(len(name) + len(value) + 8 for name, value in response.headers.items())
    return 4 * -(-len(response.body) // 3) + 2 * headers + 128


def _part(parent: dict[str, Any], name: str, default: T) -> T:
    value = parent.get(name)
    if value is None:
        return default
    if not isinstance(value, type(default)):
        detail = f"is no {type(default).__name__}"
        raise MalformedRequest(f"This is no event of payload format 2.0: {name} {detail}.", problems=[(name, detail)])
    return value


def _body(body: str, is_base64: bool) -> bytes:
    if len(body) > 2 * MAX_BODY:
        return body.encode("ascii", "replace")  # too large however it is read, so not worth decoding
    try:
        return base64.b64decode(body, validate=True) if is_base64 else body.encode()
    except (binascii.Error, ValueError):
        detail = "is not base64" if is_base64 else "holds a lone surrogate"
        raise MalformedRequest(f"The body {detail}.", problems=[("body", detail)]) from None


def _deadline(context: LambdaContext | None) -> float | None:
    if context is None:
        return None
    return time.monotonic() + context.get_remaining_time_in_millis() / 1000
