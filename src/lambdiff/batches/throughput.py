"""How long a run in AWS takes: a model with the ramps and limits of Lambda and Step Functions.

Three things limit how many images are in progress: the concurrency that the run may use, the ramp of Lambda, which adds
1,000 environments every 10 seconds, and the rate at which the state machine may enter states, two for each image.
`docs/scale-out.md` applies it to runs of 100 to 10 million images, and a simulation in the tests checks it.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html (scaling rate),
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html (state transitions). Not measured in AWS.
"""

from __future__ import annotations

import math
from typing import Final

RAMP_PER_S: Final = 100.0
"""Environments that Lambda adds in a second, for one function."""
TRANSITIONS_PER_ITEM: Final = 2
"""States that a child execution enters: its start, and the task."""
_TRANSITIONS_PER_S: Final = {"us-east-1": 5_000.0, "us-west-2": 5_000.0, "eu-west-1": 5_000.0}
_ELSEWHERE: Final = 800.0


def transitions_per_s(region: str) -> float:
    """Return how many states the executions of an account may enter in a second, by default.

    Example:
        >>> transitions_per_s("us-east-1"), transitions_per_s("eu-central-1")
        (5000.0, 800.0)
    """
    return _TRANSITIONS_PER_S.get(region, _ELSEWHERE)


def steady_rate(seconds: float, concurrency: int, transitions: float = _ELSEWHERE) -> float:
    """Return the images per second when all environments are running.

    Example:
        >>> steady_rate(10, 900), steady_rate(1, 10_000)
        (90.0, 400.0)
    """
    return min(concurrency / seconds, transitions / TRANSITIONS_PER_ITEM)


def run_seconds(
    images: int, seconds: float, concurrency: int, *, start_s: float = 0.0, transitions: float = _ELSEWHERE
) -> float:
    """Return how long a run takes, in seconds.

    While Lambda ramps up, the environments that exist grow by `RAMP_PER_S`, each finishing an image every `seconds`.
    The last image is finished `seconds` after it was begun.

    Args:
        images: how many are generated.
        seconds: the duration of one.
        concurrency: how many may be in progress at once.
        start_s: what the start of an environment takes.
        transitions: state transitions per second.

    Example:
        >>> round(run_seconds(10_000, 10, 900) / 60, 1)
        1.9
        >>> round(run_seconds(10_000, 10, 10) / 3600, 1)
        2.8
    """
    if images <= 0:
        return 0.0
    rate = steady_rate(seconds, concurrency, transitions)
    ramp_s = min(concurrency, math.ceil(rate * seconds)) / RAMP_PER_S
    # Begun t seconds into the ramp: 100 t by new environments, and 50 t^2 / seconds by those that have finished one.
    begun = RAMP_PER_S * (ramp_s + ramp_s**2 / 2 / seconds)
    if images > begun:
        last = ramp_s + (images - begun) / rate
    else:
        last = math.sqrt(seconds**2 + 2 * seconds * images / RAMP_PER_S) - seconds
        last = max(last, min(images / RAMP_PER_S, seconds, ramp_s))  # none has finished before that
    return last + start_s + seconds
