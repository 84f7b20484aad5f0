"""`lambdiff.generate` (client/shared.py)."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

import lambdiff
from lambdiff import config
from lambdiff.client import function_url, shared
from lambdiff.config import Deployment
from lambdiff.local import in_process
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


def test_the_module_function_keeps_its_client(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lambdiff.generate` keeps its client, so the engine is loaded once."""
    monkeypatch.setattr(in_process, "InProcessTransport", lambda _: StubTransport(engine))
    lambdiff.generate("a cat", local=True)
    lambdiff.generate("a dog", local=True)
    assert (engine.calls, engine.loads) == (2, 1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StubTransport]]:
    """The transports that `lambdiff.generate(local=True)` opens, in order. All clients are closed at the end."""
    transports: list[StubTransport] = []

    def open_transport(*_: object, **__: object) -> StubTransport:
        transports.append(StubTransport(StubEngine()))
        return transports[-1]

    monkeypatch.setattr(in_process, "InProcessTransport", open_transport)
    monkeypatch.setattr(function_url, "FunctionUrlTransport", open_transport)
    yield transports
    monkeypatch.setenv("LAMBDIFF_CHANGED", "at the end")
    lambdiff.generate("a cat", local=True)


def test_a_change_of_the_environment_or_the_deployments_closes_the_client(
    opened: list[StubTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each change of a setting, another client is used and the earlier one is closed; without one, it is kept."""
    changes = [
        lambda: monkeypatch.setenv("AWS_PROFILE", "work"),
        lambda: monkeypatch.setenv("AWS_SESSION_TOKEN", "another"),
        lambda: monkeypatch.delenv("AWS_PROFILE"),
        lambda: config.save(Deployment(name="a", url="https://a/", region="us-east-1")),
        lambda: config.save(Deployment(name="b", url="https://a/", region="us-east-1")),
        lambda: config.remove("b"),
        lambda: config.path().unlink(),
    ]
    for number, change in enumerate(changes, 1):
        lambdiff.generate("a cat", local=True)
        lambdiff.generate("a cat", local=True)
        assert [transport.closed for transport in opened] == [True] * (number - 1) + [False]
        change()
    assert len(opened) == len(changes)


def test_the_number_of_clients_is_bounded(opened: list[StubTransport]) -> None:
    """With many different arguments, only the clients that were used last stay open."""
    lambdiff.generate("a cat", local=True)
    for number in range(3 * shared.MAX_CLIENTS):
        with pytest.raises(lambdiff.ConfigurationError):
            lambdiff.generate("a cat", local=True, url=f"https://{number}/")
    for number in range(3 * shared.MAX_CLIENTS):
        lambdiff.generate("a cat", url=f"https://{number}/", region="us-east-1")
    still_open = [transport for transport in opened if not transport.closed]
    assert still_open == opened[-shared.MAX_CLIENTS :]


def test_a_request_in_progress_survives_the_change_that_closes_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread whose client is closed by another thread's call still gets its image."""
    started, released = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        assert released.wait(60)

    engines = [StubEngine(before_step=wait), StubEngine()]
    monkeypatch.setattr(in_process, "open_engine", lambda *_, **__: engines.pop(0))
    images: list[lambdiff.GeneratedImage] = []
    thread = threading.Thread(target=lambda: images.append(lambdiff.generate("a cat", local=True, seed=7)))
    thread.start()
    assert started.wait(60)
    monkeypatch.setenv("LAMBDIFF_CHANGED", "meanwhile")
    assert lambdiff.generate("a cat", local=True, seed=8).seed == 8
    released.set()
    thread.join(60)
    assert images[0].seed == 7


@pytest.mark.engine
def test_a_closed_client_releases_its_model_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are freed when the client is closed, not when Python next looks for reference cycles."""
    gc.collect()
    gc.disable()
    try:
        engines = []
        for number in range(2):
            monkeypatch.setenv("LAMBDIFF_CHANGED", str(number))
            lambdiff.generate("a cat", local=True, num_inference_steps=1)
            (client,) = shared._clients._clients.values()
            runtime, _ = client.transport._app.engine._loaded
            engines.append(weakref.ref(runtime))
            del client, runtime
        assert [engine() is None for engine in engines] == [True, False]
    finally:
        gc.enable()
