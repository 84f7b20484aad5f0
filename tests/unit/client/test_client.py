"""`Client` with the real handler and the stub engine (client/client.py)."""

from __future__ import annotations

import pytest

from lambdiff.client.client import Client
from lambdiff.client.parameters import GenerationParameters
from lambdiff.config import Sourced
from lambdiff.errors import Cancelled, ConfigurationError, EndpointFailed, InvalidRequest
from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpResponse
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


def test_each_image_gets_its_own_seed(client: Client) -> None:
    """Without `seed=`, each image has a different seed."""
    seeds = {client.generate("a cat").seed for _ in range(5)}
    assert len(seeds) == 5


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"prompt": ""}, "prompt"), ({"prompt": "x", "width": 8}, "width"), ({"prompt": "x", "seed": -1}, "seed")],
)
def test_bad_parameters_are_refused_before_anything_is_sent(
    client: Client, engine: StubEngine, parameters: GenerationParameters, field: str
) -> None:
    """The error names each invalid field, and nothing reaches the endpoint."""
    with pytest.raises(InvalidRequest) as caught:
        client.generate(**parameters)
    assert [name for name, _ in caught.value.problems] == [field]
    assert engine.calls == 0


def test_on_step_counts_and_cancels(client: Client) -> None:
    """The callback is called after each step; returning True cancels the request."""
    seen: list[tuple[int, int]] = []
    client.generate("a cat", num_inference_steps=3, on_step=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        client.generate("a cat", num_inference_steps=3, on_step=lambda done, _: done == 2)


def test_health_describes_the_endpoint(client: Client) -> None:
    """`health` returns the model that the endpoint serves."""
    assert client.health().model.name == "stub"


def test_health_of_a_foreign_endpoint_is_an_error() -> None:
    """If a 200 is not a health document of lambdiff, the error names the endpoint."""

    class Elsewhere(StubTransport):
        url = "elsewhere"

        def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
            return HttpResponse(200, {"content-type": "application/json"}, b"{}")

    with Client(transport=Elsewhere(StubEngine())) as client, pytest.raises(EndpointFailed, match="elsewhere"):
        client.health()


def test_a_client_closes_its_transport(client: Client, transport: StubTransport) -> None:
    """A client used as a context manager closes its transport at the end of the block."""
    with client:
        assert not transport.closed
    assert transport.closed


def test_the_endpoint_of_a_custom_transport_says_so(client: Client) -> None:
    """The endpoint of a custom transport has a URL but no region and no price."""
    assert client.endpoint.url == Sourced("in process", "custom transport")
    assert client.endpoint.describe() == {"endpoint": "in process (custom transport)"}
    assert not client.endpoint.local
    assert client.endpoint.region is None
    assert client.endpoint.price(1.0) is None
    assert client.generate("a cat").cost is None
    assert repr(client) == "Client(in process (custom transport))"


@pytest.mark.parametrize(
    "settings", [{"url": "https://x/"}, {"deployment": "prod"}, {"local": True}, {"timeout_s": 5}, {"region": "x"}]
)
def test_a_transport_takes_no_other_settings(transport: StubTransport, settings: dict[str, object]) -> None:
    """`Client` refuses settings that a custom transport would ignore."""
    with pytest.raises(ConfigurationError, match="transport"):
        Client(transport=transport, **settings)  # type: ignore[arg-type]
