"""A Function URL on loopback: HTTP in, signature checked, Lambda's event through the handler, HTTP out.

What it does as AWS does: SigV4 over host, date, token and body; a 429 beyond the concurrency; 6 MB each way; the
function's time-out; events of payload format 2.0; a request id. HTTP itself is waitress's.
"""

from __future__ import annotations

import base64
import functools
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
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from lambdiff.auth.credentials import Keys
from lambdiff.auth.verification import ReceivedRequest, SignatureRefused, Verifier
from lambdiff.errors import ConfigurationError
from lambdiff.handler.app import App
from lambdiff.local import lambda_event
from lambdiff.protocol.headers import PROBLEM_JSON
from lambdiff.protocol.problems import make_problem

MAX_REQUEST: Final = 6 * 1024 * 1024
MAX_HEADERS: Final = 16 * 1024
IDLE_SECONDS: Final = 60
RECEIVE_SECONDS: Final = 30
"""How long a request may take to arrive, however steadily it drips."""

Reply = tuple[int, dict[str, str], bytes]


class FunctionUrlServer:
    """A Function URL that answers while the `with` block runs.

    Args:
        app: the handler.
        keys: the key pair that may call.
        region: of the signatures' scope.
        host, port: where to listen; port 0 takes a free one.
        concurrency: requests in hand at once; further ones get a 429.
        timeout: seconds after which a request gets a 502.
        receive_seconds: how long a request may take to arrive, at least 1.
        clock: the current time, for the signatures.

    Raises:
        ConfigurationError: the address cannot be listened on.

    Example:
        >>> with FunctionUrlServer(app, keys, "us-east-1") as function:  # doctest: +SKIP
        ...     requests.post(function.url, json={"prompt": "a cat"}, auth=auth)
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
        listening = _listen(host, port)
        host, port = listening.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._sockets: dict[int, Any] = {}
        self._server = create_server(
            self._wsgi,
            map=self._sockets,
            sockets=[listening],
            threads=concurrency + 8,  # the eight refuse what does not get a slot
            max_request_body_size=MAX_REQUEST,
            max_request_header_size=MAX_HEADERS,
            channel_timeout=min(IDLE_SECONDS, receive_seconds),
            cleanup_interval=min(5, receive_seconds),
            connection_limit=1_000,
            ident="lambdiff",
            clear_untrusted_proxy_headers=False,
        )
        self._server.channel_class = functools.partial(_Channel, receive_seconds=receive_seconds)
        self._stopping = threading.Event()
        # The trigger that wakes the loop is one of its sockets: the loop must not close it while it is being pulled.
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
        """Stop listening; requests in hand get `patience` seconds to end."""
        deadline = time.monotonic() + patience
        free = 0
        while free < self._concurrency and self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            free += 1
        self._stopping.set()
        with self._waking:
            if self._sockets:
                self._server.pull_trigger()
        self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=1)

    def _loop(self) -> None:
        def turn(timeout: float) -> None:
            wasyncore.loop(timeout=timeout, use_poll=hasattr(select, "poll"), map=self._sockets, count=1)

        while not self._stopping.is_set():
            turn(1)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and any(each.sending for each in self._server.active_channels.values()):
            turn(0.1)
        with self._waking:
            wasyncore.close_all(self._sockets)

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = str(uuid.uuid4())
        status, headers, body = self._answer(_received(environ), environ, request_id)
        headers |= {"x-amzn-requestid": request_id, "content-length": str(len(body))}
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, request: ReceivedRequest, environ: dict[str, Any], request_id: str) -> Reply:
        try:
            self._verifier.verify(request)
        except SignatureRefused as refusal:
            return _problem("forbidden", str(refusal), request_id, {"x-amzn-errortype": "AccessDeniedException"})
        if not self._slots.acquire(blocking=False):
            detail = f"{self._concurrency} requests are in progress: try again later, or raise the server's limit."
            return _problem("too-many-requests", detail, request_id, {"x-amzn-errortype": "TooManyRequestsException"})
        replies: list[dict[str, Any]] = []
        worker = threading.Thread(
            target=self._invoke,
            args=(lambda_event.event_of(request, environ, request_id), _Context(request_id, self._timeout), replies),
            daemon=True,
        )
        worker.start()
        worker.join(self._timeout)
        if not replies:
            return _problem("timed-out", f"The function's time-out of {self._timeout:g} s is over.", request_id)
        return _rendered(replies[0])

    def _invoke(self, event: dict[str, Any], context: _Context, replies: list[dict[str, Any]]) -> None:
        try:
            replies.append(self._app.invoke(event, context))
        finally:
            self._slots.release()


class _Context:
    """What a Lambda handler is told about its own end."""

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


def _rendered(reply: dict[str, Any]) -> Reply:
    body = reply["body"]
    return (
        reply["statusCode"],
        dict(reply["headers"]),
        base64.b64decode(body) if reply["isBase64Encoded"] else body.encode(),
    )


def _problem(slug: str, detail: str, request_id: str, headers: dict[str, str] | None = None) -> Reply:
    document = make_problem(slug, detail, instance=request_id)
    return document.status, {"content-type": PROBLEM_JSON, **(headers or {})}, msgspec.json.encode(document)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be listened on: {getattr(error, 'strerror', None) or error}.",
            fix="Choose another `port=` (0 picks a free one) or `host=`.",
        ) from None


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """What waitress refuses by itself, as a problem document."""

    def execute(self) -> None:
        error = self.request.error
        slug = {413: "payload-too-large", 431: "payload-too-large", 500: "internal-error"}.get(
            error.code, "malformed-request"
        )
        document = make_problem(slug, f"{error.reason}: {error.body}"[:200])
        body = msgspec.json.encode(document)
        self.status = f"{document.status} {HTTPStatus(document.status).phrase}"
        self.response_headers.append(("Content-Type", PROBLEM_JSON))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that is closed when a request takes too long to arrive."""

    error_task_class = _ErrorTask

    def __init__(self, *arguments: Any, receive_seconds: int, **options: Any) -> None:
        self._receive_seconds = receive_seconds
        self._began: float | None = None
        super().__init__(*arguments, **options)

    @property
    def sending(self) -> bool:
        """Whether an answer is under way."""
        return bool(self.requests or self.total_outbufs_len)

    def received(self, data: bytes) -> bool:
        if self._began is not None and time.monotonic() - self._began > self._receive_seconds:
            self.will_close = True
            return False
        accepted: bool = super().received(data)
        if self.request is None:
            self._began = None
        elif self._began is None:
            self._began = time.monotonic()
        return accepted
