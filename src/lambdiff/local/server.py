"""A loopback Function URL: it checks signatures and runs the handler as Lambda does. waitress handles HTTP.

It behaves like AWS in these respects: SigV4 over host, date, token and body; 429 beyond the concurrency limit; 6 MB per
request and response; the function's timeout; events of payload format 2.0; request ids.
"""

from __future__ import annotations

import base64
import functools
import logging
import queue
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from lambdiff.auth.credentials import Keys
from lambdiff.auth.verification import ReceivedRequest, SignatureRefused, Verifier
from lambdiff.engine.cancellation import cancelled_if
from lambdiff.errors import Cancelled, ConfigurationError
from lambdiff.handler.app import App
from lambdiff.local import lambda_event
from lambdiff.local.connections import Connection, OncePerMinute
from lambdiff.protocol.headers import PROBLEM_JSON
from lambdiff.protocol.problems import make_problem

MAX_REQUEST: Final = 6 * 1024 * 1024
"""Maximum bytes of a request's body."""
MAX_HEADERS: Final = 16 * 1024
"""Maximum bytes of a request's headers."""
IDLE_SECONDS: Final = 60
"""How long a connection may be idle."""
RECEIVE_SECONDS: Final = 30
"""How long a request may take to arrive, even if it keeps sending."""
_MAX_CONNECTIONS: Final = 1_000
_MAX_SELECT: Final = 500
"""Maximum number of connections where there is no `poll`: Windows selects among at most 512 sockets."""
_OTHER_DESCRIPTORS: Final = 64
"""File descriptors that are left for the model, temporary files and the process itself."""
_GRACE_SECONDS: Final = 1.0
"""How long a connection may be idle or incomplete while all connections are in use."""
_SPARE_THREADS: Final = 8
"""Threads in addition to the concurrency limit, which answer requests that find no free slot."""
_CANCELLING_SECONDS: Final = 0.5
"""How long `close` waits for requests to end that it has cancelled."""
_SENDING_SECONDS: Final = 0.4
"""How long `close` waits for replies to be sent."""

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


class FunctionUrlServer:
    """A Function URL that answers requests while the `with` block runs.

    Args:
        app: the handler.
        keys: the key pair that requests must be signed with.
        region: the region that requests must be signed for.
        host: the address to listen on.
        port: the port to listen on; 0 picks a free one.
        concurrency: the maximum number of requests in progress; further ones are answered with 429.
        timeout: seconds after which a request is answered with 502.
        receive_seconds: how long a request may take to arrive, at least 1.
        clock: returns the current time, for checking signatures.

    Attributes:
        url: the server's URL, for callers on this machine if it listens on all addresses.
        address: the IP address that it listens on.

    Raises:
        ConfigurationError: the address is not available, or this process may open too few files.

    Example:
        >>> with FunctionUrlServer(app, keys, "us-east-1") as function:
        ...     client = lambdiff.Client(function.url, region="us-east-1", credentials=keys)
        ...     client.generate("a cat").size
        (64, 64)
    """

    def __init__(
        self,
        app: App,
        keys: Keys,
        region: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        concurrency: int = 1,
        timeout: float = 600,
        receive_seconds: int = RECEIVE_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._verifier = Verifier(keys, region, clock=clock)
        self._slots = threading.BoundedSemaphore(concurrency)
        self._concurrency = concurrency
        self._timeout = timeout
        self._max_connections = _max_connections(concurrency)
        listener = _listen(host, port)
        self.address, port = listener.getsockname()[:2]
        self.url = _url(self.address, port)
        self._sockets: dict[int, Any] = {}
        self._server = self._create_server(listener, receive_seconds)
        self._pending: set[queue.SimpleQueue[dict[str, Any] | None]] = set()
        self._closing = threading.Event()
        self._cancelled = threading.Event()
        self._stopping = threading.Event()
        # The trigger that wakes the loop is one of its sockets and must not be closed while it is being pulled.
        self._waking = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="lambdiff-serve", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self, patience: float = 5.0) -> None:
        """Stop: refuse new connections and requests, and cancel those in progress or waiting after `patience` seconds.

        Everybody gets a reply. Takes up to a second longer than `patience`.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake()
        self._wait_for_requests(patience)
        self._cancelled.set()
        self._wait_for_requests(_CANCELLING_SECONDS)
        for replies in list(self._pending):
            replies.put(None)  # for a model that is still being loaded
        self._stopping.set()
        self._wake()
        self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=0.1)

    def _wake(self) -> None:
        with self._waking:
            if self._sockets:
                self._server.pull_trigger()

    def _wait_for_requests(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.01)

    def _create_server(self, listener: socket.socket, receive_seconds: int) -> Any:
        server = create_server(
            self._wsgi,
            map=self._sockets,
            sockets=[listener],
            threads=self._concurrency + _SPARE_THREADS,
            max_request_body_size=MAX_REQUEST,
            max_request_header_size=MAX_HEADERS,
            channel_timeout=min(IDLE_SECONDS, receive_seconds),
            cleanup_interval=min(5, receive_seconds),
            connection_limit=self._max_connections,
            log_socket_errors=False,
            ident="lambdiff",
            clear_untrusted_proxy_headers=False,
        )
        server.channel_class = functools.partial(
            Connection, receive_seconds=receive_seconds, acceptable=self._acceptable
        )
        for name in ("waitress", "waitress.queue"):
            logger = logging.getLogger(name)
            if not any(isinstance(each, OncePerMinute) for each in logger.filters):
                logger.addFilter(OncePerMinute())
        return server

    def _loop(self) -> None:
        def poll(timeout: float) -> None:
            wasyncore.loop(timeout=timeout, use_poll=hasattr(select, "poll"), map=self._sockets, count=1)

        while not self._closing.is_set():
            poll(1)
            self._make_room()
        self._stop_listening()
        while not self._stopping.is_set():
            poll(1)
        deadline = time.monotonic() + _SENDING_SECONDS
        while time.monotonic() < deadline and any(each.answering for each in self._server.active_channels.values()):
            poll(0.1)
        with self._waking:
            wasyncore.close_all(self._sockets)

    def _make_room(self) -> None:
        """If there are no connections left, close the one that has been idle or incomplete for longest."""
        if len(self._sockets) < self._max_connections:
            return
        waiting = [each for each in self._server.active_channels.values() if not each.answering]
        slowest = max(waiting, key=lambda each: each.waiting_seconds, default=None)
        if slowest is not None and slowest.waiting_seconds > _GRACE_SECONDS:
            slowest.will_close = True

    def _acceptable(self, parser: Any) -> bool:
        headers = tuple((name.replace("_", "-").lower(), value) for name, value in parser.headers.items())
        try:
            self._verifier.verify_headers(ReceivedRequest(parser.command, parser.request_uri, headers))
        except SignatureRefused:
            return False
        return True

    def _stop_listening(self) -> None:
        """Accept the connections that are already made, whose requests get a reply, and refuse further ones."""
        known = -1
        while known != (known := len(self._server.active_channels)):
            self._server.handle_accept()
        wasyncore.dispatcher.close(self._server)

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = str(uuid.uuid4())
        status, headers, body = self._answer(_received(environ), environ, request_id)
        headers |= {"x-amzn-requestid": request_id, "content-length": str(len(body))}
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, request: ReceivedRequest, environ: dict[str, Any], request_id: str) -> Reply:
        # 1. Check the signature.
        try:
            self._verifier.verify(request)
        except SignatureRefused as refusal:
            return _problem("forbidden", str(refusal), request_id, {"x-amzn-errortype": "AccessDeniedException"})
        # 2. Take a slot.
        if self._closing.is_set():
            return _stopping(request_id)
        if not self._slots.acquire(blocking=False):
            detail = f"{self._concurrency} requests are in progress: try again later, or raise the server's limit."
            return _problem("too-many-requests", detail, request_id, {"x-amzn-errortype": "TooManyRequestsException"})
        # 3. Run the handler until the timeout. A thread cannot be stopped: it keeps its slot until it is done.
        event = lambda_event.make_event(request, environ, request_id)
        replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._pending.add(replies)
        arguments = (event, _Context(request_id, self._timeout), replies)
        threading.Thread(target=self._invoke, args=arguments, daemon=True).start()
        # 4. Reply.
        try:
            reply = replies.get(timeout=self._timeout)
        except queue.Empty:
            return _problem("timed-out", f"The function did not finish within {self._timeout:g} s.", request_id)
        finally:
            self._pending.discard(replies)
        return _stopping(request_id) if reply is None else _decoded(reply)

    def _invoke(
        self, event: dict[str, Any], context: _Context, replies: queue.SimpleQueue[dict[str, Any] | None]
    ) -> None:
        try:
            with cancelled_if(self._cancelled.is_set):
                replies.put(self._app.invoke(event, context))
        except Cancelled:
            replies.put(None)
        finally:
            self._slots.release()


class _Context:
    """The second argument of a Lambda handler."""

    def __init__(self, request_id: str, timeout: float) -> None:
        self.aws_request_id = request_id
        self._deadline = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def _received(environ: dict[str, Any]) -> ReceivedRequest:
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    ]
    return ReceivedRequest(
        environ["REQUEST_METHOD"], environ["REQUEST_URI"], tuple(headers), environ["wsgi.input"].read()
    )


def _decoded(response: dict[str, Any]) -> Reply:
    """Turn the return value of a Lambda handler into a reply."""
    body = response["body"]
    return (
        response["statusCode"],
        dict(response["headers"]),
        base64.b64decode(body) if response["isBase64Encoded"] else body.encode(),
    )


def _problem(slug: str, detail: str, request_id: str, headers: dict[str, str] | None = None) -> Reply:
    document = make_problem(slug, detail, instance=request_id)
    return document.status, {"content-type": PROBLEM_JSON, **(headers or {})}, msgspec.json.encode(document)


def _stopping(request_id: str) -> Reply:
    return _problem("stopping", "Nothing was generated.", request_id)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"The server cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}.",
            fix="Choose another `port=` (0 picks a free one) or `host=`.",
        ) from None


def _url(address: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 (not listened on here)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _max_connections(concurrency: int) -> int:
    """How many connections there may be at once, so that descriptors are left for everything else.

    Raises:
        ConfigurationError: not even as many as the concurrency.
    """
    if not hasattr(select, "poll"):
        return _MAX_SELECT
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    connections = min(_MAX_CONNECTIONS, limit - _OTHER_DESCRIPTORS)
    if connections < concurrency + 2:
        raise ConfigurationError(
            f"This process may open {limit} files, which is not enough for {concurrency} concurrent requests.",
            fix=f"Raise the limit: `ulimit -n {concurrency + 2 + _OTHER_DESCRIPTORS}`.",
        )
    return connections
