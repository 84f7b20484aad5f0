"""The asyncio client: the same results as `Client`, a free event loop, and cancellation."""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
import time

import pytest

from lambdiff import AsyncClient, Failure
from lambdiff.client.client import Client
from lambdiff.errors import Cancelled, EndpointFailed, InvalidRequest
from support.stub_engine import StubEngine, pattern
from support.stub_transport import StubTransport


def run(coroutine):
    """Run a coroutine to its end."""
    return asyncio.run(coroutine)


def opened(engine=None, **options):
    """Return a client of an engine in this process."""
    return AsyncClient(transport=StubTransport(engine or StubEngine()), **options)


class Slow:
    """A transport whose requests wait until they are released, side by side."""

    url = "slow"

    def __init__(self):
        self.release, self.lock = threading.Event(), threading.Lock()
        self.inner = StubTransport(StubEngine())
        self.waiting = self.most = 0

    def request(self, method, body=b"", on_step=None):
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self.release.wait(20)
        with self.lock:
            self.waiting -= 1
        return self.inner.request(method, body, on_step)

    def close(self):
        self.release.set()


def test_it_has_the_arguments_and_methods_of_the_client():
    """Whatever `Client` can do, the asyncio client can do, with the same parameters."""
    ours = inspect.signature(AsyncClient).parameters
    assert [name for name in ours if name != "max_concurrency"] == list(inspect.signature(Client).parameters)
    methods = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    renamed = {"close": "aclose", "generate_request": "generate"}
    assert all(hasattr(AsyncClient, renamed.get(name, name)) for name in methods)


def test_an_image_is_that_of_the_client():
    """Parameters and results are the same."""

    async def main():
        async with opened() as client:
            return await client.generate("a cat", seed=7, width=64, height=128), await client.health()

    image, health = run(main())
    assert (pattern(7, 64, 128) == image).all()
    assert health.model.name == "stub"


def test_errors_are_those_of_the_client():
    """Bad parameters and failures raise the same errors."""

    async def main(engine, **parameters):
        async with opened(engine) as client:
            await client.generate("a cat", **parameters)

    with pytest.raises(InvalidRequest, match="width"):
        run(main(StubEngine(), width=7))
    with pytest.raises(EndpointFailed):
        run(main(StubEngine(error=EndpointFailed("It failed."))))


def test_two_hundred_calls_at_once_leave_the_loop_free():
    """While 200 requests wait side by side, the event loop answers as fast as without them."""

    async def delays():
        measured = []
        for _ in range(50):
            began = time.perf_counter()
            await asyncio.sleep(0)
            measured.append(time.perf_counter() - began)
        return sorted(measured)[25]

    async def main():
        transport = Slow()
        async with AsyncClient(transport=transport) as client:
            alone = await delays()
            tasks = [asyncio.ensure_future(client.generate("a cat", seed=seed)) for seed in range(200)]
            while transport.waiting < 200:
                await asyncio.sleep(0.01)
            busy = await delays()
            transport.release.set()
            images = await asyncio.gather(*tasks)
        return alone, busy, transport.most, [image.seed for image in images]

    alone, busy, most, seeds = run(main())
    assert most == 200
    assert seeds == list(range(200))
    assert busy < 50 * alone + 0.01


def test_no_more_than_the_slots_run_at_once():
    """Others wait for a slot."""

    async def main():
        transport = Slow()
        async with AsyncClient(transport=transport, max_concurrency=3) as client:
            tasks = [asyncio.ensure_future(client.generate("a cat")) for _ in range(9)]
            await asyncio.sleep(0.2)
            transport.release.set()
            await asyncio.gather(*tasks)
        return transport.most

    assert run(main()) == 3


def test_cancelling_frees_the_slot_and_stops_the_engine():
    """A task that is cancelled goes on at once, its steps end, and the next request is served."""
    begun = threading.Event()
    engine = StubEngine(step_seconds=0.02, before_step=begun.set)

    async def main():
        async with opened(engine, max_concurrency=1) as client:
            task = asyncio.ensure_future(client.generate("a cat", num_inference_steps=100))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.generate("a cat", num_inference_steps=1)

    run(main())
    assert engine.steps < 100


def test_a_timeout_abandons_a_request_that_hangs():
    """`asyncio.timeout` ends the wait although the thread still waits, and the program can end."""
    transport = Slow()

    async def main():
        client = AsyncClient(transport=transport)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.generate("a cat")

    run(main())
    transport.release.set()


def test_many_come_as_they_are_finished():
    """Each result comes once with its index; failures are results."""

    async def main():
        found = {}
        async with opened() as client:
            async for index, result in client.generate_many(["a cat", {"prompt": "a dog", "seed": 3}], n=2, seed=7):
                found[index] = result.seed
        return found

    assert run(main()) == {0: 7, 1: 8, 2: 3, 3: 4}

    async def failing():
        async with opened(StubEngine(error=EndpointFailed("It failed."))) as client:
            return [result async for _, result in client.generate_many(["a cat"])]

    (failure,) = run(failing())
    assert isinstance(failure, Failure)
    assert failure.request["prompt"] == "a cat"


def test_leaving_the_loop_early_cancels_the_rest():
    """After a `break`, what has not begun is not generated."""
    engine = StubEngine(step_seconds=0.05)

    async def main():
        async with opened(engine, max_concurrency=1) as client:
            results = client.generate_many(["a cat"], n=50)
            async for _ in results:
                break
            await results.aclose()

    run(main())
    assert engine.calls < 5


def test_on_step_cancels():
    """A callback that returns True cancels its own request."""

    async def main():
        async with opened() as client:
            await client.generate("a cat", on_step=lambda done, total: True)

    with pytest.raises(Cancelled):
        run(main())


def test_it_cannot_be_copied():
    """It has threads and connections."""
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.copy(opened())
