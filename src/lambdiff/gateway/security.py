"""What every request to the gateway must pass, whichever route it is for.

A gateway on loopback needs no key, but any web page that is open in a browser can send requests to it. Two headers tell
such requests apart, and a page cannot forge either: `Host` is the name that the page believes to talk to, which is
another one after DNS rebinding, and `Origin` (or `Sec-Fetch-Site`) says where the page comes from.
"""

from __future__ import annotations

import hmac
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lambdiff.gateway.errors import GatewayError, as_response
from lambdiff.gateway.settings import Settings
from lambdiff.loopback import is_loopback

MAX_BODY: Final = 40 * 1024 * 1024
"""Maximum bytes of a body: two pictures of 16 MiB, and their fields."""
MAX_JSON: Final = 9 * 1024 * 1024
"""Maximum bytes of a JSON body: two pictures as base64."""
BODY_S: Final = 60.0
"""How long a body may take to arrive."""
PUBLIC: Final = "/v1/images/files/"
"""Links to images need no key: their names cannot be guessed."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; form-action 'self'",
    ),
)


class Guard:
    """ASGI middleware that checks host, origin, key and the size of the body.

    Args:
        app: what it protects.
        settings: what is allowed.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check(scope, headers)
        except GatewayError as refused:
            await as_response(refused)(scope, receive, send)
            return
        limit = (
            MAX_JSON if headers.get("content-type", "").partition(";")[0].strip() == "application/json" else MAX_BODY
        )
        guarded = _Body(receive, limit)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS, *self._cors(headers)]
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(send_with_headers)
            return
        await self._app(scope, guarded, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_trusted(hosts[0]):
            raise GatewayError(421, "This gateway does not answer under this name.", code="invalid_host")
        origin = headers.get("origin")
        if origin is not None and not self._allows(origin) and origin != f"{scope['scheme']}://{hosts[0]}":
            raise GatewayError(403, "Web pages of this origin may not call the gateway.", code="invalid_origin")
        if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise GatewayError(403, "Other web pages may not call the gateway.", code="invalid_origin")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > MAX_BODY:
            raise GatewayError(413, "The body is too large.", code="request_too_large")
        is_preflight = scope["method"] == "OPTIONS" and origin is not None
        if self._settings.api_key and not is_preflight and not scope["path"].startswith(PUBLIC):
            self._check_key(headers)

    def _is_trusted(self, host: str) -> bool:
        trusted = self._settings.trusted_hosts
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        return "*" in trusted or name in trusted or is_loopback(name)

    def _allows(self, origin: str) -> bool:
        return "*" in self._settings.origins or origin in self._settings.origins

    def _check_key(self, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        expected = (self._settings.api_key or "").encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
            raise GatewayError(401, "The API key is missing or wrong.", code="invalid_api_key")

    def _cors(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        origin = headers.get("origin")
        if origin is None or not self._allows(origin):
            return []
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]


async def _preflight(send: Send) -> None:
    """Answer a browser that asks whether a page may call; the page's origin has been checked."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class _Body:
    """Receives a body up to a size and within a time, whatever its header says."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            with anyio.fail_after(BODY_S):
                message = await self._receive()
        except TimeoutError:
            raise GatewayError(408, "The body did not arrive in time.", code="request_timeout") from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._left < 0:
                raise GatewayError(413, "The body is too large.", code="request_too_large")
        return message
