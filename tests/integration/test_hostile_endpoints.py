"""The client with endpoints that want to keep it waiting, fill its memory or learn its secrets."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdiff import errors
from lambdiff.auth.credentials import GivenCredentials, Keys
from lambdiff.client.client import Client
from lambdiff.client.function_url import FunctionUrlTransport
from lambdiff.protocol.headers import MEDIA_TYPES
from support import hostile_images, hostile_replies
from support.faulty_server import Answer, FaultyServer, flood, reply, stall, trickle
from support.tls import write_certificate

CREDENTIALS = GivenCredentials(Keys("AKIDEXAMPLE", "secret"))
OK = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
PATIENCE = 20
"""Seconds that no test takes, on however slow a machine; the servers would go on for ever."""


def client(url: str, *, timeout_s: float = 0.3, connect_timeout_s: float = 0.2, ca_bundle: str | None = None) -> Client:
    """Return a client that waits half a second, retries and connecting included."""
    return Client(
        transport=FunctionUrlTransport(
            url, "us-east-1", CREDENTIALS, timeout_s, ca_bundle=ca_bundle, connect_timeout_s=connect_timeout_s,
            read_margin_s=0, backoff_s=0,
        )
    )  # fmt: skip


SLOW: dict[str, Answer] = {
    "nothing": stall,
    "status": trickle(b"HTTP/1.1 200 "),
    "one header": trickle(b"HTTP/1.1 200 OK\r\nx: "),
    "many headers": trickle(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "100 Continue": trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": trickle(b"", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"),
    "body with a length": trickle(OK + b"content-length: 1000000\r\n\r\n"),
    "body without a length": trickle(OK + b"\r\n"),
    "chunks": trickle(CHUNKED, b"1\r\nx\r\n"),
    "chunk size": trickle(CHUNKED, b"0"),
    "chunk extension": trickle(CHUNKED + b"5;"),
    "trailers": trickle(CHUNKED + b"0\r\n", b"a: b\r\n"),
    "redirect's body": trickle(b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n"),
    "refusal": trickle(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 1000000\r\n\r\n"),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_a_reply_that_never_ends_is_abandoned_in_time(answer: Answer) -> None:
    """However a reply drags on, there is an `EndpointTimeout` at the time limit, after one request."""
    with FaultyServer(answer) as server, client(server.url) as caller:
        started = time.monotonic()
        with pytest.raises(errors.EndpointTimeout):
            caller.generate("a cat")
        assert time.monotonic() - started < PATIENCE
        assert len(server.heads) == 1


LARGE: dict[str, Answer] = {
    "one header": flood(b"HTTP/1.1 200 OK\r\nx: ", b"x"),
    "many headers": flood(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "large headers": flood(b"HTTP/1.1 200 OK\r\n", b"a: " + b"b" * 60_000 + b"\r\n"),
    "status": flood(b"HTTP/1.1 200 ", b"x"),
    "100 Continue": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing": flood(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "body without a length": flood(OK + b"\r\n", b"x"),
    "body of a terabyte": flood(OK + b"content-length: 1000000000000\r\n\r\n", b"x"),
    "length of 5,000 digits": flood(OK + b"content-length: " + b"9" * 5_000 + b"\r\n\r\n", b"x"),
    "small chunks": flood(CHUNKED, b"8\r\nxxxxxxxx\r\n"),
    "large chunks": flood(CHUNKED, b"ffff\r\n" + b"x" * 65_535 + b"\r\n"),
    "chunk extensions": flood(CHUNKED, b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
    "trailers": flood(CHUNKED + b"0\r\n", b"a: " + b"b" * 60_000 + b"\r\n"),
    "redirect's body": flood(b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", b"x"),
    "failure": flood(b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\n\r\n", b"["),
    "compressed": flood(OK + b"content-encoding: gzip, gzip\r\n\r\n", b"\x1f\x8b" + bytes(1_000)),
}


@pytest.mark.parametrize("answer", LARGE.values(), ids=LARGE)
def test_a_reply_of_any_size_is_refused(answer: Answer) -> None:
    """However a reply grows beyond what a Function URL can send, it is abandoned long before the time limit."""
    with FaultyServer(answer) as server, client(server.url, timeout_s=600) as caller:
        started = time.monotonic()
        with pytest.raises(errors.EndpointFailed) as caught:
            caller.generate("a cat")
        assert type(caught.value) is errors.EndpointFailed
        assert time.monotonic() - started < PATIENCE
        assert len(server.heads) == 1


@pytest.mark.parametrize("answer", [SLOW["many headers"], SLOW["chunks"], LARGE["body without a length"]])
def test_limits_apply_to_health_reports(answer: Answer) -> None:
    """A health report is bounded like an image."""
    with FaultyServer(answer) as server, client(server.url) as caller:
        started = time.monotonic()
        with pytest.raises(errors.EndpointFailed):
            caller.health()
        assert time.monotonic() - started < PATIENCE


def test_retries_end_in_time() -> None:
    """Slow refusals are repeated only as long as the function could still use all of its time."""

    def slowly_refuse(connection: socket.socket) -> None:
        time.sleep(0.4)
        reply(429, retry_after="1000000000")(connection)

    with FaultyServer(slowly_refuse) as server, client(server.url, timeout_s=5, connect_timeout_s=0.6) as caller:
        with pytest.raises(errors.Throttled):
            caller.generate("a cat")
        assert len(server.heads) < 3


def test_the_time_in_retry_after_does_not_matter() -> None:
    """A server cannot make the client wait with Retry-After."""
    with FaultyServer(reply(429, retry_after="1000000000")) as server:
        with client(server.url, connect_timeout_s=10) as caller, pytest.raises(errors.Throttled):
            caller.generate("a cat")
        assert len(server.heads) == 6


def test_a_handshake_that_never_ends_is_abandoned_in_time() -> None:
    """A server that accepts a connection but does not speak TLS counts as unreachable."""
    with FaultyServer(stall) as server:
        with client(server.url.replace("http:", "https:")) as caller, pytest.raises(errors.EndpointUnreachable):
            caller.generate("a cat")


@pytest.mark.parametrize(
    "answer",
    [stall, trickle(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), flood(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), trickle(b"HT")],
)
def test_a_proxy_cannot_delay_for_ever(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """A proxy that never connects is abandoned in time."""
    with FaultyServer(answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with client("https://abc.lambda-url.us-east-1.on.aws/") as caller:
            started = time.monotonic()
            with pytest.raises(errors.EndpointFailed):
                caller.generate("a cat")
            assert time.monotonic() - started < PATIENCE


def test_a_silent_name_server_cannot_delay_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name resolution counts towards the time to connect."""
    answered = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with client("https://abc.lambda-url.us-east-1.on.aws/") as caller, pytest.raises(errors.EndpointUnreachable):
        caller.generate("a cat")
    answered.set()


def test_all_addresses_share_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first addresses of a host do not answer, the others are tried within the same time."""
    good = FaultyServer(reply(500))
    port = int(good.url.split(":")[2].rstrip("/"))
    with socket.create_server(("127.0.0.2", port), backlog=0) as full, socket.create_connection(full.getsockname()):
        real = socket.getaddrinfo
        addresses = [real(host, port, type=socket.SOCK_STREAM)[0] for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: addresses if host == "two" else real(host, *a, **k)
        )
        with good, client(f"http://two:{port}/", connect_timeout_s=1) as caller:
            with pytest.raises(errors.EndpointFailed, match="500"):
                caller.generate("a cat")


def test_an_interim_reply_is_not_taken_for_the_final_one() -> None:
    """A final reply after interim ones belongs to its own request, and not to the next one."""
    early = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"

    def answer(number: int) -> Answer:
        body = b'{"Message": "number %d"}' % number
        head = b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return lambda connection: connection.sendall(early + head + body)

    with FaultyServer(answer(1), answer(2)) as server, client(server.url, timeout_s=10) as caller:
        for number in (1, 2):
            with pytest.raises(errors.EndpointFailed, match=f"number {number}"):
                caller.generate("a cat")


def test_protocols_are_not_switched() -> None:
    """A server cannot switch to another protocol."""
    switch = lambda connection: connection.sendall(b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n")  # noqa: E731
    with FaultyServer(switch) as server, client(server.url, timeout_s=10) as caller:
        with pytest.raises(errors.EndpointRefused, match="101"):
            caller.generate("a cat")


def test_a_malformed_location_is_not_followed() -> None:
    """Whatever the address of a redirect, it is not even parsed."""
    for location in ("http://[", "file:///etc/passwd", "//", "\x80", "http://a:b@c:999999999/"):
        with FaultyServer(reply(302, location=location)) as server, client(server.url, timeout_s=10) as caller:
            with pytest.raises(errors.EndpointRefused, match="redirects"):
                caller.generate("a cat")
            assert len(server.heads) == 1


def test_cookies_are_neither_kept_nor_sent() -> None:
    """An endpoint cannot make the client send its cookies back, nor fill its memory with them."""
    with FaultyServer(reply(500, set_cookie="a=b; Max-Age=99999")) as server, client(server.url) as caller:
        for _ in range(2):
            with pytest.raises(errors.EndpointFailed):
                caller.generate("a cat")
        assert "cookie" not in server.heads[1].lower()


def test_compression_is_not_offered() -> None:
    """The client asks for a reply as it is."""
    with FaultyServer(reply(500)) as server, client(server.url) as caller:
        with pytest.raises(errors.EndpointFailed):
            caller.generate("a cat")
        assert "\naccept-encoding: identity\r" in server.heads[0].lower()


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "identity, deflate", ", ".join(["gzip"] * 1_000)])
def test_a_compressed_reply_is_refused(encoding: str) -> None:
    """A reply that is compressed although that was not asked for is not decompressed."""
    answer = reply(200, b"\x1f\x8b" + bytes(100), content_type="image/png", content_encoding=encoding)
    with FaultyServer(answer) as server, client(server.url, timeout_s=10) as caller:
        with pytest.raises(errors.EndpointFailed, match="compressed"):
            caller.generate("a cat")


@pytest.fixture
def proxy() -> Iterator[FaultyServer]:
    """A proxy that answers every request itself."""
    with FaultyServer(reply(500, b'{"Message": "from the proxy"}', content_type="application/json")) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]"])
def test_nothing_for_this_machine_goes_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: FaultyServer, host: str
) -> None:
    """Prompts and signatures for any address of this machine ignore proxy variables, and no netrc login is sent."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    (tmp_path / "netrc").write_text("default login ann password pwd\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with FaultyServer(reply(500), host=host.strip("[]").removeprefix("::ffff:")) as server:
        port = server.url.rsplit(":", 1)[1]
        with Client(f"http://{host}:{port}", region="us-east-1", credentials=Keys("AKIDEXAMPLE", "secret")) as caller:
            with pytest.raises(errors.EndpointFailed):
                caller.generate("a cat")
            with pytest.raises(errors.EndpointFailed):
                caller.health()
        assert len(server.heads) == 2
        assert all("AWS4-HMAC-SHA256" in head and "Basic" not in head for head in server.heads)
    assert not proxy.heads


ATTACKED = """
import contextlib, pathlib, re, sys
from lambdiff import Client, Keys, LambdiffError

def peak() -> int:  # not `ru_maxrss`, which the parent process contributes to
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

url, *formats = sys.argv[1:]
with Client(url, region="us-east-1", credentials=Keys("AKIDEXAMPLE", "secret")) as client:
    client.generate("a cat", seed=7, width=64, height=64)
    before = peak()
    for image_format in formats:
        with contextlib.suppress(LambdiffError):
            client.generate("a cat", seed=7, width=64, height=64, image_format=image_format)
    with contextlib.suppress(LambdiffError):
        client.health()
print(peak() - before)
"""
"""Prints by how many kB the peak of its memory grows while an endpoint attacks it."""


@pytest.mark.linux
@pytest.mark.slow
def test_memory_stays_bounded_whatever_arrives() -> None:
    """Through all attacks in a row, with replies and with images, the client's memory grows by less than 150 MB."""
    images = [*hostile_images.refused(), *hostile_images.expanding()]
    answers = [reply(200, content, content_type=MEDIA_TYPES[kind]) for _, kind, content in images]
    good = reply(200, hostile_images.encoded("png"), content_type="image/png")
    health = reply(200, b"[" + b'"a",' * 1_500_000 + b'"a"]', content_type="application/json")
    formats = [*(kind for _, kind, _ in images), *("png" for _ in LARGE)]
    with FaultyServer(good, *answers, *LARGE.values(), health) as server:
        command = [sys.executable, "-c", ATTACKED, server.url, *formats]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert len(server.heads) == len(formats) + 2
    assert int(ran.stdout) < 150_000


def test_random_replies_are_images_or_errors(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever a reply looks like, it becomes the requested image or lambdiff's own error, and nothing is printed."""
    choosing = random.Random(7)  # noqa: S311
    replies = [hostile_replies.random_reply(choosing) for _ in range(300)]

    def send(content: bytes) -> Answer:
        def answer(connection: socket.socket) -> None:
            connection.sendall(content)
            connection.close()

        return answer

    # A reply that says "throttled" is asked for again.
    with FaultyServer(*map(send, replies)) as server, client(server.url, timeout_s=5) as caller:
        for number in range(len(replies)):
            try:
                if number % 5:
                    assert caller.generate("a cat", width=64, height=64).size == (64, 64)
                else:
                    caller.health()
            except errors.LambdiffError as error:
                assert "\x1b" not in str(error)
                assert len(str(error)) < 1_500
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (SLOW["one header"], errors.EndpointTimeout),
        (SLOW["body with a length"], errors.EndpointTimeout),
        (LARGE["100 Continue"], errors.EndpointFailed),
        (LARGE["body without a length"], errors.EndpointFailed),
    ],
)
def test_limits_apply_to_encrypted_connections(
    tmp_path: Path, answer: Answer, error: type[errors.EndpointFailed]
) -> None:
    """Over TLS, slow and large replies end in the same way, and the next request is served."""
    good = reply(200, hostile_images.encoded("png"), content_type="image/png")
    certificate = write_certificate(tmp_path)
    with (
        FaultyServer(answer, good, certificate=certificate) as server,
        client(server.url, timeout_s=1, ca_bundle=str(certificate[0])) as caller,
    ):
        with pytest.raises(errors.EndpointFailed) as caught:
            caller.generate("a cat")
        assert type(caught.value) is error
        assert caller.generate("a cat").size == (64, 64)
