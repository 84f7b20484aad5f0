"""`Client`, its batches, its images and `lambdiff.generate`, with the real handler and the stub engine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

import lambdiff
from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.parameters import GenerationParameters
from lambdiff.config import Sourced
from lambdiff.errors import Cancelled, ConfigurationError, EndpointFailed, InvalidRequest, OutputError
from lambdiff.handler.app import App
from lambdiff.local import in_process
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep
from support.stub_engine import StubEngine, pattern


class StubTransport:
    """The real handler with the stub engine."""

    url = "in process"

    def __init__(self, engine: StubEngine) -> None:
        self.app = App(lambda: engine, raise_errors=True)
        self.closed = False

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        headers = {"content-type": "application/json"}
        return self.app.handle(HttpRequest(method=method, headers=headers, body=body), on_step)

    def close(self) -> None:
        self.closed = True


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


def test_an_image_describes_itself(client: Client) -> None:
    """An image has its pixels, seed, parameters, model, warnings and timings."""
    image = client.generate("a cat", seed=7, num_inference_steps=3, width=128, height=64)
    assert image.image.size == image.size == (128, 64)
    assert image.seed == 7
    assert image.parameters.prompt == "a cat"
    assert image.parameters.num_inference_steps == 3
    assert image.parameters.scheduler == "euler"
    assert image.metadata.exact
    assert image.model.startswith("stub")
    assert image.warnings == ["a warning with ünïcode"]
    assert {"load", "denoise", "compress", "total"} <= set(image.timings)
    assert repr(image).startswith("<GeneratedImage 128x64 png seed=7 model='stub")
    assert image.image.tobytes() == pattern(7, 128, 64).tobytes()


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


def test_a_batch_keeps_its_order_and_its_parameters(client: Client) -> None:
    """Prompts and mappings may be mixed; shared parameters apply unless a mapping overrides them."""
    batch = client.generate_many(["a", {"prompt": "b", "seed": 5}, "c"], seed=1, image_format="webp")
    assert [(image.parameters.prompt, image.seed) for image in batch.images] == [("a", 1), ("b", 5), ("c", 1)]
    assert {image.format for image in batch.images} == {"webp"}
    assert len(batch) == 3


def test_none_in_a_mapping_means_the_models_default(client: Client) -> None:
    """None in a mapping replaces a shared parameter by the model's default."""
    batch = client.generate_many([{"prompt": "a", "num_inference_steps": None}, "b"], num_inference_steps=9)
    assert [image.parameters.num_inference_steps for image in batch.images] == [2, 9]


def test_a_batch_is_validated_before_the_first_request(client: Client, engine: StubEngine) -> None:
    """If one request is invalid, the batch is refused before anything is generated."""
    with pytest.raises(InvalidRequest):
        client.generate_many(["a", "b", ""])
    assert engine.calls == 0


def test_a_failure_does_not_affect_the_rest_of_a_batch(client: Client) -> None:
    """A refused request becomes a `Failure` in its place, whose request can be corrected and sent again."""
    batch = client.generate_many(["a", {"prompt": "b", "width": 1024}, "c"])
    assert [type(result) for result in batch] == [lambdiff.GeneratedImage, Failure, lambdiff.GeneratedImage]
    (failure,) = batch.failures
    assert (failure.index, failure.error.exit_code) == (1, 4)
    assert failure.request["prompt"] == "b"
    assert len(client.generate_many([{**failure.request, "width": 64}]).images) == 1


def test_an_exception_in_a_callback_is_raised_and_leaves_no_thread(client: Client) -> None:
    """An exception in `on_result` is raised to the caller, and the worker threads end."""
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        client.generate_many(["a"] * 20, max_workers=2, on_result=lambda *_: 1 / 0)
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("Thread-"):
            thread.join(5)
    assert threading.active_count() <= before


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


def test_an_image_is_saved_in_the_format_of_the_suffix(client: Client, tmp_path: Path) -> None:
    """The suffix determines the format; an unknown suffix, or an existing file without `force`, is refused."""
    image = client.generate("a cat", seed=7)
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")):
        assert Image.open(image.save(tmp_path / name)).format == kind
    with pytest.raises(OutputError):
        image.save(tmp_path / "a.png")
    with pytest.raises(InvalidRequest):
        image.save(tmp_path / "a.tiff")
    assert image._repr_png_() == image.content


def test_the_module_function_keeps_its_client(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lambdiff.generate` keeps its client, so the engine is loaded once."""
    monkeypatch.setattr(in_process, "InProcessTransport", lambda _: StubTransport(engine))
    lambdiff.generate("a cat", local=True)
    lambdiff.generate("a dog", local=True)
    assert (engine.calls, engine.loads) == (2, 1)


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
