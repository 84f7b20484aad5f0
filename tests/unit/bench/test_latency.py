"""bench.py, against the handler in this process with an engine whose time is known."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from click.testing import CliRunner

from lambdiff import pricing
from lambdiff.bench import latency
from lambdiff.bench.latency import Bench, Fit, Point, Stats
from lambdiff.cli import cli
from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.config import Deployment
from lambdiff.errors import AccessDenied, EndpointFailed, EndpointRefused, InvalidRequest, LambdiffError
from lambdiff.handler.app import App
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep
from support.stub_engine import StubEngine

URL = "https://abc123.lambda-url.eu-west-1.on.aws/"


class RecordingEndpoint:
    """The real handler over the stub engine; remembers what was asked for."""

    url = "in process"

    def __init__(self, engine: StubEngine) -> None:
        self.app = App(lambda: engine, raise_errors=True)
        self.requests: list[GenerateRequest] = []
        self.fail: dict[int, LambdiffError] = {}

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        if method == "POST":
            request = GenerateRequest.from_json(body)
            self.requests.append(request)
            assert request.num_inference_steps is not None
            if error := self.fail.get(request.num_inference_steps):
                raise error
        headers = {"content-type": "application/json"}
        return self.app.handle(HttpRequest(method=method, headers=headers, body=body), on_step)

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def asked(self) -> list[tuple[int | None, int | None]]:
        """(steps, width) of each request, in order."""
        return [(request.num_inference_steps, request.width) for request in self.requests]


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind the client."""
    return StubEngine()


@pytest.fixture
def endpoint(engine: StubEngine) -> RecordingEndpoint:
    """What the client calls."""
    return RecordingEndpoint(engine)


@pytest.fixture
def client(endpoint: RecordingEndpoint) -> Client:
    """A client that sends its requests to `endpoint`."""
    return Client(transport=endpoint)


def point(steps: int, seconds: float | None, width: int = 64) -> Point:
    """A measured point with just what a fit needs."""
    return Point(
        num_inference_steps=steps, width=width, height=64, pictures=1, cold=0, engine=None, phases={},
        seconds=None if seconds is None else Stats(median=seconds, min=seconds, max=seconds), dollars_per_image=None,
    )  # fmt: skip


def test_rounds_go_over_the_points_in_turn(client: Client, endpoint: RecordingEndpoint) -> None:
    """Each kind once to warm up, then all kinds in every round: a slow minute touches all of them."""
    Bench(client, latency.plan(client, steps=[1, 3], sizes=[(64, 64), (128, 64)]), rounds=2).run()
    assert endpoint.asked == [(1, 64), (3, 64), (1, 128), (3, 128)] * 3


def test_no_prompt_and_no_seed_is_sent_twice(client: Client, endpoint: RecordingEndpoint) -> None:
    """Or the engine's memory of prompts would make every picture but the first too cheap."""
    Bench(client, latency.plan(client, "x" * 2000, steps=[1, 2]), rounds=2).run()
    assert len({request.prompt for request in endpoint.requests}) == 6
    assert len({request.seed for request in endpoint.requests}) == 6
    assert all(len(request.prompt) <= 2000 for request in endpoint.requests)


def test_the_warm_up_is_told_apart(client: Client, engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture that loads the model is the start, and in no median."""
    honest = engine.load

    def slow() -> None:
        if not engine.loaded:
            time.sleep(0.3)
        honest()

    monkeypatch.setattr(engine, "load", slow)
    measured = Bench(client, latency.plan(client, steps=[1]), rounds=3)
    measured.run()
    report = measured.report()
    assert report.start.first is not None
    assert report.start.load is not None
    assert report.start.first >= report.start.load >= 0.3
    (only,) = report.points
    assert (only.pictures, only.cold) == (3, 0)
    assert only.seconds is not None
    assert only.seconds.max < 0.3
    assert "load" not in only.phases


def test_a_cold_start_in_between_is_counted_but_not_measured(client: Client, engine: StubEngine) -> None:
    """A model that is gone again, as in a new environment, is no fact about steps and sizes."""
    measured = Bench(client, latency.plan(client, steps=[1]), rounds=3)
    calls = 0

    def forget() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            engine.loads = 0

    measured.run(forget)
    (only,) = measured.report().points
    assert (only.pictures, only.cold) == (2, 1)


def test_seconds_are_the_callers_and_phases_the_endpoints(client: Client, engine: StubEngine) -> None:
    """What the caller waits holds what the engine takes, which is the sum of its phases."""
    engine.step_seconds = 0.02
    measured = Bench(client, latency.plan(client, steps=[5]), rounds=3)
    measured.run()
    (only,) = measured.report().points
    assert only.seconds is not None
    assert only.engine is not None
    assert 0.1 <= only.phases["denoise"] <= only.engine.median <= only.seconds.median
    assert set(only.phases) == {"encode", "denoise", "decode", "compress"}
    assert only.seconds.min <= only.seconds.median <= only.seconds.max


def test_the_line_through_the_medians() -> None:
    """By least squares, for each size with two numbers of steps or more; what failed is on no line."""
    points = [point(4, 1.4), point(8, 2.2), point(12, 3.0), point(4, 9.0, 128), point(8, None, 128)]
    assert latency.fits(points) == [Fit(width=64, height=64, fixed=0.6, per_step=0.2)]
    (fit,) = latency.fits([point(1, 1.0), point(2, 2.0), point(3, 6.0)])
    assert (fit.per_step, fit.fixed) == (2.5, -2.0)


def test_without_steps_half_the_models_and_the_models_are_measured(client: Client) -> None:
    """So that there is a line; sizes are the model's."""
    generations = latency.plan(client).generations
    assert [(each.num_inference_steps, each.width, each.height) for each in generations] == [(1, 64, 64), (2, 64, 64)]


def test_what_is_given_twice_is_measured_once(client: Client) -> None:
    """Steps and sizes."""
    assert len(latency.plan(client, steps=[2, 2, 1], sizes=[(64, 64)] * 2).generations) == 2


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"steps": [4, 0]}, InvalidRequest),
        ({"sizes": [(65, 64)]}, InvalidRequest),
        ({"prompt": " "}, InvalidRequest),
        ({"sizes": [(1024, 64)]}, EndpointRefused),
        ({"scheduler": "pndm"}, EndpointRefused),
    ],
)
def test_bad_values_are_refused_before_a_picture(
    client: Client, endpoint: RecordingEndpoint, wrong: dict[str, Any], kind: type[LambdiffError]
) -> None:
    """Those of the contract, and those that this model cannot draw: the same errors as of `Client.generate`."""
    with pytest.raises(kind) as planned:
        latency.plan(client, **wrong)
    assert planned.type is kind
    assert planned.value.fix or kind is InvalidRequest
    assert endpoint.requests == []


def test_what_breaks_is_given_up_and_the_rest_measured(client: Client, endpoint: RecordingEndpoint) -> None:
    """Steps that end in a time-out are asked for once, and the report says why they have no figures."""
    endpoint.fail[9] = EndpointFailed("The function's time was almost up.")
    measured = Bench(client, latency.plan(client, steps=[9, 1]), rounds=2)
    ticks: list[None] = []
    measured.run(lambda: ticks.append(None))
    assert [steps for steps, _ in endpoint.asked] == [9, 1, 1, 1]
    assert len(ticks) == measured.pictures == 6
    broken, whole = measured.report().points
    assert (broken.pictures, broken.seconds, broken.error) == (0, None, "The function's time was almost up.")
    assert (whole.pictures, whole.error) == (2, None)


def test_the_command_says_what_to_do_about_it(
    client: Client, endpoint: RecordingEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of steps that were given up, the error and its fix; the exit code is the error's."""
    monkeypatch.setattr("lambdiff.client.client.Client", lambda *_, **__: client)
    endpoint.fail[9] = EndpointFailed("The function's time was almost up.", fix="Ask for fewer steps.")
    arguments = ["bench", "--local", "--steps", "9,1", "--rounds", "1"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    said = "Error: 9 steps, 64x64: The function's time was almost up.\n  Ask for fewer steps.\n"
    assert result.stderr.endswith(said)
    assert result.return_value == 5


def test_nothing_measured_is_an_error(client: Client, endpoint: RecordingEndpoint) -> None:
    """And a refusal of the caller ends it at once."""
    endpoint.fail[1] = EndpointFailed("broken")
    with pytest.raises(EndpointFailed, match="broken"):
        Bench(client, latency.plan(client, steps=[1])).run()
    endpoint.fail[1] = AccessDenied("no", status=403)
    before = len(endpoint.requests)
    with pytest.raises(AccessDenied):
        Bench(client, latency.plan(client, steps=[1, 2])).run()
    assert len(endpoint.requests) == before + 1


def test_an_interruption_leaves_a_report(client: Client) -> None:
    """Of what came before it."""
    measured = Bench(client, latency.plan(client, steps=[1, 2]), rounds=2)

    def stop() -> None:
        if measured.measured[0].samples:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured.run(stop)
    assert [each.pictures for each in measured.report().points] == [1, 0]


def with_price(client: Client) -> None:
    """Let the client believe that it calls a deployment with 10,240 MB."""
    deployment = Deployment(name="priced", url=URL, region="eu-west-1", memory_mb=10_240)
    client.endpoint = dataclasses.replace(client.endpoint, deployment=deployment)


def test_cost_is_by_the_endpoints_time(client: Client) -> None:
    """The price of the function's seconds; an endpoint of unknown memory has no known cost."""
    measured = Bench(client, latency.plan(client, steps=[1]), rounds=1)
    measured.run()
    assert measured.report().points[0].dollars_per_image is None
    assert measured.report().prices_of is None
    with_price(client)
    measured = Bench(client, latency.plan(client, steps=[1]), rounds=1)
    measured.run()
    (only,) = measured.report().points
    assert only.engine is not None
    assert only.dollars_per_image == pytest.approx(pricing.invocation(10_240, only.engine.median), abs=2e-8)
    assert measured.report().prices_of == "2026-09"


def test_the_price_beforehand_is_the_last_pictures(client: Client) -> None:
    """None where the time or the price is not known: nothing is made up."""
    measured = Bench(client, latency.plan(client, steps=[1]), rounds=1)
    progress.remember_seconds("in process", 5.0)
    assert measured.expectation() is None
    with_price(client)
    assert measured.expectation() == (5.0, pricing.invocation(10_240, 5.0))
    progress.remember_seconds("in process", 6.0)
    assert measured.expectation() == (6.0, pricing.invocation(10_240, 6.0))


def test_without_a_known_time_there_is_no_price(client: Client) -> None:
    """The price alone says nothing about an image that was never timed."""
    with_price(client)
    assert Bench(client, latency.plan(client, steps=[1]), rounds=1).expectation() is None
