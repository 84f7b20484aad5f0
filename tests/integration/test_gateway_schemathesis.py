"""Schemathesis tests the gateway against its own OpenAPI document."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import msgspec
import pytest
import schemathesis
from hypothesis import settings
from openapi_spec_validator import validate
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from integration.test_gateway import serving
from lambdiff.client.client import Client
from lambdiff.gateway.openapi import openapi
from lambdiff.protocol.contract import Limits
from support.stub_engine import WITH_PICTURES, StubEngine
from support.stub_transport import StubTransport

pytestmark = pytest.mark.slow

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
document = openapi()
# Forms have no types of their own, so the generated ones would be refused for reasons that a schema cannot express.
schema = schemathesis.openapi.from_dict(document).exclude(path="/v1/images/edits")
schema.config.generation.update(modes=list(schemathesis.GenerationMode), with_security_parameters=False)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway whose engine supports everything that the contract allows."""
    limits = Limits(image="optional", mask="optional")
    engine = StubEngine(manifest=msgspec.structs.replace(WITH_PICTURES, limits=limits))
    with serving(Client(transport=StubTransport(engine))) as running:
        yield running


def test_the_document_is_valid() -> None:
    """It is OpenAPI 3.1."""
    validate(document)


@schema.parametrize()
@settings(max_examples=60, deadline=None)
def test_the_document_describes_the_gateway(case: schemathesis.Case, url: str) -> None:
    """Status codes, content types and bodies agree with the document; invalid requests are refused."""
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=20)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff\x16\x03\x01" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 100_000,
        b"GET /" + b"a" * 1_000_000,
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    ],
    ids=["binary", "version", "short body", "bad chunk", "many headers", "long path", "two hosts"],
)
def test_broken_requests_harm_nobody_else(content: bytes, url: str) -> None:
    """Whatever arrives on a connection, the next one is served; nothing of it is answered with 200."""
    address = url.split("/")[2]
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        received = b""
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            received = connection.recv(65_536)
        except OSError:
            pass  # it has hung up
        assert b" 200 " not in received.split(b"\r\n")[0]
    other = http.client.HTTPConnection(address, timeout=10)
    other.request("GET", "/health")
    assert other.getresponse().status == 200


def test_slow_callers_do_not_keep_others_waiting(url: str) -> None:
    """A hundred connections that send nothing more do not keep the gateway from answering."""
    address = url.split("/")[2]
    host, port = address.split(":")
    slow = [socket.create_connection((host, int(port)), timeout=5) for _ in range(100)]
    for connection in slow:
        connection.sendall(b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9")
    other = http.client.HTTPConnection(address, timeout=10)
    other.request("GET", "/health")
    assert other.getresponse().status == 200
    for connection in slow:
        connection.close()
