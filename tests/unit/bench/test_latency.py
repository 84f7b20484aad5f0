"""Measuring latency, with the real handler and timings that the tests choose (bench/latency.py)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lambdiff import pricing
from lambdiff.bench.latency import Bench
from lambdiff.bench.plan import make_plan
from lambdiff.bench.stats import Stats
from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.config import Deployment
from lambdiff.errors import AccessDenied, EndpointFailed
from support.recording_transport import LOAD, NETWORK, PHASES, RecordingTransport
from support.stub_engine import StubEngine


def make_bench(client: Client, *, rounds: int = 1, **parameters: Any) -> Bench:
    """Return a benchmark on the transport's clock that has not run yet."""
    clock = client.transport.clock
    return Bench(client, make_plan(client, **parameters, clock=clock), rounds=rounds, clock=clock)


def test_each_round_measures_every_configuration(client: Client, transport: RecordingTransport) -> None:
    """The warm-up and each round run all configurations in turn, so that a slow minute affects all of them."""
    make_bench(client, steps=[1, 3], sizes=[(64, 64), (128, 64)], rounds=2).run()
    assert transport.configurations == [(1, 64), (3, 64), (1, 128), (3, 128)] * 3


def test_no_prompt_and_no_seed_is_sent_twice(client: Client, transport: RecordingTransport) -> None:
    """Prompts and seeds are unique, because cached prompt embeddings would make all images but the first too fast."""
    make_bench(client, prompt="x" * 2000, steps=[1, 2], rounds=2).run()
    assert len({request.prompt for request in transport.requests}) == 6
    assert len({request.seed for request in transport.requests}) == 6
    assert all(len(request.prompt) <= 2000 for request in transport.requests)


def test_the_warm_up_counts_as_startup_only(client: Client) -> None:
    """The image that loads the model counts toward the startup figures and toward no median."""
    bench = make_bench(client, steps=[1], rounds=3)
    bench.run()
    report = bench.report()
    assert report.startup.health_seconds == NETWORK
    assert report.startup.load_seconds == LOAD
    assert report.startup.first_image_seconds == NETWORK + 1.5 + LOAD
    (only,) = report.results
    assert (only.images, only.cold_starts) == (3, 0)
    assert only.latency_seconds == Stats(median=NETWORK + 1.5, min=NETWORK + 1.5, max=NETWORK + 1.5)
    assert "load" not in only.phase_seconds


def test_a_later_cold_start_is_counted_but_not_measured(client: Client, engine: StubEngine) -> None:
    """An image that loads the model again, as in a new environment, is counted as a cold start and left out."""
    bench = make_bench(client, steps=[1], rounds=3)
    calls = 0

    def unload() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            engine.loads = 0

    bench.run(unload)
    (only,) = bench.report().results
    assert (only.images, only.cold_starts) == (2, 1)


def test_latency_includes_the_network_and_phases_do_not(client: Client) -> None:
    """The engine's time is the sum of its phases without the queue; the latency also includes the network."""
    bench = make_bench(client, steps=[5], rounds=3)
    bench.run()
    (only,) = bench.report().results
    assert only.phase_seconds == {**PHASES, "denoise": 2.5}
    assert only.engine_seconds == Stats(median=3.5, min=3.5, max=3.5)
    assert only.latency_seconds == Stats(median=3.75, min=3.75, max=3.75)


def test_a_failing_configuration_is_not_retried(client: Client, transport: RecordingTransport) -> None:
    """A failing configuration is requested once and reported with its error, and the others are measured."""
    transport.fail[9] = EndpointFailed("The function's time was almost up.")
    bench = make_bench(client, steps=[9, 1], rounds=2)
    ticks: list[None] = []
    bench.run(lambda: ticks.append(None))
    assert [steps for steps, _ in transport.configurations] == [9, 1, 1, 1]
    assert len(ticks) == bench.images == 6
    failed, measured = bench.report().results
    assert (failed.images, failed.latency_seconds) == (0, None)
    assert failed.error == "The function's time was almost up."
    assert (measured.images, measured.error) == (2, None)


def test_nothing_measured_is_an_error(client: Client, transport: RecordingTransport) -> None:
    """If all configurations fail, the first error is raised; if the caller is refused, the run ends immediately."""
    transport.fail[1] = EndpointFailed("broken")
    with pytest.raises(EndpointFailed, match="broken"):
        make_bench(client, steps=[1]).run()
    transport.fail[1] = AccessDenied("no", status=403)
    before = len(transport.requests)
    with pytest.raises(AccessDenied):
        make_bench(client, steps=[1, 2]).run()
    assert len(transport.requests) == before + 1


def test_an_interruption_leaves_a_report(client: Client) -> None:
    """After an interruption the report contains the images generated so far."""
    bench = make_bench(client, steps=[1, 2], rounds=2)

    def stop() -> None:
        if bench.series[0].samples:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(stop)
    assert [each.images for each in bench.report().results] == [1, 0]


def set_memory(client: Client) -> None:
    """Make the client call a deployment with 10,240 MB, whose price is known."""
    url = "https://abc123.lambda-url.eu-west-1.on.aws/"
    deployment = Deployment(name="priced", url=url, region="eu-west-1", memory_mb=10_240)
    client.endpoint = dataclasses.replace(client.endpoint, deployment=deployment)


def test_cost_follows_the_endpoints_time(client: Client) -> None:
    """The cost is that of the phases, without the network; if the memory is unknown, so is the cost."""
    bench = make_bench(client, steps=[1])
    bench.run()
    assert bench.report().results[0].dollars_per_image is None
    assert bench.report().prices_as_of is None
    set_memory(client)
    bench = make_bench(client, steps=[1])
    bench.run()
    (only,) = bench.report().results
    assert only.dollars_per_image == pytest.approx(pricing.invocation(10_240, 1.5))
    assert bench.report().prices_as_of == "2026-09"


def test_the_expected_cost_is_based_on_the_last_image(client: Client) -> None:
    """The expected cost of an image is that of the last one, or None if the price is unknown."""
    bench = make_bench(client, steps=[1])
    progress.remember_seconds("in process", 5.0)
    assert bench.expected_cost() is None
    set_memory(client)
    assert bench.expected_cost() == (5.0, pricing.invocation(10_240, 5.0))
    progress.remember_seconds("in process", 6.0)
    assert bench.expected_cost() == (6.0, pricing.invocation(10_240, 6.0))


def test_without_an_earlier_image_no_cost_is_expected(client: Client) -> None:
    """If no image has been generated yet, its duration is unknown, and so is its expected cost."""
    set_memory(client)
    assert make_bench(client, steps=[1]).expected_cost() is None
