"""Fixtures for tests of the benchmarks."""

from __future__ import annotations

import pytest

from lambdiff.aws.deployment import select
from lambdiff.bench.memory_sweep import MemorySweep
from lambdiff.bench.plan import make_plan
from lambdiff.client.client import Client
from support.recording_transport import RecordingTransport
from support.stub_engine import StubEngine
from support.sweep_cloud import Cloud, Environment, MakeSweep


@pytest.fixture
def make_sweep(cloud: Cloud) -> MakeSweep:
    """A function that makes a sweep on the cloud's clock that has not run yet."""

    def make_sweep(*sizes: int) -> MemorySweep:
        client = Client(transport=Environment(cloud))
        plan = make_plan(client, steps=[1])
        clock = lambda: cloud.now  # noqa: E731
        return MemorySweep(select(), client, plan, sizes, rounds=2, clock=clock, log_patience=0.0)

    return make_sweep


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind the client."""
    return StubEngine()


@pytest.fixture
def transport(engine: StubEngine) -> RecordingTransport:
    """The client's transport."""
    return RecordingTransport(engine)


@pytest.fixture
def client(transport: RecordingTransport) -> Client:
    """A client of an endpoint whose memory is unknown."""
    return Client(transport=transport)
