"""The report of `lambdiff bench`: latency and cost of each configuration, and a linear fit over steps for each size."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import Struct

from lambdiff import pricing
from lambdiff.bench.plan import BenchPlan
from lambdiff.bench.samples import Series
from lambdiff.bench.stats import Stats


class ConfigurationResult(Struct, frozen=True, kw_only=True):
    """What was measured for one number of steps and one size.

    Attributes:
        images: how many images the statistics include; the warm-up and cold starts are excluded.
        cold_starts: images after the warm-up for which the model was loaded again.
        latency_seconds: how long the caller waits.
        engine_seconds: the part of it spent in the endpoint, the sum of the phases.
        phase_seconds: median by phase.
        dollars_per_image: the median, from the phases' time and the deployment's memory size; None if that is unknown.
        error, fix: why the configuration was skipped, and what to do about it.
    """

    num_inference_steps: int
    width: int
    height: int
    images: int
    cold_starts: int
    latency_seconds: Stats | None
    engine_seconds: Stats | None
    phase_seconds: dict[str, float]
    dollars_per_image: float | None
    error: str | None = None
    fix: str = ""


class StepFit(Struct, frozen=True, kw_only=True):
    """A least-squares line through one size's median latencies: seconds = fixed + steps x seconds per step."""

    width: int
    height: int
    fixed_seconds: float
    seconds_per_step: float


class Startup(Struct, frozen=True, kw_only=True):
    """How long the first calls took.

    Attributes:
        health_seconds: the health query, which on this machine includes importing the engine.
        first_image_seconds: the first image; None if there is none yet.
        load_seconds: the part of it that loaded the model; None if the model was already in memory.
    """

    health_seconds: float
    first_image_seconds: float | None
    load_seconds: float | None


class LatencyReport(Struct, frozen=True, kw_only=True):
    """The report, as `lambdiff bench --json` prints it.

    Attributes:
        endpoint: the address and its source.
        engine: its name and precision.
        rounds: images of each configuration after the warm-up.
        results: one for each configuration.
        fits: one for each size measured with several numbers of steps.
        prices_as_of: the date of the price list; None if no cost is known.
    """

    endpoint: str
    model: str
    engine: str
    threads: int
    guidance_scale: float
    scheduler: str
    sigma_schedule: str
    rounds: int
    startup: Startup
    results: list[ConfigurationResult]
    fits: list[StepFit]
    prices_as_of: str | None


def make_report(endpoint: str, plan: BenchPlan, series: Sequence[Series], rounds: int) -> LatencyReport:
    """Summarize the samples collected so far.

    Args:
        endpoint: the address and its source.
        plan: the plan that the samples belong to.
        series: one for each configuration of `plan`.
        rounds: images of each configuration after the warm-up.
    """
    health, generation, first = plan.health, plan.generations[0], series[0].warm_up
    results = [_result(each) for each in series]
    return LatencyReport(
        endpoint=endpoint,
        model=f"{health.model.name}@{health.model.revision}",
        engine=f"{health.engine} {health.precision}",
        threads=health.threads,
        guidance_scale=generation.guidance_scale,
        scheduler=generation.scheduler,
        sigma_schedule=generation.sigma_schedule,
        rounds=rounds,
        startup=Startup(
            health_seconds=round(plan.health_seconds, 4),
            first_image_seconds=round(first.seconds, 4) if first else None,
            load_seconds=first.phases.get("load") if first else None,
        ),
        results=results,
        fits=fit_steps(results),
        prices_as_of=pricing.DATE if any(result.dollars_per_image is not None for result in results) else None,
    )


def fit_steps(results: Sequence[ConfigurationResult]) -> list[StepFit]:
    """Fit a line for each size that was measured with two or more numbers of steps."""
    medians: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for result in results:
        if result.latency_seconds:
            of_size = medians.setdefault((result.width, result.height), [])
            of_size.append((result.num_inference_steps, result.latency_seconds.median))
    fits = []
    for (width, height), points in medians.items():
        if len(points) > 1:
            slope, intercept = statistics.linear_regression(*zip(*points, strict=True))
            fits.append(
                StepFit(width=width, height=height, fixed_seconds=round(intercept, 4), seconds_per_step=round(slope, 4))
            )
    return fits


def _result(series: Series) -> ConfigurationResult:
    samples = series.samples
    phases = dict.fromkeys(name for sample in samples for name in sample.phases)
    costs = [sample.dollars for sample in samples if sample.dollars is not None]
    return ConfigurationResult(
        num_inference_steps=series.generation.num_inference_steps,
        width=series.generation.width,
        height=series.generation.height,
        images=len(samples),
        cold_starts=series.cold_starts,
        latency_seconds=Stats.of(sample.seconds for sample in samples),
        engine_seconds=Stats.of(sample.engine_seconds for sample in samples),
        phase_seconds={
            name: round(statistics.median(sample.phases.get(name, 0.0) for sample in samples), 4) for name in phases
        },
        dollars_per_image=statistics.median(costs) if costs else None,
        error=series.error.message if series.error else None,
        fix=series.error.fix if series.error else "",
    )
