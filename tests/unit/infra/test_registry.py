"""Names of images, and the digest of a tag from a registry on the loopback interface (infra/registry.py)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lambdiff.errors import ConfigurationError
from lambdiff.infra import registry
from lambdiff.infra.registry import ImageReference, RegistryError
from support.registry_server import Fault, RegistryServer

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    """A registry with one image, of several architectures."""
    monkeypatch.setattr(registry, "_WAIT", 0.01)
    with RegistryServer() as running:
        running.push('{"schemaVersion":2,"manifests":[]}')
        yield running


def digest(server: RegistryServer, tag: str = "3.12") -> str:
    """Ask the server for the digest of a tag."""
    return registry.digest(ImageReference.parse(f"{server.host}/lambda/python:{tag}"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("public.ecr.aws/lambda/python:3.12", ("public.ecr.aws", "lambda/python", "3.12", "")),
        (f"public.ecr.aws/lambda/python@{DIGEST}", ("public.ecr.aws", "lambda/python", "", DIGEST)),
        (f"localhost:5000/a/b_c:x@{DIGEST}", ("localhost:5000", "a/b_c", "x", DIGEST)),
        ("localhost/mine", ("localhost", "mine", "latest", "")),
        ("python", ("docker.io", "library/python", "latest", "")),
        ("team/python:3", ("docker.io", "team/python", "3", "")),
        ("1.dkr.ecr.eu-west-1.amazonaws.com/x:1", ("1.dkr.ecr.eu-west-1.amazonaws.com", "x", "1", "")),
    ],
)  # fmt: skip
def test_names_are_parsed_as_container_engines_do(text: str, parts: tuple[str, ...]) -> None:
    """The first part is a registry if it looks like a host; without one, it is Docker Hub."""
    image = ImageReference.parse(text)
    assert (image.registry, image.repository, image.tag, image.digest) == parts
    assert ImageReference.parse(str(image)) == image


@pytest.mark.parametrize(
    "text",
    ["", "Python", "a b", "python:", "python:3.12\n", "python@sha256:12", "-rf", "https://public.ecr.aws/x", "a/../b"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    """A text that is not the name of an image is a configuration error."""
    with pytest.raises(ConfigurationError, match="not the name of an image"):
        ImageReference.parse(text)


def test_the_digest_is_that_of_the_tag(server: RegistryServer) -> None:
    """The registry is asked without a token, then with one, and a pushed image changes the answer."""
    first = digest(server)
    assert first.startswith("sha256:")
    assert [request.split("?")[0] for request in server.requests] == [
        "HEAD /v2/lambda/python/manifests/3.12",
        "GET /token",
        "HEAD /v2/lambda/python/manifests/3.12",
    ]
    pushed = server.push("newer")
    assert digest(server) == pushed != first


@pytest.mark.parametrize("faults", [["no-head"], ["no-digest"], ["busy"], ["busy", "broken"], ["no-head", "no-digest"]])
def test_what_a_registry_may_lack_is_made_up_for(server: RegistryServer, faults: list[Fault]) -> None:
    """Without HEAD or the header, the digest is computed; a short overload is waited for."""
    expected = server.push("image")
    server.faults = faults
    assert digest(server) == expected


@pytest.mark.parametrize(
    ("faults", "tag", "words"),
    [
        (["login"], "3.12", "needs a login for lambda/python"),
        (["no-realm"], "3.12", "needs a login"),
        (["token-refused"], "3.12", "needs a login"),
        (["page"], "3.12", "is text/html; charset=utf-8, not the manifest of an image"),
        (["no-head", "wrong-digest"], "3.12", "does not have the digest that its registry gives"),
        (["busy"] * 9, "3.12", r"does not answer for the moment \(HTTP 429\)"),
        (["broken"] * 9, "3.12", r"HTTP 503"),
        ([], "3.99", r"There is no image 127\.0\.0\.1:\d+/lambda/python:3\.99"),
    ],
)
def test_a_fault_of_the_registry_is_named(server: RegistryServer, faults: list[Fault], tag: str, words: str) -> None:
    """Each fault has its own message, and none becomes a digest."""
    server.faults = faults
    with pytest.raises(RegistryError, match=words):
        digest(server, tag)


def test_an_unreachable_registry_is_named() -> None:
    """The message has the cause, without the objects of the libraries."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        RegistryError, match=rf"127\.0\.0\.1:{port} cannot be reached: \[Errno 111\] Connection refused\.$"
    ):
        registry.digest(ImageReference.parse(f"127.0.0.1:{port}/x:1"))


def test_a_password_in_netrc_does_not_replace_the_token(
    server: RegistryServer, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests would send it instead of the token."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert digest(server).startswith("sha256:")
