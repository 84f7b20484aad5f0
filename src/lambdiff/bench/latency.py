"""`lambdiff bench`: how long a picture takes and what it costs, by steps and size, measured by asking for pictures.

    plan      what the endpoint is, and which pictures to ask it for
    Bench     asks: first each kind once to warm up, then round by round, so that a slow minute touches all kinds alike
    LatencyReport    medians with their range, and seconds = fixed + per step x steps for each size

The endpoint is whatever a `Client` calls: a deployment, a URL, or this machine. What Lambda's memory setting does to
both figures is measured by `infra/tuning.py`.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Struct

from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed, EndpointRefused, InvalidRequest, LambdiffError
from lambdiff.protocol import contract
from lambdiff.protocol.contract import GenerateRequest, Generation, Health

PROMPT: Final = "a cat in a top hat"


class Stats(Struct, frozen=True, kw_only=True):
    """Several measurements of one thing."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Stats | None:
        """None where nothing was measured.

        Example:
            >>> Stats.of([2.0, 1.0, 4.0])
            Stats(median=2.0, min=1.0, max=4.0)
        """
        listed = sorted(values)
        if not listed:
            return None
        middle, low, high = (round(each, 4) for each in (statistics.median(listed), listed[0], listed[-1]))
        return cls(median=middle, min=low, max=high)


class Point(Struct, frozen=True, kw_only=True):
    """What was measured for one number of steps and one size.

    Attributes:
        pictures: how many the figures rest on: the warm-up and cold starts are not among them.
        cold: pictures of the rounds for which the model had to be loaded again.
        seconds: what the caller waits.
        engine: seconds of it in the endpoint: the sum of the phases.
        phases: median seconds by phase, in the endpoint.
        dollars_per_image: the median, by the phases' time and the deployment's memory; None where that is not known.
        error, fix: why it was given up, if it was, and what to do about it.
    """

    num_inference_steps: int
    width: int
    height: int
    pictures: int
    cold: int
    seconds: Stats | None
    engine: Stats | None
    phases: dict[str, float]
    dollars_per_image: float | None
    error: str | None = None
    fix: str = ""


class Fit(Struct, frozen=True, kw_only=True):
    """A size's line through the medians, by least squares: seconds = fixed + per_step x steps."""

    width: int
    height: int
    fixed: float
    per_step: float


class Start(Struct, frozen=True, kw_only=True):
    """What the first caller waited, in seconds.

    Attributes:
        health: until the endpoint had said what it is; on this machine, the engine's import included.
        first: then, until the first picture was there.
        load: the part of it that loaded the model; None if it was loaded before.
    """

    health: float
    first: float | None
    load: float | None


class LatencyReport(Struct, frozen=True, kw_only=True):
    """The report; the form of `--json`.

    Attributes:
        endpoint: address and its source.
        engine: its name and precision.
        rounds: pictures asked for at each point after the warm-up.
        prices_of: the date of the prices; None where nothing is known to cost anything.
    """

    endpoint: str
    model: str
    engine: str
    threads: int
    guidance_scale: float
    scheduler: str
    rounds: int
    start: Start
    points: list[Point]
    fits: list[Fit]
    prices_of: str | None


@dataclass(frozen=True)
class Sample:
    """One picture.

    Attributes:
        seed: of its own, so that a log can be asked about it.
        seconds: what the caller waited.
        phases: seconds by phase in the endpoint; waiting in line is none.
    """

    seed: int
    seconds: float
    phases: dict[str, float]
    dollars: float | None

    @property
    def cold(self) -> bool:
        """Whether the model was loaded for it."""
        return "load" in self.phases

    @property
    def engine(self) -> float:
        """Seconds in the endpoint."""
        return sum(self.phases.values())


@dataclass
class Measured:
    """The pictures of one kind, as far as they have come; `samples` are those of the rounds that were not cold."""

    generation: Generation
    warm_up: Sample | None = None
    samples: list[Sample] = field(default_factory=list)
    cold: int = 0
    error: LambdiffError | None = None


@dataclass(frozen=True)
class BenchPlan:
    """What to ask for, with nothing left open, and of whom; `seconds` is how long the endpoint took to say it."""

    health: Health
    seconds: float
    generations: list[Generation]


def plan(
    client: Client,
    prompt: str = PROMPT,
    *,
    steps: Sequence[int] = (),
    sizes: Sequence[tuple[int, int]] = (),
    guidance_scale: float | None = None,
    scheduler: str | None = None,
) -> BenchPlan:
    """Ask the endpoint what it is, and choose the pictures.

    Args:
        steps: numbers of steps; half of the model's default and the default if there are none.
        sizes: (width, height) in pixels; the model's default if there are none.

    Raises:
        InvalidRequest: a value is out of range; nothing was sent.
        EndpointRefused: a value that this model cannot draw; no picture was asked for.
        LambdiffError: the endpoint does not answer; see `Client.health`.
    """
    shared = {"prompt": prompt, "guidance_scale": guidance_scale, "scheduler": scheduler}

    def requests(steps: Iterable[int | None]) -> list[GenerateRequest]:
        each: list[dict[str, Any]] = [
            {**shared, "num_inference_steps": count, "width": width, "height": height}
            for width, height in dict.fromkeys(sizes) or [(None, None)]
            for count in dict.fromkeys(steps)
        ]
        given = [{name: value for name, value in fields.items() if value is not None} for fields in each]
        return [GenerateRequest.from_fields(fields) for fields in given]

    wanted = requests(steps or [None])  # a bad value is refused before anything is sent
    started = time.perf_counter()
    health = client.health()
    seconds = time.perf_counter() - started
    if not steps:
        default = health.defaults.num_inference_steps
        wanted = requests([max(1, default // 2), default])
    generations = [request.resolve(health.defaults) for request in wanted]
    try:
        for generation in generations:
            health.limits.check(generation)
    except InvalidRequest as error:  # what the endpoint would answer
        raise EndpointRefused(
            f"The endpoint's model cannot draw this: {error.message}", fix="Change what is named.", status=422
        ) from None
    return BenchPlan(health, seconds, generations)


class Bench:
    """A measurement under way: `run` it, and ask for the `report` at any time, an interruption included.

    Args:
        client: whom to ask.
        plan: what for.
        rounds: pictures at each point, after one to warm up.

    Example:
        >>> with lambdiff.Client(local=True) as client:  # doctest: +SKIP
        ...     bench = Bench(client, plan(client, steps=[4, 8]))
        ...     bench.run()
        >>> [point.seconds.median for point in bench.report().points]  # doctest: +SKIP
        [0.41, 0.72]
    """

    def __init__(self, client: Client, plan: BenchPlan, *, rounds: int = 3) -> None:
        self.client = client
        self.plan = plan
        self.rounds = rounds
        self.measured = [Measured(generation) for generation in plan.generations]
        self._seed = secrets.randbelow(contract.MAX_SEED + 1 - self.pictures)

    @property
    def pictures(self) -> int:
        """How many will be asked for, the warm-up included."""
        return len(self.plan.generations) * (self.rounds + 1)

    @property
    def begun(self) -> bool:
        """Whether there is a picture yet."""
        return any(each.warm_up for each in self.measured)

    def expectation(self) -> tuple[float, float] | None:
        """(seconds, dollars) of a picture like the last one that was drawn here; None where either is not known."""
        seconds = progress.expected_seconds(self.client.transport.url)
        dollars = None if seconds is None else self.client.endpoint.price(seconds)
        return None if seconds is None or dollars is None else (seconds, dollars)

    def run(self, on_picture: Callable[[], None] = lambda: None) -> None:
        """Ask for all the pictures, one after the other. A kind that the endpoint breaks at is given up, not the rest.

        Args:
            on_picture: called after each, the given up ones included.

        Raises:
            LambdiffError: nothing could be measured, or the endpoint refuses its callers (403, 429).
        """
        for turn in range(self.rounds + 1):
            for each in self.measured:
                if each.error is None:
                    self._draw(each, warm_up=turn == 0)
                on_picture()
        errors = [each.error for each in self.measured if each.error]
        if errors and not any(each.samples for each in self.measured):
            raise errors[0]

    def report(self) -> LatencyReport:
        """Everything that was measured so far."""
        from lambdiff import pricing

        health, generation = self.plan.health, self.plan.generations[0]
        points = [_point(each) for each in self.measured]
        first = self.measured[0].warm_up
        return LatencyReport(
            endpoint=str(self.client.endpoint),
            model=f"{health.model.name}@{health.model.revision}",
            engine=f"{health.engine} {health.precision}",
            threads=health.threads,
            guidance_scale=generation.guidance_scale,
            scheduler=generation.scheduler,
            rounds=self.rounds,
            start=Start(
                health=round(self.plan.seconds, 4),
                first=round(first.seconds, 4) if first else None,
                load=first.phases.get("load") if first else None,
            ),
            points=points,
            fits=fits(points),
            prices_of=pricing.DATE if any(point.dollars_per_image is not None for point in points) else None,
        )

    def _draw(self, each: Measured, *, warm_up: bool) -> None:
        self._seed += 1
        # Engines keep the embeddings of prompts; callers rarely send one twice, so neither does this.
        prompt = f"{each.generation.prompt[: contract.MAX_PROMPT - 11]} {self._seed}"
        fields = {**msgspec.structs.asdict(each.generation), "prompt": prompt, "seed": self._seed}
        try:
            image = self.client.generate(**fields)
        except EndpointFailed as error:
            each.error = error
            return
        phases = {name: taken for name, taken in image.timings.items() if name not in ("queue", "total")}
        sample = Sample(self._seed, image.timings["total"], phases, image.cost)
        if warm_up:
            each.warm_up = sample
        elif sample.cold:
            each.cold += 1
        else:
            each.samples.append(sample)


def fits(points: Sequence[Point]) -> list[Fit]:
    """The line of each size that was measured at two numbers of steps or more."""
    sizes: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for point in points:
        if point.seconds:
            pairs = sizes.setdefault((point.width, point.height), [])
            pairs.append((point.num_inference_steps, point.seconds.median))
    lines = []
    for (width, height), pairs in sizes.items():
        if len(pairs) > 1:
            slope, intercept = statistics.linear_regression(*zip(*pairs, strict=True))
            lines.append(Fit(width=width, height=height, fixed=round(intercept, 4), per_step=round(slope, 4)))
    return lines


def _point(each: Measured) -> Point:
    samples = each.samples
    phases = dict.fromkeys(name for sample in samples for name in sample.phases)
    costs = [sample.dollars for sample in samples if sample.dollars is not None]
    return Point(
        num_inference_steps=each.generation.num_inference_steps,
        width=each.generation.width,
        height=each.generation.height,
        pictures=len(samples),
        cold=each.cold,
        seconds=Stats.of(sample.seconds for sample in samples),
        engine=Stats.of(sample.engine for sample in samples),
        phases={
            name: round(statistics.median(sample.phases.get(name, 0.0) for sample in samples), 4) for name in phases
        },
        dollars_per_image=statistics.median(costs) if costs else None,
        error=each.error.message if each.error else None,
        fix=each.error.fix if each.error else "",
    )
