"""The edge of Lambda: what it makes of an HTTP request before the handler sees it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from lambdiff.auth.verification import ReceivedRequest
from lambdiff.protocol.http import media_type


def event_of(request: ReceivedRequest, environ: dict[str, Any], request_id: str) -> dict[str, Any]:
    """The event of payload format 2.0 that Lambda makes of a request; without what only the signature needs."""
    path, _, query = request.target.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        if name not in ("authorization", "x-amz-security-token"):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    body, is_base64 = _body_of(request, headers)
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


def _body_of(request: ReceivedRequest, headers: dict[str, str]) -> tuple[str | None, bool]:
    if not request.body:
        return None, False
    kind = media_type(headers.get("content-type", ""))
    if kind.startswith("text/") or kind.endswith(("json", "xml", "javascript")):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), True
