"""`lambdiff warm`: start execution environments before they are needed."""

from __future__ import annotations

import time

from msgspec import Struct

from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.pictures import required_pictures
from lambdiff.errors import ConfigurationError
from lambdiff.stages import Stages


class WarmResult(Struct, frozen=True, kw_only=True):
    """The result of a warm-up, as `lambdiff warm --json` prints it.

    Attributes:
        requested: requests sent.
        answered: requests that succeeded.
        loaded: environments that had to load the model; the others already had it in memory.
        seconds: until the last reply.
        failed: the distinct errors of failed requests, each a message and, on the next line, its fix.
    """

    requested: int
    answered: int
    loaded: int
    seconds: float
    failed: list[str]


def warm(client: Client, count: int, stages: Stages) -> WarmResult:
    """Send `count` concurrent requests for one denoising step.

    Each occupies an environment of its own, so `count` environments have the model in memory afterwards. Each request
    is billed.

    Raises:
        ConfigurationError: nothing is deployed.
    """
    if client.endpoint.local:
        raise ConfigurationError(
            "No deployment is configured, so there are no environments to warm.",
            fix="Create one with `lambdiff deploy`, or choose an endpoint with `url=`.",
        )
    stages.stage(f"Warming {count} environment{'' if count == 1 else 's'}")
    start = time.monotonic()
    pictures = required_pictures(client.health().limits)
    results = list(client.generate_many(["warm"] * count, max_workers=count, num_inference_steps=1, **pictures))
    failed = [str(each.error) for each in results if isinstance(each, Failure)]
    loaded = sum("load" in each.timings for each in results if not isinstance(each, Failure))
    stages.done()
    return WarmResult(
        requested=count,
        answered=count - len(failed),
        loaded=loaded,
        seconds=round(time.monotonic() - start, 2),
        failed=sorted(set(failed)),
    )
