"""Build the event that Lambda passes to a function for an HTTP request (payload format 2.0).

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from lambdiff.auth.verification import ReceivedRequest
from lambdiff.protocol.http import media_type

_SIGNATURE_HEADERS = ("authorization", "x-amz-security-token")


def make_event(request: ReceivedRequest, environ: dict[str, Any], request_id: str) -> dict[str, Any]:
    """Return the event of a request, without the headers that only the signature needs.

    Args:
        request: as received.
        environ: the WSGI environment, for the protocol and the address.
        request_id: the event's request id.
    """
    path, _, query = request.target.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        if name not in _SIGNATURE_HEADERS:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    body, is_base64 = _encode_body(request, headers)
    now = datetime.now(UTC)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "queryStringParameters": dict(parse_qsl(query, keep_blank_values=True)),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "loopback",
            "domainName": headers.get("host", ""),
            "domainPrefix": "loopback",
            "http": {
                "method": request.method,
                "path": path,
                "protocol": environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
                "sourceIp": environ.get("REMOTE_ADDR", ""),
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }


def _encode_body(request: ReceivedRequest, headers: dict[str, str]) -> tuple[str | None, bool]:
    """Return the body as Lambda encodes it, text or base64 depending on the media type, and whether it is base64."""
    if not request.body:
        return None, False
    kind = media_type(headers.get("content-type", ""))
    if kind.startswith("text/") or kind.endswith(("json", "xml", "javascript")):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), True
