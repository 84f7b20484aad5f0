"""The client with a misbehaving server: which error it raises, and how often it sends the request."""

from __future__ import annotations

import email.utils
import io
import socket
import threading
import time

import pytest
from PIL import Image

from lambdiff import errors
from lambdiff.auth.credentials import CredentialSource, GivenCredentials, Keys
from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.function_url import FunctionUrlTransport
from lambdiff.protocol import metadata
from lambdiff.protocol.contract import GenerateRequest, ModelIdentity
from support.faulty_server import Answer, FaultyServer, close, drip, reply, reset, stall
from support.stub_engine import MANIFEST, pattern


def generated_png(seed: int = 7) -> bytes:
    """Return a complete PNG as the handler encodes it."""
    generation = GenerateRequest(prompt="a cat", seed=seed).resolve(MANIFEST.defaults)
    image = Image.fromarray(pattern(seed, 64, 64))
    return metadata.encode(
        image, metadata.ImageMetadata.of(generation, ModelIdentity(name="stub", revision="r", license="MIT"))
    )


CREDENTIALS = GivenCredentials(Keys("AKIDEXAMPLE", "secret"))
PNG = generated_png()
GOOD = reply(200, PNG, content_type="image/png", lambdiff_model="stub")


def client(
    url: str, *, credentials: CredentialSource = CREDENTIALS, timeout_s: float = 5, connect_timeout_s: float = 10
) -> Client:
    """Return a client that retries without waiting."""
    return Client(
        transport=FunctionUrlTransport(
            url, "us-east-1", credentials, timeout_s, connect_timeout_s=connect_timeout_s, read_margin_s=0,
            backoff_s=0,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("script", "error", "posts"),
    [
        ([reset], errors.EndpointFailed, 1),
        ([close], errors.EndpointFailed, 1),
        ([reply(200, PNG[:500], length=len(PNG), content_type="image/png")], errors.EndpointFailed, 1),
        ([reply(200, PNG[: len(PNG) // 2], content_type="image/png")], errors.EndpointFailed, 1),
        ([reply(200, b"<html>hello</html>", content_type="text/html")], errors.EndpointFailed, 1),
        ([reply(200, b"", content_type="image/png")], errors.EndpointFailed, 1),
        ([reply(200, b"x" * 7_000_000, content_type="image/png")], errors.EndpointFailed, 1),
        ([reply(301, location="https://elsewhere.example/")], errors.EndpointRefused, 1),
        ([reply(307, location="https://elsewhere.example/")], errors.EndpointRefused, 1),
        ([reply(403, b'{"Message":"Forbidden"}')], errors.AccessDenied, 1),
        ([reply(429, b'{"Message":"Rate Exceeded."}')], errors.Throttled, 6),
        ([reply(500, b'{"Message":"Internal Server Error"}')], errors.EndpointFailed, 1),
        ([reply(502, b'{"Message":"Internal Server Error"}')], errors.EndpointFailed, 1),
        ([reply(503, b"<html>down</html>", content_type="text/html")], errors.EndpointFailed, 1),
        ([reply(504, b"")], errors.EndpointFailed, 1),
    ],
)  # fmt: skip
def test_a_fault_is_reported_and_no_image_is_paid_for_twice(
    script: list[Answer], error: type[errors.LambdiffError], posts: int
) -> None:
    """Each fault raises its error, with a fix, and the request is repeated only if it cannot have run."""
    with FaultyServer(*script) as server, client(server.url) as caller:
        with pytest.raises(error) as caught:
            caller.generate("a cat")
        assert type(caught.value) is error
        assert caught.value.fix
        assert len(server.posts) == posts


@pytest.mark.parametrize(
    "refusal",
    [
        reply(429, b'{"Message":"Rate Exceeded."}'),
        reply(409, b'{"Message":"The operation cannot be performed at this time. The function is currently in the '
                   b'following state: Pending"}'),
        reply(502, b'{"Message":"The function is inactive and must be activated."}'),
    ],
)  # fmt: skip
def test_a_request_that_cannot_have_run_is_retried(refusal: Answer) -> None:
    """A request to a throttled, pending or inactive function is retried until it succeeds."""
    with FaultyServer(refusal, refusal, GOOD) as server, client(server.url) as caller:
        assert caller.generate("a cat", seed=7).seed == 7
        assert len(server.posts) == 3
        assert len(set(server.posts)) == 1


def test_a_timeout_is_not_retried() -> None:
    """If the endpoint does not reply, the request is not retried, because the image may have been billed."""
    with FaultyServer(stall) as server, client(server.url, timeout_s=0.5) as caller:
        with pytest.raises(errors.EndpointTimeout) as caught:
            caller.generate("a cat")
        assert "billed" in caught.value.fix
        assert len(server.posts) == 1


def test_a_slow_reply_is_received() -> None:
    """A reply that arrives in small pieces is accepted."""
    with FaultyServer(drip(PNG, 0.01, content_type="image/png")) as server, client(server.url) as caller:
        assert caller.generate("a cat").image.size == (64, 64)


def test_an_endless_reply_ends_at_the_deadline() -> None:
    """A reply that keeps trickling in is abandoned at the deadline."""
    sent: list[int] = []
    slow = drip(b"x" * 2_000_000, 0.3, sent, content_type="image/png")
    with FaultyServer(slow) as server:
        with client(server.url, timeout_s=0.5, connect_timeout_s=0.2) as caller, pytest.raises(errors.EndpointTimeout):
            caller.generate("a cat")
        assert sum(sent) < 2_000_000


def test_a_refused_connection_is_reported() -> None:
    """If the connection is refused, the error says that nothing was generated."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with client(url) as caller:
        with pytest.raises(errors.EndpointUnreachable, match="cannot be reached") as caught:
            caller.generate("a cat")
        assert "Nothing was generated" in caught.value.fix


def test_an_unknown_host_is_unreachable() -> None:
    """A host name that does not resolve raises `EndpointUnreachable`; DNS has no names this long."""
    with client(f"https://{'.'.join(['a' * 60] * 5)}.lambda-url.us-east-1.on.aws/") as caller:
        with pytest.raises(errors.EndpointUnreachable):
            caller.generate("a cat")


def test_a_dead_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables are respected, and if the proxy cannot be reached, the message names it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
    with Client("https://abc.lambda-url.us-east-1.on.aws/", credentials=Keys("a", "b")) as caller:
        with pytest.raises(errors.EndpointUnreachable, match="proxy"):
            caller.generate("a cat")


def test_a_wrong_clock_is_explained() -> None:
    """If a 403 has a date ten minutes off, the fix says how far the clock is off."""
    date = email.utils.formatdate(time.time() + 600, usegmt=True)
    with FaultyServer(reply(403, b'{"message":"Signature not yet current"}', date=date)) as server:
        with client(server.url) as caller, pytest.raises(errors.AccessDenied) as caught:
            caller.generate("a cat")
    assert "10 minutes behind" in caught.value.fix


def test_rotated_keys_are_read_again_once() -> None:
    """After a 403 the client reads the key pair again once and signs with the new one."""
    from botocore.credentials import ReadOnlyCredentials

    class Rotating:
        source = "secret"
        pairs = ("AKIAOLD", "AKIANEW")
        reads = 0

        def get(self) -> ReadOnlyCredentials:
            return ReadOnlyCredentials(self.pairs[self.reads], "secret", None)

        def refresh(self) -> bool:
            self.reads += 1
            return True

        def is_new(self) -> bool:
            return False

    with FaultyServer(reply(403, b'{"Message":"Forbidden"}'), GOOD) as server:
        with client(server.url, credentials=Rotating()) as caller:
            assert caller.generate("a cat").seed == 7
        assert ["AKIAOLD" in server.heads[0], "AKIANEW" in server.heads[1]] == [True, True]
        assert len(server.posts) == 2


def test_a_batch_keeps_its_images_if_some_requests_fail() -> None:
    """Five successful and three failed requests give five images and three failures, each in its place."""
    bad = reply(500, b"{}")
    with FaultyServer(GOOD, bad, GOOD, GOOD, bad, bad, GOOD, GOOD) as server, client(server.url) as caller:
        batch = caller.generate_many(["a cat"] * 8, max_workers=1)
    assert [isinstance(result, Failure) for result in batch] == [False, True, False, False, True, True, False, False]
    assert [failure.index for failure in batch.failures] == [1, 4, 5]
    assert len(batch.images) == 5
    assert len(server.posts) == 8


def test_a_slow_request_does_not_delay_the_others() -> None:
    """`on_result` is called as requests end; the batch is in the order of the prompts."""
    order: list[int] = []
    others_ended = threading.Event()

    def slow(connection: socket.socket) -> None:
        others_ended.wait(60)
        GOOD(connection)

    def on_result(index: int, _: object) -> None:
        order.append(index)
        if len(order) == 3:
            others_ended.set()

    with FaultyServer(slow, GOOD) as server, client(server.url) as caller:
        batch = caller.generate_many(["a cat"] * 4, max_workers=2, on_result=on_result)
    assert len(batch.images) == 4
    assert order[-1] in {0, 1}


def test_the_connection_is_reused() -> None:
    """Consecutive requests share a connection."""
    accepted: set[int] = set()

    def remember(connection: socket.socket) -> None:
        accepted.add(connection.fileno())
        GOOD(connection)

    with FaultyServer(remember) as server, client(server.url) as caller:
        ports = []
        for _ in range(3):
            caller.generate("a cat")
            ports.append(len(accepted))
    assert ports == [1, 1, 1]


def test_a_saved_image_has_the_received_bytes(tmp_path) -> None:
    """An image is saved as received; another suffix encodes it again and keeps its parameters."""
    with FaultyServer(GOOD) as server, client(server.url) as caller:
        image = caller.generate("a cat")
    assert image.save(tmp_path / "a.png").read_bytes() == PNG
    webp = image.save(tmp_path / "a.webp").read_bytes()
    assert Image.open(io.BytesIO(webp)).format == "WEBP"
    assert metadata.read(webp).request.seed == 7


def test_an_image_without_parameters_is_accepted(tmp_path) -> None:
    """If an image has lost its parameters on the way, its pixels are kept, and its seed is read from the header."""
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(plain, "PNG")
    response = reply(200, plain.getvalue(), content_type="image/png", lambdiff_seed="9")
    with FaultyServer(response) as server, client(server.url) as caller:
        image = caller.generate("a cat")
    assert image.seed == 9
    assert image.to_dict()["parameters"] is None
    assert image.save(tmp_path / "a.png").read_bytes() == plain.getvalue()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("REQUESTS_CA_BUNDLE", "/no/such.pem"), ("HTTPS_PROXY", "http://"), ("ALL_PROXY", "magic://x:1")],
)
def test_bad_network_settings_are_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """A setting that prevents sending is named when the client is opened."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.ConfigurationError, match=variable):
        Client("https://abc.lambda-url.us-east-1.on.aws/", credentials=Keys("a", "b"))
