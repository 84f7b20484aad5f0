"""Call a Function URL: sign, send, and retry only if no image can have been billed."""

from __future__ import annotations

import threading
import time
from typing import Final

import requests
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)
from urllib3 import Timeout
from urllib3.exceptions import HTTPError

from lambdiff import forks
from lambdiff._version import __version__
from lambdiff.auth.credentials import CredentialSource
from lambdiff.auth.signing import FunctionUrlAuth
from lambdiff.client.bounded_http import BoundedAdapter, ReplyTooLarge
from lambdiff.client.network_errors import NotStarted, translate
from lambdiff.errors import EndpointFailed
from lambdiff.printable import printable
from lambdiff.protocol.contract import MAX_PAYLOAD, OnStep
from lambdiff.protocol.headers import JSON
from lambdiff.protocol.http import HttpResponse

ATTEMPTS: Final = 6
NEW_KEY_S: Final = 2.0
"""Seconds between two attempts with a key that AWS may not know yet."""
_MAX_IDLE_S: Final = 50.0
"""Seconds after which an idle connection is not reused."""


class FunctionUrlTransport:
    """An IAM-protected Function URL.

    A request is repeated only if it cannot have run: the connection was refused, the function was throttled (429)
    or Inactive. A request that timed out waiting for its reply is never repeated. Everything together, retries
    included, takes at most `timeout_s + connect_timeout_s + read_margin_s`; a retry starts only if the function can
    still use all of its own time.

    Args:
        url: the Function URL.
        region: the function's region.
        credentials: what signs the requests.
        timeout_s: the function's own timeout in seconds.
        ca_bundle: a file or folder of trusted certificates; None for those that come with requests.
        connect_timeout_s: seconds to wait for a connection.
        read_margin_s: seconds to wait beyond the function's timeout, so that its own reply always comes first.
        backoff_s: the first retry waits up to this many seconds, each further one up to twice as long, 20 at most.

    Attributes:
        attempts: how often a request is sent that cannot have run. With 1, the caller decides what happens next.
    """

    def __init__(
        self,
        url: str,
        region: str,
        credentials: CredentialSource,
        timeout_s: float = 600,
        *,
        ca_bundle: str | None = None,
        connect_timeout_s: float = 10.0,
        read_margin_s: float = 30.0,
        backoff_s: float = 0.5,
    ) -> None:
        self.url = url
        self.attempts = ATTEMPTS
        self.credentials = credentials
        # Without a path, requests would read variables by itself, in another order.
        self._ca_bundle = ca_bundle or requests.utils.DEFAULT_CA_BUNDLE_PATH
        self._auth = FunctionUrlAuth(credentials.get, region)
        self._connect_timeout = connect_timeout_s
        self._read_timeout = timeout_s + read_margin_s
        self._spare = connect_timeout_s + read_margin_s
        self._time_limit = timeout_s + self._spare
        self._backoff = wait_random_exponential(multiplier=backoff_s, max=20)
        self._open_session()
        forks.renew_in_children(self)

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        """Send one request. `on_step` is not called: a buffered reply reports no progress.

        Raises:
            EndpointUnreachable: no connection; nothing ran.
            EndpointTimeout: no reply in time; the image may have been billed.
            EndpointFailed: the connection broke before the reply was complete.
            CredentialsError: no credentials to sign with.
            ConfigurationError: a proxy or certificate setting is unusable; nothing was sent.
        """
        started = time.monotonic()
        deadline = started + self._time_limit
        reply = self._send_with_retries(method, body, deadline)
        if reply.status == 403 and self.credentials.refresh():
            reply = self._send_with_retries(method, body, deadline)
        # Nothing ran and nothing was billed, and a key that was just rotated is accepted soon.
        while (
            reply.status == 403 and self.credentials.is_new() and time.monotonic() - started < self._spare - NEW_KEY_S
        ):
            time.sleep(NEW_KEY_S)
            reply = self._send_with_retries(method, body, deadline)
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def renew_after_fork(self) -> None:
        """Open connections of this process's own; see `forks`."""
        self._open_session()

    def _open_session(self) -> None:
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"lambdiff/{__version__}"
        # Function URLs do not compress, and what expands on arrival has no limit.
        self._session.headers["Accept-Encoding"] = "identity"
        self._adapter = BoundedAdapter(pool_maxsize=64)
        self._last_use = time.monotonic()
        self._lock = threading.Lock()

    def _send_with_retries(self, method: str, body: bytes, deadline: float) -> HttpResponse:
        retrying = Retrying(
            stop=stop_after_attempt(self.attempts) | stop_before_delay(self._spare),
            wait=self._backoff,
            retry=retry_if_exception_type(NotStarted),
            reraise=True,
        )
        try:
            return retrying(self._send, method, body, deadline)
        except NotStarted as last:
            if last.error:
                raise last.error from None
            assert last.reply is not None  # noqa: S101 (either is always set)
            return last.reply

    def _send(self, method: str, body: bytes, deadline: float) -> HttpResponse:
        self._drop_idle_connections()
        headers = {"Content-Type": JSON} if body else {}
        request = requests.Request(method, self.url, headers=headers, data=body or None, auth=self._auth)
        left = max(deadline - time.monotonic(), 0.001)
        try:
            # Not `session.send`, which reads the body of a redirect without a limit, and keeps cookies.
            response = self._adapter.send(
                self._session.prepare_request(request),
                timeout=Timeout(total=left, connect=self._connect_timeout, read=self._read_timeout),
                **self._session.merge_environment_settings(self.url, {}, True, self._ca_bundle, None),
            )
            with response:
                reply = _read(response)
        except (OSError, HTTPError) as error:  # the bases of requests' and urllib3's exceptions
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
                self._adapter.close()


def _read(response: requests.Response) -> HttpResponse:
    """Read the body as it was sent: a compressed one is not decompressed."""
    encoding = response.raw.headers.pop("content-encoding", "identity")
    body = response.raw.read(MAX_PAYLOAD + 1, decode_content=False)
    if len(body) > MAX_PAYLOAD:
        raise ReplyTooLarge
    if encoding.lower() != "identity" and response.ok:
        raise EndpointFailed(
            f"The reply is compressed ({printable(encoding, 40)}), which was not requested.",
            fix="Check that the URL is a lambdiff endpoint, and which proxy is in between.",
            status=response.status_code,
        )
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(status=response.status_code, headers=headers, body=body)


def _is_inactive(reply: HttpResponse) -> bool:
    """Whether the function was not Active yet (after a long idle time or a deployment), so that nothing ran."""
    if reply.status not in {409, 502, 503} or len(reply.body) > 2_000:
        return False
    text = reply.body.decode("utf-8", "replace").lower()
    return "function is currently in the following state" in text or "function is inactive" in text
