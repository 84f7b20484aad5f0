"""Fixtures for tests of the client."""

from __future__ import annotations

import pytest

from lambdiff.client.client import Client
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind the client."""
    return StubEngine(warnings=("a warning with ünïcode",))


@pytest.fixture
def transport(engine: StubEngine) -> StubTransport:
    """The client's transport."""
    return StubTransport(engine)


@pytest.fixture
def client(transport: StubTransport) -> Client:
    """A client of `engine`."""
    return Client(transport=transport)
