"""client.py and image.py, against the handler in this process with an engine without weights."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

import lambdiff
from lambdiff.client import endpoint
from lambdiff.client.client import Client, Failure
from lambdiff.errors import Cancelled, InvalidRequest, OutputError
from lambdiff.handler.app import App
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep
from support.stub_engine import StubEngine, pattern


class StubEndpoint:
    """The real handler over the stub engine."""

    url = "in process"

    def __init__(self, engine: StubEngine) -> None:
        self.app = App(lambda: engine, raise_errors=True)

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        headers = {"content-type": "application/json"}
        return self.app.handle(HttpRequest(method=method, headers=headers, body=body), on_step)

    def close(self) -> None:
        self.app = None  # type: ignore[assignment]


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind the client."""
    return StubEngine(warnings=("a warning with ünïcode",))


@pytest.fixture
def client(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of this machine."""
    monkeypatch.setattr(endpoint.Endpoint, "open", lambda _: StubEndpoint(engine))
    return Client(local=True)


def test_a_picture_says_everything_about_itself(client: Client) -> None:
    """Pixels, seed, parameters, model, warnings and timings are all there."""
    image = client.generate("a cat", seed=7, num_inference_steps=3, width=128, height=64)
    assert image.image.size == image.size == (128, 64)
    assert image.seed == 7
    assert (image.parameters.prompt, image.parameters.num_inference_steps, image.parameters.scheduler) == (
        "a cat",
        3,
        "euler",
    )
    assert image.model.startswith("stub")
    assert image.warnings == ["a warning with ünïcode"]
    assert {"load", "denoise", "compress", "total"} <= set(image.timings)
    assert repr(image).startswith("<GeneratedImage 128x64 png seed=7 model='stub")
    assert (image.image.tobytes()) == pattern(7, 128, 64).tobytes()


def test_a_seed_is_drawn_per_picture(client: Client) -> None:
    """Without a seed no two pictures are alike, and each tells its seed."""
    seeds = {client.generate("a cat").seed for _ in range(5)}
    assert len(seeds) == 5


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"prompt": ""}, "prompt"), ({"prompt": "x", "width": 8}, "width"), ({"prompt": "x", "seed": -1}, "seed")],
)
def test_bad_parameters_are_refused_before_anything_is_sent(
    client: Client, engine: StubEngine, parameters: dict[str, object], field: str
) -> None:
    """Each bad field is named and nothing reaches the endpoint."""
    with pytest.raises(InvalidRequest) as caught:
        client.generate(**parameters)  # type: ignore[arg-type]
    assert [name for name, _ in caught.value.problems] == [field]
    assert engine.calls == 0


def test_steps_are_counted_and_can_stop_the_picture(client: Client) -> None:
    """The callback sees each step; True cancels."""
    seen: list[tuple[int, int]] = []
    client.generate("a cat", num_inference_steps=3, on_step=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        client.generate("a cat", num_inference_steps=3, on_step=lambda done, _: done == 2)


def test_many_keep_their_order_and_their_own_parameters(client: Client) -> None:
    """Prompts and mappings mix, shared parameters apply where none are given."""
    batch = client.generate_many(["a", {"prompt": "b", "seed": 5}, "c"], seed=1)
    assert [(image.parameters.prompt, image.seed) for image in batch.images] == [("a", 1), ("b", 5), ("c", 1)]
    assert len(batch) == 3


def test_many_are_checked_before_the_first_is_sent(client: Client, engine: StubEngine) -> None:
    """One bad request of many stops all, at no cost."""
    with pytest.raises(InvalidRequest):
        client.generate_many(["a", "b", ""])
    assert engine.calls == 0


def test_what_fails_is_kept_apart(client: Client, engine: StubEngine) -> None:
    """A request that its model cannot draw is a failure in its place."""
    batch = client.generate_many(["a", {"prompt": "b", "width": 1024}, "c"])
    assert [type(result) for result in batch] == [lambdiff.GeneratedImage, Failure, lambdiff.GeneratedImage]
    assert (batch.failures[0].index, batch.failures[0].error.exit_code) == (1, 4)


def test_a_bug_in_a_callback_is_raised_and_leaves_no_thread(client: Client) -> None:
    """What on_result raises comes out, and the workers end."""
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        client.generate_many(["a"] * 20, max_workers=2, on_result=lambda *_: 1 / 0)
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("Thread-"):
            thread.join(5)
    assert threading.active_count() <= before


def test_health(client: Client) -> None:
    """The endpoint says what it is."""
    assert client.health().model.name == "stub"


def test_saving(client: Client, tmp_path: Path) -> None:
    """The suffix decides the format, nothing is replaced unasked, an unknown suffix is refused."""
    image = client.generate("a cat", seed=7)
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")):
        assert Image.open(image.save(tmp_path / name)).format == kind
    with pytest.raises(OutputError):
        image.save(tmp_path / "a.png")
    with pytest.raises(InvalidRequest):
        image.save(tmp_path / "a.tiff")
    assert image._repr_png_() == image.content


def test_the_module_function_keeps_its_client(client: Client, engine: StubEngine) -> None:
    """lambdiff.generate loads the engine once for many calls."""
    lambdiff.generate("a cat", local=True)
    lambdiff.generate("a dog", local=True)
    assert (engine.calls, engine.loads) == (2, 1)


def test_a_client_closes_its_endpoint(client: Client) -> None:
    """The with block lets go of connections and weights."""
    with client:
        pass
    assert client.transport.app is None  # type: ignore[attr-defined]
