"""The Function URL on loopback, tested with requests and over raw sockets (local/server.py)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import requests
import waitress.buffers
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

import lambdiff
from lambdiff.auth.credentials import Keys
from lambdiff.auth.signing import FunctionUrlAuth
from lambdiff.client.client import Client
from lambdiff.errors import ConfigurationError
from lambdiff.handler.app import App
from lambdiff.local.connections import OncePerMinute
from lambdiff.local.server import FunctionUrlServer
from lambdiff.protocol import metadata
from support.stub_engine import StubEngine

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
REGION = "eu-west-1"
AUTH = FunctionUrlAuth(lambda: ReadOnlyCredentials(*KEYS), REGION)


@pytest.fixture
def engine() -> StubEngine:
    """An engine that counts its calls."""
    return StubEngine()


@pytest.fixture
def function(engine: StubEngine) -> Iterator[FunctionUrlServer]:
    """A Function URL that cuts off slow senders after a second."""
    with FunctionUrlServer(App(lambda: engine), KEYS, REGION, receive_seconds=1) as running:
        yield running


def post(function: FunctionUrlServer, body: Any = None, **options: Any) -> requests.Response:
    """Send a signed POST."""
    return requests.post(function.url, json=body or {"prompt": "a cat"}, auth=AUTH, timeout=20, **options)


def head(function: FunctionUrlServer, body: bytes, **extra: str) -> bytes:
    """Return the request line and headers of a signed POST, for a raw socket."""
    signed = AWSRequest("POST", function.url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(ReadOnlyCredentials(*KEYS), "lambda", REGION).add_auth(signed)
    host = function.url.split("/")[2]
    lines = {"Host": host, **dict(signed.headers.items()), **extra}
    return ("POST / HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items()) + "\r\n").encode()


def connect(function: FunctionUrlServer) -> socket.socket:
    """Open a raw connection."""
    host, port = function.url.split("/")[2].split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def raw(function: FunctionUrlServer, content: bytes) -> tuple[int, bytes]:
    """Send bytes, and return the status and body of the first response."""
    with connect(function) as connection:
        connection.sendall(content)
        received = b""
        while part := connection.recv(65536):
            received += part
            top, found, body = received.partition(b"\r\n\r\n")
            lengths = [line[15:] for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if found and lengths and len(body) >= int(lengths[0]):
                return int(received.split()[1]), body
    raise AssertionError(f"no complete response: {received[:200]!r}")


def test_a_signed_request_gets_an_image(function: FunctionUrlServer) -> None:
    """A signed request gets a response with the headers of Lambda and of lambdiff."""
    reply = post(function, {"prompt": "a cat", "seed": 5})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["x-amzn-requestid"] == reply.headers["lambdiff-request-id"]
    assert metadata.read(reply.content).generation.seed == 5
    health = requests.get(function.url, auth=AUTH, timeout=20).json()
    assert health["status"] == "ok"


def test_an_unsigned_request_is_refused_before_any_work(function: FunctionUrlServer, engine: StubEngine) -> None:
    """An unsigned request gets a 403 with a problem document, whatever its method."""
    for method in ("GET", "POST", "DELETE", "HEAD"):
        reply = requests.request(method, function.url, timeout=20)
        assert reply.status_code == 403
        assert reply.headers["x-amzn-errortype"] == "AccessDeniedException"
        assert method == "HEAD" or reply.json()["type"] == "urn:lambdiff:problem:forbidden"
    assert engine.loads == 0


def test_connections_are_reused(function: FunctionUrlServer) -> None:
    """Ten requests share one connection (HTTP/1.1 keep-alive)."""
    with requests.Session() as session:
        ports = set()
        for _ in range(10):
            with session.post(function.url, json={"prompt": "a"}, auth=AUTH, timeout=20, stream=True) as reply:
                ports.add(reply.raw.connection.sock.getsockname()[1])
                assert reply.content
        assert len(ports) == 1


def test_chunked_bodies_and_expect_headers_are_supported(function: FunctionUrlServer) -> None:
    """Chunked bodies and `Expect: 100-continue`, which curl sends with large bodies, are supported."""
    body = b'{"prompt":"a cat"}'
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert raw(function, head(function, body, **{"Transfer-Encoding": "chunked"}) + chunked)[0] == 200
    with connect(function) as connection:
        connection.sendall(head(function, body, **{"Content-Length": str(len(body)), "Expect": "100-continue"}))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5, 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 6291457\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 403),
    ],
)
def test_malformed_http_is_refused(function: FunctionUrlServer, content: bytes, status: int) -> None:
    """Malformed HTTP gets a problem document, and the next request is served."""
    got, body = raw(function, content)
    assert got == status
    document = json.loads(body)
    assert (document["status"], document["type"][:21]) == (status, "urn:lambdiff:problem:")
    assert post(function).status_code == 200


def test_slow_senders_are_cut_off(function: FunctionUrlServer) -> None:
    """Clients that stop midway, drip or send nothing are disconnected, while others are served."""
    body = b'{"prompt":"a cat"}'
    with connect(function) as half, connect(function) as silent, connect(function) as drip:
        half.sendall(head(function, body, **{"Content-Length": "18"}) + body[:5])
        assert post(function).status_code == 200

        def send_slowly() -> None:
            for _ in range(1_000):
                drip.sendall(b"G")
                time.sleep(0.05)

        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):  # depending on the system
            send_slowly()
        assert half.recv(1) == b""
        assert silent.recv(1) == b""


class Gate:
    """Blocks each step of an engine until it is opened: `StubEngine(before_step=gate)`."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self) -> None:
        self.reached.release()
        assert self.open.wait(60)


def test_requests_beyond_the_concurrency_limit_get_a_429() -> None:
    """While an image is in progress, further requests get a 429 immediately, and they succeed afterwards."""
    gate = Gate()
    engine = StubEngine(before_step=gate)
    with FunctionUrlServer(App(lambda: engine), KEYS, REGION) as function, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, function)
        assert gate.reached.acquire(timeout=60)
        for _ in range(3):
            refused = post(function)
            assert refused.status_code == 429
            assert refused.json()["type"] == "urn:lambdiff:problem:too-many-requests"
        gate.open.set()
        assert first.result().status_code == 200
        assert post(function).status_code == 200
    assert engine.calls == 2


def test_requests_up_to_the_concurrency_limit_are_accepted() -> None:
    """Of six simultaneous requests, as many are accepted as the concurrency allows, and the others get a 429."""
    gate = Gate()
    app = App(lambda: StubEngine(before_step=gate))
    with FunctionUrlServer(app, KEYS, REGION, concurrency=2) as function, ThreadPoolExecutor(6) as pool:
        refused: set[Future[requests.Response]] = set()
        pending = {pool.submit(post, function) for _ in range(6)}
        while len(pending) > 2:
            done, pending = wait(pending, timeout=60, return_when=FIRST_COMPLETED)
            assert done
            refused |= done
        gate.open.set()
        assert [future.result().status_code for future in refused] == [429] * 4
        assert [future.result().status_code for future in pending] == [200] * 2


def test_a_step_that_outlasts_the_timeout_gets_a_502() -> None:
    """After the function's timeout the caller gets a 502, and the slot stays occupied until the step ends."""
    gate = Gate()
    with FunctionUrlServer(App(lambda: StubEngine(before_step=gate)), KEYS, REGION, timeout=0.3) as function:
        reply = post(function, {"prompt": "a", "num_inference_steps": 1})
        assert reply.status_code == 502
        assert reply.json()["type"] == "urn:lambdiff:problem:timed-out"
        assert post(function).status_code == 429
        gate.open.set()
        wait_until(lambda: post(function).status_code == 200)


def test_closing_waits_for_images_in_progress() -> None:
    """Closing the server lets images in progress finish, and then frees the port and all threads."""
    gate = Gate()
    threads = threading.active_count()
    replies: list[requests.Response] = []
    with FunctionUrlServer(App(lambda: StubEngine(before_step=gate)), KEYS, REGION) as function:
        caller = threading.Thread(target=lambda: replies.append(post(function)))
        caller.start()
        assert gate.reached.acquire(timeout=60)
        threading.Timer(0.2, gate.open.set).start()  # while the server is closing
    caller.join()
    assert [reply.status_code for reply in replies] == [200]
    with pytest.raises(OSError, match="refused"):
        connect(function)
    wait_until(lambda: threading.active_count() <= threads)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait up to a minute for a condition."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.02)


def test_an_unusable_address_is_a_clear_error(function: FunctionUrlServer) -> None:
    """If the server cannot listen on its port or host, the error says what to change."""
    port = int(function.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigurationError, match="cannot listen on") as error:
        FunctionUrlServer(App(StubEngine), KEYS, REGION, port=port)
    assert "`port=`" in error.value.fix
    with pytest.raises(ConfigurationError):
        FunctionUrlServer(App(StubEngine), KEYS, REGION, host="no.such.host.invalid")


def test_ipv6_works() -> None:
    """The server listens on IPv6, with brackets in its URL."""
    with FunctionUrlServer(App(StubEngine), KEYS, REGION, host="::1") as function:
        assert function.url.startswith("http://[::1]:")
        assert post(function).status_code == 200


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")])  # noqa: S104
def test_the_url_of_a_server_on_all_addresses_works(host: str, url: str) -> None:
    """A server that listens on all addresses has a URL that lambdiff's own client accepts."""
    with FunctionUrlServer(App(StubEngine), KEYS, REGION, host=host) as function:
        assert function.address == host
        assert function.url.startswith(url)
        with Client(function.url, region=REGION, credentials=KEYS) as client:
            assert client.generate("a cat").size == (64, 64)


@pytest.fixture
def spooled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of request bodies as they are moved to temporary files."""
    sizes: list[int] = []
    original = waitress.buffers.TempfileBasedBuffer

    def create(from_buffer: Any = None) -> Any:
        sizes.append(len(from_buffer))
        return original(from_buffer)

    monkeypatch.setattr(waitress.buffers, "TempfileBasedBuffer", create)
    return sizes


@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_of_an_unsigned_request_is_not_kept(
    function: FunctionUrlServer, engine: StubEngine, spooled: list[int], chunked: bool
) -> None:
    """A body that cannot be accepted is discarded as it arrives, and its connection still gets a 403 and is reused."""
    body = b"x" * 3_000_000
    stranger = FunctionUrlAuth(lambda: ReadOnlyCredentials("AKIDOTHER", "secret", None), REGION)
    with requests.Session() as session:
        for auth in (None,) if chunked else (None, stranger):
            reply = session.post(function.url, iter([body]) if chunked else body, auth=auth, timeout=20)
            assert reply.status_code == 403
        assert session.post(function.url, json={"prompt": "a"}, auth=AUTH, timeout=20).status_code == 200
    assert not spooled
    assert requests.post(function.url, body, auth=AUTH, timeout=20).status_code in {413, 415}
    assert spooled
    assert engine.calls == 1


def test_a_body_is_kept_if_its_headers_are_acceptable(function: FunctionUrlServer) -> None:
    """A request with the right key but another body than the signed one is refused by its signature."""
    signed = head(function, b'{"prompt":"a cat"}', **{"Content-Length": "18"})
    status, body = raw(function, signed + b'{"prompt":"a dog"}')
    assert status == 403
    assert "signature does not match" in json.loads(body)["detail"]


CROWDED = """
import resource, sys, threading
from lambdiff.auth.credentials import Keys
from lambdiff.handler.app import App
from lambdiff.local.connections import OncePerMinute
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
with FunctionUrlServer(App(StubEngine), Keys(*sys.argv[1:3]), sys.argv[3]) as function:
    print(function.url, flush=True)
    threading.Event().wait()
"""


@pytest.mark.linux
@pytest.mark.slow
def test_many_connections_do_not_exhaust_the_descriptors(tmp_path: Path) -> None:
    """With 128 descriptors and 200 connections, half of them slow senders, callers are served, with little output."""
    command = [sys.executable, "-c", CROWDED, *KEYS[:2], REGION]
    needed = [Path(__file__).parents[2], Path(lambdiff.__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, needed))}
    with (tmp_path / "stderr").open("w") as stderr:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        host, port = url.split("/")[2].split(":")
        with contextlib.ExitStack() as held:
            for number in range(200):
                connection = held.enter_context(socket.create_connection((host, int(port)), timeout=10))
                if number % 2:
                    connection.sendall(b"POST / HTTP/1.1\r\nx: ")
            with Client(url, region=REGION, credentials=KEYS) as client:
                for seed in range(3):
                    assert client.generate("a cat", seed=seed).seed == seed
        with Client(url, region=REGION, credentials=KEYS) as client:
            assert client.generate("a cat").size == (64, 64)
    finally:
        server.kill()
        server.wait()
    assert (tmp_path / "stderr").stat().st_size < 2_000


@pytest.mark.linux
def test_too_few_descriptors_are_a_clear_error() -> None:
    """If a process may open fewer files than the concurrency needs, the error says how many it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        with pytest.raises(ConfigurationError, match="may open 128 files") as caught:
            FunctionUrlServer(App(StubEngine), KEYS, REGION, concurrency=500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n 566" in caught.value.fix


def test_messages_of_waitress_are_rare_and_safe_to_print() -> None:
    """Each kind of message appears once a minute, without control characters."""
    now = [0.0]
    rare = OncePerMinute(clock=lambda: now[0])

    def record(line: int, text: str) -> logging.LogRecord:
        return logging.LogRecord("waitress", logging.WARNING, "server.py", line, "while serving %s", (text,), None)

    first = record(1, "/\x1b[31m")
    assert rare.filter(first)
    assert first.getMessage() == r"while serving /\x1b[31m"
    assert not any(rare.filter(record(1, str(number))) for number in range(1_000))
    assert rare.filter(record(2, "x"))
    now[0] = 61
    assert rare.filter(record(1, "x"))
