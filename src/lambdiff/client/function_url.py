"""Call a Function URL: sign, send, and retry only if no image can have been billed."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.connection import HTTPConnection

from lambdiff._version import __version__
from lambdiff.auth.credentials import CredentialSource
from lambdiff.auth.signing import FunctionUrlAuth
from lambdiff.client.network_errors import NotStarted, timed_out, translate
from lambdiff.errors import EndpointFailed
from lambdiff.protocol.contract import MAX_PAYLOAD, OnStep
from lambdiff.protocol.headers import JSON
from lambdiff.protocol.http import HttpResponse

ATTEMPTS: Final = 6
_MAX_IDLE_S: Final = 50.0
"""Seconds after which an idle connection is not reused."""


class FunctionUrlTransport:
    """An IAM-protected Function URL.

    A request is repeated only if it cannot have run: the connection was refused, the function was throttled (429)
    or Inactive. A request that timed out waiting for its reply is never repeated.

    Args:
        url: the Function URL.
        region: the function's region.
        credentials: what signs the requests.
        timeout_s: the function's own timeout in seconds.
        connect_timeout_s: seconds to wait for a connection.
        read_margin_s: seconds to wait beyond the function's timeout, so that its own reply always comes first.
        backoff_s: the first retry waits up to this many seconds, each further one up to twice as long, 20 at most.
    """

    def __init__(
        self,
        url: str,
        region: str,
        credentials: CredentialSource,
        timeout_s: float = 600,
        *,
        connect_timeout_s: float = 10.0,
        read_margin_s: float = 30.0,
        backoff_s: float = 0.5,
    ) -> None:
        self.url = url
        self.credentials = credentials
        self._auth = FunctionUrlAuth(credentials.get, region)
        self._connect_timeout = connect_timeout_s
        self._read_timeout = timeout_s + read_margin_s
        self._backoff = wait_random_exponential(multiplier=backoff_s, max=20)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"lambdiff/{__version__}"
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _KeepAliveAdapter(pool_maxsize=64))
        self._last_use = time.monotonic()
        self._lock = threading.Lock()

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        """Send one request. `on_step` is not called: a buffered reply reports no progress.

        Raises:
            EndpointUnreachable: no connection; nothing ran.
            EndpointTimeout: no reply in time; the image may have been billed.
            EndpointFailed: the connection broke before the reply was complete.
            CredentialsError: no credentials to sign with.
            ConfigurationError: a proxy or certificate setting is unusable; nothing was sent.
        """
        reply = self._send_with_retries(method, body)
        if reply.status == 403 and self.credentials.refresh():
            reply = self._send_with_retries(method, body)
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send_with_retries(self, method: str, body: bytes) -> HttpResponse:
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._backoff,
            retry=retry_if_exception_type(NotStarted),
            reraise=True,
        )
        try:
            return retrying(self._send, method, body)
        except NotStarted as last:
            if last.error:
                raise last.error from None
            assert last.reply is not None  # noqa: S101 (either is always set)
            return last.reply

    def _send(self, method: str, body: bytes) -> HttpResponse:
        self._drop_idle_connections()
        deadline = time.monotonic() + self._connect_timeout + self._read_timeout
        try:
            with self._session.request(
                method,
                self.url,
                data=body or None,
                headers={"Content-Type": JSON} if body else {},
                auth=self._auth,
                timeout=(self._connect_timeout, self._read_timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                reply = HttpResponse(
                    status=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=_read(response, deadline),
                )
        except OSError as error:  # the base of requests' exceptions
            raise translate(error, self.url) from None
        if reply.status == 429 or _is_inactive(reply):
            raise NotStarted(reply=reply)
        return reply

    def _drop_idle_connections(self) -> None:
        # A server may close an idle connection just as it is reused. The client then cannot tell whether the request
        # was read, so old connections are not reused.
        with self._lock:
            idle, self._last_use = time.monotonic() - self._last_use, time.monotonic()
            if idle > _MAX_IDLE_S:
                for adapter in set(self._session.adapters.values()):
                    adapter.close()


class _KeepAliveAdapter(HTTPAdapter):
    """TCP keep-alive every minute: NAT gateways drop connections silent for 350 s, and an image may take longer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        for option in (idle, getattr(socket, "TCP_KEEPINTVL", None)):
            if option is not None:
                options.append((socket.IPPROTO_TCP, option, 60))
        super().init_poolmanager(*args, socket_options=options, **kwargs)


def _read(response: requests.Response, deadline: float) -> bytes:
    content = bytearray()
    for chunk in response.iter_content(64 * 1024):
        content += chunk
        if len(content) > MAX_PAYLOAD:
            raise EndpointFailed(
                "The endpoint sent more than a Function URL can send.", fix="Check that the URL is a lambdiff endpoint."
            )
        if time.monotonic() > deadline:
            raise timed_out()
    return bytes(content)


def _is_inactive(reply: HttpResponse) -> bool:
    """Whether the function was not Active yet (after a long idle time or a deployment), so that nothing ran."""
    if reply.status not in {409, 502, 503} or len(reply.body) > 2_000:
        return False
    text = reply.body.decode("utf-8", "replace").lower()
    return "function is currently in the following state" in text or "function is inactive" in text
