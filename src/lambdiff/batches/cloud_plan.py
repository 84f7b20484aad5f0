"""What a run in AWS will take and cost, and the most that it can cost.

The estimate says what is likely; it is no limit. The limit is what every item can cost at most: each of its attempts
starts an environment and runs until the function's timeout, and every call to S3 and every state transition happens
that may happen. `max_cost` holds if this sum fits, because nothing in AWS can start more than that.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

from msgspec import Meta, Struct

from lambdiff import pricing
from lambdiff.aws import map_runs
from lambdiff.aws.function import Function
from lambdiff.batches import throughput
from lambdiff.errors import InvalidRequest

MaxCost = Annotated[float, Meta(gt=0, le=1_000_000)]
ITEMS_PER_FILE: Final = 40_000
"""Items of one item file: the results of their Map Run, empty objects, have less than 256 KiB."""
BYTES_PER_FILE: Final = 40_000_000
ATTEMPTS: Final = 1 + map_runs.RETRIES_AFTER_ERRORS
"""Calls of an item that may be billed for an image."""
INIT_S: Final = 10.0
"""Seconds of an environment's start that are billed apart from the call; a longer start counts as part of it."""
_TRANSITIONS: Final = throughput.TRANSITIONS_PER_ITEM
_MAX_TRANSITIONS: Final = _TRANSITIONS + map_runs.RETRIES_AFTER_THROTTLING + map_runs.RETRIES_AFTER_ERRORS
_WRITES: Final = 3
"""Of a generated image: claim, image, record."""
_READS: Final = 1
_MAX_WRITES: Final = 2 * 3 * ATTEMPTS
_MAX_READS: Final = 2 * 3 * ATTEMPTS
"""S3 may refuse a call for a moment; each is counted twice."""
_FIXED_TRANSITIONS: Final = 10
"""Of the execution itself, for each item file."""
_FIXED_REQUESTS: Final = 100
"""PUTs of the client: the item files and the run's description."""


class Plan(Struct, frozen=True, kw_only=True):
    """A run in AWS before it is started.

    Attributes:
        rows: how many images were asked for.
        present: how many of them are there already.
        left_out: how many do not fit into `max_cost`; the next run generates them.
        images: how many this run generates.
        concurrency: how many may be in progress at once.
        seconds_per_image: the duration of one, and in `source` where the number is from.
        minutes: how long the run will take.
        generation, orchestration, requests: dollars for Lambda, for Step Functions, and for calls to S3.
        storage_month: dollars a month for keeping the images.
        dollars: the estimate, without storage.
        most: what the run can cost at most, in dollars, without storage.
        max_cost: the limit that was given.
        prices_as_of: the date of the price list.
    """

    rows: int
    present: int
    left_out: int
    images: int
    concurrency: int
    seconds_per_image: float
    source: str
    minutes: float
    generation: float
    orchestration: float
    requests: float
    storage_month: float
    dollars: float
    most: float
    max_cost: float | None = None
    prices_as_of: str = pricing.DATE

    @property
    def summary(self) -> str:
        """The plan in one paragraph, for the question before the run."""
        there = f" ({self.present:,} of {self.rows:,} are there)" if self.present else ""
        cut = f" {self.left_out:,} more do not fit into the limit; run again for them." if self.left_out else ""
        seconds = f"{self.seconds_per_image:.1f} s each ({self.source})"
        duration = f"about {_minutes(self.minutes)} with {self.concurrency:,} at once"
        return (
            f"{self.images:,} images{there}, {seconds}, {duration}: "
            f"about {pricing.dollars(self.dollars)} (generation {pricing.dollars(self.generation)}, orchestration "
            f"{pricing.dollars(self.orchestration)}, S3 requests {pricing.dollars(self.requests)}), at most "
            f"{pricing.dollars(self.most)}; storage {pricing.dollars(self.storage_month)} a month. us-east-1 prices as "
            f"of {self.prices_as_of}, before tax.{cut}"
        )


def item_limit(function: Function) -> float:
    """Return the most that one item can cost, in dollars: 0.025 with 10,240 MB and a timeout of 60 s."""
    compute = ATTEMPTS * function.price(function.timeout_s + INIT_S)
    refused = (1 + map_runs.RETRIES_AFTER_THROTTLING) * pricing.REQUEST
    return (
        compute
        + refused
        + _MAX_TRANSITIONS * pricing.STATE_TRANSITION
        + _MAX_WRITES * pricing.S3_PUT
        + _MAX_READS * pricing.S3_GET
    )


def fixed_cost(items: int) -> float:
    """Return the most that a run costs apart from its items, in dollars."""
    files = math.ceil(items / ITEMS_PER_FILE)
    return files * _FIXED_TRANSITIONS * pricing.STATE_TRANSITION + (files + _FIXED_REQUESTS) * pricing.S3_PUT


def affordable(items: int, max_cost: float, function: Function) -> int:
    """Return how many of the items fit into a limit even if every one of them costs the most that it can."""
    fitting = min(items, int((max_cost - fixed_cost(0)) / item_limit(function)))
    while fitting > 0 and fixed_cost(fitting) + fitting * item_limit(function) > max_cost:
        fitting -= 1
    return max(0, fitting)


def make_plan(
    rows: int,
    present: int,
    function: Function,
    *,
    concurrency: int,
    seconds: float,
    source: str,
    bytes_per_image: float,
    region: str,
    max_cost: float | None = None,
) -> Plan:
    """Return the plan for a run.

    Args:
        rows: how many images are asked for.
        present: how many of them are there already.
        function: the batch function, whose memory and timeout decide the price.
        concurrency: how many images may be in progress at once.
        seconds: the duration of one image.
        source: where that is from, for people.
        bytes_per_image: for the price of storage.
        region: decides the rate of the state machine.
        max_cost: a limit in dollars that holds whatever happens; what does not fit is left out.

    Raises:
        InvalidRequest: not even one image fits into the limit.
    """
    wanted = rows - present
    images = wanted if max_cost is None else affordable(wanted, max_cost, function)
    if wanted and not images:
        least = fixed_cost(1) + item_limit(function)
        raise InvalidRequest(
            f"A limit of {pricing.dollars(max_cost or 0)} does not cover one image: in the worst case it costs "
            f"{pricing.dollars(least)}, {ATTEMPTS} attempts of {function.timeout_s} s each.",
            fix="Raise `max_cost=`, or shorten the timeout with `lambdiff deploy`, `batch_timeout_s=`.",
            problems=[("max_cost", f"must be at least {least:.4f}")],
        )
    transitions = throughput.transitions_per_s(region)
    run_s = throughput.run_seconds(images, seconds, concurrency, transitions=transitions)
    tails = max(
        0, math.ceil(images / ITEMS_PER_FILE) - 1
    )  # a file begins when the last image of the one before is there
    generation = images * function.price(seconds)
    orchestration = images * _TRANSITIONS * pricing.STATE_TRANSITION
    requests = images * (_WRITES * pricing.S3_PUT + _READS * pricing.S3_GET)
    return Plan(
        rows=rows,
        present=present,
        left_out=wanted - images,
        images=images,
        concurrency=concurrency,
        seconds_per_image=seconds,
        source=source,
        minutes=(run_s + tails * seconds) / 60,
        generation=generation,
        orchestration=orchestration,
        requests=requests,
        storage_month=images * bytes_per_image / 1e9 * pricing.S3_GB_MONTH,
        dollars=generation + orchestration + requests,
        most=fixed_cost(images) + images * item_limit(function),
        max_cost=max_cost,
    )


def _minutes(minutes: float) -> str:
    return f"{minutes:,.1f} minutes" if minutes < 120 else f"{minutes / 60:,.1f} hours"
