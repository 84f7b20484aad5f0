"""Decide what a benchmark generates: one configuration for each size and number of steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from lambdiff.client.client import Client
from lambdiff.errors import EndpointRefused, InvalidRequest
from lambdiff.protocol.contract import GenerateRequest, Generation, Health

PROMPT: Final = "a cat in a top hat"


@dataclass(frozen=True)
class BenchPlan:
    """What to measure, with every parameter resolved.

    Attributes:
        health: the endpoint's health report.
        health_seconds: how long the report took.
        generations: the configurations, at least one.
    """

    health: Health
    health_seconds: float
    generations: list[Generation]


def make_plan(
    client: Client,
    prompt: str = PROMPT,
    *,
    steps: Sequence[int] = (),
    sizes: Sequence[tuple[int, int]] = (),
    guidance_scale: float | None = None,
    scheduler: str | None = None,
    sigma_schedule: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> BenchPlan:
    """Query the endpoint's health and resolve the configurations to measure. No image is generated.

    Args:
        client: calls the endpoint.
        prompt: the prompt of every image.
        steps: numbers of denoising steps; by default half of the model's default, and the default.
        sizes: (width, height) in pixels; by default the model's.
        guidance_scale: 0 to 30; by default the model's.
        scheduler: the sampler; by default the model's.
        sigma_schedule: the spacing of the noise levels; by default the model's, if the sampler is.
        clock: seconds, from any starting point.

    Raises:
        InvalidRequest: a value is out of range; nothing was sent.
        EndpointRefused: the model does not support a value.
        LambdiffError: the endpoint does not answer; see `Client.health`.
    """
    shared = {
        "prompt": prompt,
        "guidance_scale": guidance_scale,
        "scheduler": scheduler,
        "sigma_schedule": sigma_schedule,
    }
    requests = _requests(steps or [None], sizes, shared)  # raises before anything is sent
    started = clock()
    health = client.health()
    seconds = clock() - started
    if not steps:
        default = health.defaults.num_inference_steps
        requests = _requests([max(1, default // 2), default], sizes, shared)
    generations = [_completed(request, health).resolve(health.defaults) for request in requests]
    try:
        for generation in generations:
            health.limits.check(generation)
    except InvalidRequest as error:  # the endpoint would answer 422
        raise EndpointRefused(
            f"The endpoint's model does not support this: {error.message}", fix="Change that parameter.", status=422
        ) from None
    return BenchPlan(health, seconds, generations)


def _completed(request: GenerateRequest, health: Health) -> GenerateRequest:
    """Return a request with the pictures that the model needs, which do not change its size."""
    defaults = health.defaults
    size = {"width": request.width or defaults.width, "height": request.height or defaults.height}
    return msgspec.structs.replace(request, **size, **health.limits.sample_pictures)


def _requests(
    steps: Iterable[int | None], sizes: Iterable[tuple[int, int]], shared: dict[str, Any]
) -> list[GenerateRequest]:
    """One request for each distinct pair of size and steps, size by size."""
    configurations: list[dict[str, Any]] = [
        {**shared, "num_inference_steps": count, "width": width, "height": height}
        for width, height in dict.fromkeys(sizes) or [(None, None)]
        for count in dict.fromkeys(steps)
    ]
    return [
        GenerateRequest.from_fields({name: value for name, value in fields.items() if value is not None})
        for fields in configurations
    ]
