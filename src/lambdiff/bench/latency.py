"""Measure how long an endpoint takes for an image and what it costs, by steps and size.

The endpoint can be anything that a `Client` calls: a deployment, a URL, or this machine. `memory_sweep.py` measures how
a function's memory affects both figures.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from lambdiff.bench.latency_report import LatencyReport, make_report
from lambdiff.bench.plan import BenchPlan
from lambdiff.bench.samples import Sample, Series
from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed
from lambdiff.protocol import contract
from lambdiff.protocol.contract import Generation


class Bench:
    """A benchmark. Call `run`, then `report`, which also works after an interrupt.

    The first image of each configuration is a warm-up. After that, each round generates one image of every
    configuration, so that a slow minute affects all of them alike.

    Args:
        client: calls the endpoint.
        plan: what to generate.
        rounds: images of each configuration after the warm-up.
        clock: seconds, from any starting point.

    Example:
        >>> from lambdiff.bench.plan import make_plan
        >>> with lambdiff.Client(local=True) as client:
        ...     bench = Bench(client, make_plan(client, steps=[1, 2]), rounds=1)
        ...     bench.run()
        >>> [result.num_inference_steps for result in bench.report().results]
        [1, 2]
    """

    def __init__(
        self, client: Client, plan: BenchPlan, *, rounds: int = 3, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.client = client
        self.plan = plan
        self.rounds = rounds
        self.series = [Series(generation) for generation in plan.generations]
        self._clock = clock
        self._seed = secrets.randbelow(contract.MAX_SEED + 1 - self.images)

    @property
    def images(self) -> int:
        """How many images a complete run generates, including the warm-up."""
        return len(self.plan.generations) * (self.rounds + 1)

    @property
    def started(self) -> bool:
        """Whether an image has been generated."""
        return any(series.warm_up for series in self.series)

    def expected_cost(self) -> tuple[float, float] | None:
        """(seconds, dollars) of an image, if it takes as long as the endpoint's last one; None if either is unknown."""
        seconds = progress.expected_seconds(self.client.transport.url)
        dollars = None if seconds is None else self.client.endpoint.price(seconds)
        return None if seconds is None or dollars is None else (seconds, dollars)

    def run(self, on_image: Callable[[], None] = lambda: None) -> None:
        """Generate all images, one after the other. A configuration at which the endpoint fails is skipped.

        Args:
            on_image: called after each image, including those of skipped configurations.

        Raises:
            LambdiffError: nothing could be measured, or the endpoint refuses the caller (403, 429).
        """
        for number in range(self.rounds + 1):
            for series in self.series:
                if series.error is None:
                    self._measure(series, warm_up=number == 0)
                on_image()
        errors = [series.error for series in self.series if series.error]
        if errors and not any(series.samples for series in self.series):
            raise errors[0]

    def report(self) -> LatencyReport:
        """Summarize what has been measured so far."""
        return make_report(str(self.client.endpoint), self.plan, self.series, self.rounds)

    def _measure(self, series: Series, *, warm_up: bool) -> None:
        self._seed += 1
        fields = _unique_request(series.generation, self._seed)
        started = self._clock()
        try:
            image = self.client.generate(**fields)
        except EndpointFailed as error:
            series.error = error
            return
        seconds = self._clock() - started
        phases = {name: taken for name, taken in image.timings.items() if name not in ("queue", "total")}
        series.add(Sample(self._seed, seconds, phases, image.cost), warm_up=warm_up)


def _unique_request(generation: Generation, seed: int) -> dict[str, Any]:
    """The parameters of one image. No prompt is sent twice, because engines cache the embeddings of prompts."""
    prompt = f"{generation.prompt[: contract.MAX_PROMPT - 11]} {seed}"
    return {**msgspec.structs.asdict(generation), "prompt": prompt, "seed": seed}
