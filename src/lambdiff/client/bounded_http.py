"""HTTP with limits: a reply may take only so long and send only so much, however it is sent.

The timeouts of `requests` apply to each read, so that a byte now and then keeps a request alive for ever, and
`http.client` skips any number of interim replies and trailers. Here the timeout applies to the whole reply, and
everything that is received counts: status, headers, interim replies, chunk sizes, trailers and the replies of proxies.
"""

from __future__ import annotations

import functools
import http.client
import io
import queue
import socket
import threading
import time
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from lambdiff.client import idle_connections
from lambdiff.loopback import is_this_machine
from lambdiff.protocol.contract import MAX_PAYLOAD

MAX_HEAD: Final = 128 * 1024
"""Bytes until the body begins. Function URLs send less than a tenth of this."""
_MAX_FRAMING: Final = 1024 * 1024
"""Bytes of chunk sizes and trailers."""
_KEEP_ALIVE_S: Final = 60


class ReplyTooLarge(OSError):
    """The endpoint sent more than a Function URL can send."""


class BoundedAdapter(HTTPAdapter):
    """Sends requests over bounded connections, and never sends those for this machine through a proxy.

    Connections have TCP keep-alive every minute: NAT gateways drop connections that are silent for 350 s, and an image
    may take longer.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools; requests calls this."""
        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        for option in (idle, getattr(socket, "TCP_KEEPINTVL", None)):
            if option is not None:
                options.append((socket.IPPROTO_TCP, option, _KEEP_ALIVE_S))
        super().init_poolmanager(*args, socket_options=options, **kwargs)
        idle_connections.use_in(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the manager of the pools of a proxy; requests calls this."""
        manager = super().proxy_manager_for(*args, **kwargs)
        idle_connections.use_in(manager)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; the body of the reply is not read yet."""
        if is_this_machine(urlsplit(request.url or "").hostname or ""):
            kwargs["proxies"] = None
        return super().send(request, *args, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request, direct or of a proxy of any kind; requests calls this."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _Bounded):
            pool.ConnectionCls = _bounded(pool.ConnectionCls)
        return pool


class _Response(http.client.HTTPResponse):
    """A reply that must be complete when the timeout of its socket is over."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _BoundedReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)

    def begin(self, **options: Any) -> None:
        super().begin(**options)
        # http.client takes interim replies other than 100 for the final one, which a later request would then receive.
        while 100 < self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]  # makes `begin` read the next one
            super().begin(**options)
        self._reader.allowance += MAX_PAYLOAD + _MAX_FRAMING


class _BoundedReader(io.RawIOBase):
    """Reads from a socket until a time and up to a number of bytes."""

    def __init__(self, raw: Any, sock: socket.socket) -> None:
        self.allowance = MAX_HEAD
        self._raw, self._sock = raw, sock
        self._ends = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if self.allowance <= 0:
            raise ReplyTooLarge
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self.allowance -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Bounded(HTTPConnection):
    """A connection whose replies are bounded."""

    response_class = _Response

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as error:  # of a proxy or the handshake; urllib3 would take it for that of a reply
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from error


class _PromptConnection(HTTPConnection):
    """A connection that is made within the connect timeout, however long name resolution takes."""

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout or 0.0
        ends = time.monotonic() + timeout
        failure: Exception = TimeoutError("timed out")
        try:
            addresses = _resolve(self._dns_host, self.port, timeout)
            for index, address in enumerate(addresses):
                share = (ends - time.monotonic()) / (len(addresses) - index)
                try:
                    connected = create_connection(address, max(share, 0.001), socket_options=self.socket_options)
                except OSError as error:
                    failure = error
                else:
                    connected.settimeout(max(ends - time.monotonic(), 0.001))  # for a proxy's reply and the handshake
                    return connected
        except (socket.gaierror, UnicodeError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, self, reason) from None
        except TimeoutError:
            pass
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.")
        raise NewConnectionError(self, f"Failed to establish a new connection: {failure}")


class _PromptTlsConnection(_PromptConnection, HTTPSConnection):
    pass


@functools.cache
def _bounded(connection: type[HTTPConnection]) -> type[HTTPConnection]:
    """The class of connections like `connection` whose replies are bounded."""
    prompt: dict[type[HTTPConnection], type[HTTPConnection]] = {
        HTTPConnection: _PromptConnection,
        HTTPSConnection: _PromptTlsConnection,
    }
    base = prompt.get(connection, connection)  # a connection through a SOCKS proxy is made by PySocks
    return type(f"Bounded{connection.__name__}", (_Bounded, base), {})


def _resolve(host: str, port: int, timeout: float) -> list[tuple[str, int]]:
    """The addresses of a host. The system's resolver has no timeout of its own, so it runs on another thread."""
    found: queue.SimpleQueue[list[tuple[str, int]] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put([(str(info[4][0]), port) for info in infos])
        except Exception as error:  # raised again in the caller's thread
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        result = found.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(result, Exception):
        raise result
    return result
