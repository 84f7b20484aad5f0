"""Simulated runs: no image is lost, and none is paid for twice.

A million items follow the rules in arrays (`support/run_simulation.py`); hundreds go through the function's real code,
with calls that are killed at any access to the bucket and with others that run at the same time.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from obstore.store import MemoryStore

from lambdiff.batches.throughput import run_seconds
from lambdiff.handler.batch_worker import BatchWorker, GenerationFailed, ItemRefused
from lambdiff.handler.claims import ImageClaimed
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.http import HttpRequest, HttpResponse
from lambdiff.protocol.request_key import request_key
from support.run_simulation import World, run
from support.stub_engine import MANIFEST, StubEngine

pytestmark = pytest.mark.slow


def test_a_million_images_with_everything_going_wrong() -> None:
    """Throttled, killed, repeated, cancelled and resumed: each image is there, and was paid for once plus its kills."""
    world = World(1_000_000, limit=5_000, killed=0.001, repeated=0.002, stolen=0.5)
    run(world, concurrency=6_000, cancel_after=900)
    assert 0 < world.done.sum() < world.items
    runs = 1
    while not world.done.all():
        world.clock += world.timeout_s  # somebody looks at the result, and starts the next run
        run(world, concurrency=6_000)
        runs += 1
    assert runs <= 5
    assert world.kills > 500
    assert world.throttled > 10_000
    assert int(world.paid.sum()) == world.items + world.kills


def test_without_claims_images_are_paid_for_twice() -> None:
    """The simulation finds what the claims prevent."""
    with pytest.raises(AssertionError, match="paid for twice"):
        run(World(10_000, limit=500, repeated=0.01, claims=False), concurrency=500)


@pytest.mark.parametrize(
    ("images", "limit", "seconds"),
    [(100, 900, 10), (10_000, 10, 10), (10_000, 900, 10), (100_000, 900, 4), (100_000, 5_000, 30)],
)
def test_the_model_of_throughput_agrees(images: int, limit: int, seconds: float) -> None:
    """Without failures, the simulated duration is that of `run_seconds`, within 15%.

    The model leaves out that throttled items wait a while longer than necessary, and that a step takes a second.
    """
    world = World(images, limit=limit, seconds=seconds)
    took = run(world, concurrency=limit)
    assert world.done.all()
    assert took == pytest.approx(run_seconds(images, seconds, limit, transitions=world.transitions), rel=0.15, abs=2)


class Killed(BaseException):
    """Lambda has ended the call."""


class HostileStore(MemoryStore):
    """A bucket at which calls are killed, and at whose every access another call may come in between."""

    dice = random.Random()  # noqa: S311
    kill = 0.0
    between: list[Any] = []  # noqa: RUF012

    def _access(self) -> None:
        if self.between and self.dice.random() < 0.3:
            self.between.pop()()
        if self.dice.random() < self.kill:
            raise Killed

    def put(self, *args: Any, **options: Any) -> Any:
        self._access()
        done = super().put(*args, **options)
        self._access()
        return done

    def get(self, *args: Any, **options: Any) -> Any:
        self._access()
        return super().get(*args, **options)

    def head(self, *args: Any, **options: Any) -> Any:
        self._access()
        return super().head(*args, **options)


class CountingApp:
    """Counts generations, and how many of the same image are in progress."""

    def __init__(self, store: HostileStore) -> None:
        self.engine = StubEngine()
        self.store = store
        self.generations: Counter[bytes] = Counter()
        self.live: Counter[bytes] = Counter()
        self.failing = 0.0

    def handle(self, request: HttpRequest) -> HttpResponse:
        body = request.body
        self.generations[body] += 1
        self.live[body] += 1
        assert self.live[body] == 1, "two calls generate the same image"
        try:
            self.store._access()
            if self.store.dice.random() < self.failing:
                problem = b'{"type":"urn:lambdiff:problem:internal-error","title":"","status":500,"detail":""}'
                return HttpResponse(500, {"content-type": "application/problem+json"}, problem)
            return HttpResponse(200, {"content-type": "image/png"}, body)
        finally:
            self.live[body] -= 1


def events(count: int) -> list[dict[str, Any]]:
    """Return events with complete requests and their keys."""
    made = []
    for number in range(count):
        generation = GenerateRequest(prompt=f"cat {number}", seed=number).resolve(MANIFEST.defaults)
        fields = {name: getattr(generation, name) for name in generation.__struct_fields__}
        request = {name: value for name, value in fields.items() if value is not None}
        made.append({"run": "r", "item": {"key": request_key(generation, MANIFEST.digest), "request": request}})
    return made


@pytest.mark.parametrize("seed", range(3))
def test_the_real_function_among_kills_and_races(seed: int) -> None:
    """Whatever is killed and whatever runs in between, an image has one live generation, and is written once.

    A generation is wasted only if its own call was killed or failed.
    """
    dice = random.Random(seed)  # noqa: S311
    store = HostileStore()
    store.dice = dice
    app = CountingApp(store)
    now, wasted = [1_000.0], Counter[str]()

    def call(event: dict[str, Any]) -> None:
        worker = BatchWorker(app, lambda: store, clock=lambda: now[0])  # type: ignore[arg-type]
        before = sum(app.generations.values())
        try:
            worker(event)
        except (Killed, GenerationFailed) as error:
            wasted[type(error).__name__] += sum(app.generations.values()) > before
        except (ImageClaimed, ItemRefused):
            pass

    todo = events(400)
    store.kill, app.failing = 0.05, 0.05
    for _ in range(3):  # three runs, each with another one at the same time
        for event in todo:
            store.between = [lambda event=event: call(event) for _ in range(2)]
            call(event)
            now[0] += 1
        now[0] += 2_000  # claims of killed calls expire
    store.kill = app.failing = 0.0
    for event in todo:
        store.between = []
        call(event)
    names = [each["path"] for batch in store.list("images/") for each in batch]
    assert sorted(names) == sorted(f"images/{event['item']['key']}.png" for event in todo)
    assert wasted["Killed"] > 0
    assert wasted["GenerationFailed"] > 0
    assert len(todo) <= sum(app.generations.values()) <= len(todo) + sum(wasted.values())
