"""One call to a Function URL: signed, sent, retried only where nothing can have been paid for."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any, Final, Protocol

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError

from lambdiff._version import __version__
from lambdiff.auth.credentials import Signer
from lambdiff.auth.signing import FunctionUrlAuth
from lambdiff.errors import ConfigurationError, EndpointFailed, EndpointTimeout, EndpointUnreachable
from lambdiff.protocol.contract import JSON, MAX_PAYLOAD
from lambdiff.protocol.http import HttpResponse, OnStep

ATTEMPTS: Final = 6
CONNECT_TIMEOUT: Final = 10.0
READ_MARGIN: Final = 30.0
"""Seconds that are waited beyond the function's own time-out, so that its answer always comes first."""
_IDLE: Final = 50.0


class Transport(Protocol):
    """Where requests go: a Function URL, or the handler in this process."""

    url: str

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        """Send one request and give back whatever the endpoint answers, errors included."""

    def close(self) -> None:
        """Let go of connections or weights."""


class _TryAgain(Exception):
    """The function refused to start; nothing ran."""

    def __init__(self, reply: HttpResponse | None = None, error: EndpointUnreachable | None = None) -> None:
        self.reply, self.error = reply, error


class FunctionUrlTransport:
    """An IAM-protected Function URL.

    A request is repeated only if it cannot have run: the connection was refused, the function was throttled (429)
    or Inactive. A request that timed out while its answer was awaited is never repeated.

    Args:
        url: the Function URL.
        region: the function's region.
        signer: who signs.
        timeout_s: the function's own time-out, seconds.
    """

    def __init__(self, url: str, region: str, signer: Signer, timeout_s: float = 600) -> None:
        self.url = url
        self.signer = signer
        self._auth = FunctionUrlAuth(signer.get, region)
        self._read_timeout = timeout_s + READ_MARGIN
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"lambdiff/{__version__}"
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _KeepAliveAdapter(pool_maxsize=64))
        self._last_use = time.monotonic()
        self._lock = threading.Lock()

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        """Send one request. `on_step` is not called: a buffered reply says nothing before its end.

        Raises:
            EndpointUnreachable: no connection; nothing ran.
            EndpointTimeout: no answer in time; the image may have been paid for.
            EndpointFailed: the connection broke while the answer was awaited or read.
            CredentialsError: nobody to sign.
        """
        reply = self._with_retries(method, body)
        if reply.status == 403 and self.signer.refresh():
            reply = self._with_retries(method, body)
        return reply

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _with_retries(self, method: str, body: bytes) -> HttpResponse:
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            retry=retry_if_exception_type(_TryAgain),
            reraise=True,
        )
        try:
            return attempts(self._once, method, body)
        except _TryAgain as refused:
            if refused.error:
                raise refused.error from None
            assert refused.reply is not None  # noqa: S101 (one of the two is always set)
            return refused.reply

    def _once(self, method: str, body: bytes) -> HttpResponse:
        self._drop_idle_connections()
        headers = {"Content-Type": JSON} if body else {}
        deadline = time.monotonic() + CONNECT_TIMEOUT + self._read_timeout
        try:
            with self._session.request(
                method,
                self.url,
                data=body or None,
                headers=headers,
                auth=self._auth,
                timeout=(CONNECT_TIMEOUT, self._read_timeout),
                allow_redirects=False,
                stream=True,
            ) as answer:
                reply = HttpResponse(
                    status=answer.status_code,
                    headers={name.lower(): value for name, value in answer.headers.items()},
                    body=_read(answer, deadline),
                )
        except requests.Timeout as error:
            if isinstance(error, requests.ConnectTimeout):
                raise _TryAgain(error=_unreachable(self.url, "it does not answer")) from None
            raise _too_late(self._read_timeout) from None
        except requests.exceptions.SSLError as error:
            if not isinstance(_innermost(error), ssl.SSLCertVerificationError):
                raise _broken(error) from None  # perhaps after the request was read
            raise EndpointUnreachable(
                f"The certificate of {self.url} is not trusted: {_cause(error)}.",
                fix="If a proxy signs your traffic, name its authority with REQUESTS_CA_BUNDLE.",
            ) from None
        except requests.exceptions.ProxyError as error:
            raise _unreachable(self.url, f"the proxy does not answer ({_cause(error)})") from None
        except requests.ConnectionError as error:
            if _never_connected(error):
                raise _TryAgain(error=_unreachable(self.url, _cause(error))) from None
            if "timed out" in _cause(error).lower():
                raise _too_late(self._read_timeout) from None
            raise _broken(error) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise ConfigurationError(
                f"The request cannot be sent: {error}.", fix="Check HTTPS_PROXY, ALL_PROXY and the URL."
            ) from None
        except requests.RequestException as error:
            raise _broken(error) from None
        except OSError as error:  # raised by requests before anything is sent
            raise ConfigurationError(
                f"The request cannot be sent: {error}.", fix="Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE."
            ) from None
        if reply.status == 429 or _inactive(reply):
            raise _TryAgain(reply=reply)
        return reply

    def _drop_idle_connections(self) -> None:
        # A server may close an idle connection at the very moment it is used again, and then nobody can say
        # whether the request was read. Not reusing old connections avoids the question.
        with self._lock:
            idle, self._last_use = time.monotonic() - self._last_use, time.monotonic()
            if idle > _IDLE:
                for adapter in set(self._session.adapters.values()):
                    adapter.close()


class _KeepAliveAdapter(HTTPAdapter):
    """TCP keep-alive each minute: NAT gateways drop connections silent for 350 s, and an image may take longer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        for option in (idle, getattr(socket, "TCP_KEEPINTVL", None)):
            if option is not None:
                options.append((socket.IPPROTO_TCP, option, 60))
        super().init_poolmanager(*args, socket_options=options, **kwargs)


def _read(answer: requests.Response, deadline: float) -> bytes:
    content = bytearray()
    for chunk in answer.iter_content(64 * 1024):
        content += chunk
        if len(content) > MAX_PAYLOAD:
            raise EndpointFailed(
                "The endpoint sent more than a Function URL can send.", fix="Check that the URL is a lambdiff endpoint."
            )
        if time.monotonic() > deadline:
            raise _too_late(deadline)
    return bytes(content)


def _inactive(reply: HttpResponse) -> bool:
    """Whether the reply says that an idle function is being made ready; nothing ran then."""
    if reply.status not in {409, 502, 503} or len(reply.body) > 2_000:
        return False
    text = reply.body.decode("utf-8", "replace").lower()
    return "function is currently in the following state" in text or "function is inactive" in text


def _never_connected(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, NewConnectionError)


def _unreachable(url: str, why: str) -> EndpointUnreachable:
    return EndpointUnreachable(
        f"{url} cannot be reached: {why}.",
        fix="Nothing was generated. Check the network and the URL (`lambdiff status`).",
    )


def _too_late(seconds: float) -> EndpointTimeout:
    return EndpointTimeout(
        "The endpoint did not answer in time.",
        fix="Nothing was repeated, since the image may have been paid for; see `lambdiff logs`, then ask for fewer "
        "steps or a smaller size.",
    )


def _broken(error: Exception) -> EndpointFailed:
    return EndpointFailed(
        f"The connection broke before the picture was complete: {_cause(error)}.",
        fix="Nothing was repeated, since the image may have been paid for; run it again if you want that.",
    )


def _innermost(error: BaseException) -> BaseException:
    """What a chain of wrapped network errors began with."""
    for _ in range(8):
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        inner = inner or next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _cause(error: BaseException) -> str:
    """The innermost reason in words, without object addresses."""
    error = _innermost(error)
    text = str(error).rpartition(">: ")[2] or type(error).__name__
    return text[:200].rstrip(".")
