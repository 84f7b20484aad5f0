"""`lambdiff cost`: the cost of an image and of a month, from measured durations and the dated prices in `pricing.py`.

The durations are Lambda's own, from the REPORT line of each request: the billed time, its cold start and the memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from lambdiff import pricing
from lambdiff.aws import images, logs, stacks
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.function import Function
from lambdiff.aws.report_lines import Invocation, invocations

MONTHLY: Final = (100, 1_000, 10_000)
"""Numbers of images per month that the report prices."""


class Month(Struct, frozen=True, kw_only=True):
    """The price in dollars of a month with `images` images, idle costs included, without and with the free tier."""

    images: int
    dollars: float
    with_free_tier: float


class Cost(Struct, frozen=True, kw_only=True):
    """The cost of a deployment, as `lambdiff cost --json` prints it.

    Attributes:
        images, cold_starts: counted in the log.
        seconds_warm, seconds_cold: median billed seconds of an image with the model in memory, and of one that had to
            start an environment or load the model.
        dollars_per_image: the mean over all images, cold starts included; None if there were none.
        free_images: images a month that the free tier covers.
        idle: dollars a month when idle, by resource.
    """

    name: str
    prices_as_of: str
    memory_mb: int
    architecture: str
    images: int
    cold_starts: int
    seconds_warm: float | None
    seconds_cold: float | None
    dollars_per_image: float | None
    free_images: int | None
    idle: dict[str, float]
    months: list[Month]


def cost(target: SelectedDeployment, since: float) -> Cost:
    """Calculate the cost of a deployment.

    Args:
        target: the deployment.
        since: seconds since 1970; older requests are not counted.

    Raises:
        CredentialsError, ConfigurationError, DeployError: the function or its log cannot be read.
    """
    function = target.read_function()
    lines = logs.read(target.account, function.log_group, since=since)
    measured = invocations(line.text for line in lines)
    return summarize(target.deployment.value.name, measured, function, _idle(target, function))


def summarize(name: str, measured: list[Invocation], function: Function, idle: dict[str, float]) -> Cost:
    """Calculate the cost of a deployment from measured invocations.

    Args:
        name: the deployment's name.
        measured: all invocations, including those without an image.
        function: the current function.
        idle: dollars a month when idle, by resource.
    """
    generations = [each for each in measured if each.generated]
    per_image = free = None
    if generations:
        per_image = statistics.fmean(function.price(each.billed, each.memory_mb) for each in generations)
        free = pricing.free_images(function.memory_mb, statistics.fmean(each.billed for each in generations))
    return Cost(
        name=name,
        prices_as_of=f"{pricing.DATE}, us-east-1, before tax",
        memory_mb=function.memory_mb,
        architecture=function.architecture,
        images=len(generations),
        cold_starts=sum(each.cold_start > 0 for each in measured),
        seconds_warm=_median(each.billed for each in generations if not _is_cold(each)),
        seconds_cold=_median(each.billed for each in generations if _is_cold(each)),
        dollars_per_image=per_image,
        free_images=free,
        idle=idle,
        months=[] if per_image is None or free is None else _months(per_image, free, sum(idle.values())),
    )


def _months(per_image: float, free: int, idle: float) -> list[Month]:
    return [
        Month(images=images, dollars=idle + images * per_image, with_free_tier=idle + max(0, images - free) * per_image)
        for images in MONTHLY
    ]


def _idle(target: SelectedDeployment, function: Function) -> dict[str, float]:
    deployment = target.deployment.value
    idle = {}
    if deployment.secret_arn:
        idle["secret"] = pricing.SECRET_MONTH
    if deployment.stack and stacks.read(target.account, deployment.stack):
        idle["three alarms"] = 3 * pricing.ALARM_MONTH
    if size := images.size(target.account, function.image_uri):
        idle["image in ECR"] = size / 1e9 * pricing.ECR_GB_MONTH
    if function.snapstart:
        idle["SnapStart snapshot"] = pricing.snapstart_month(function.memory_mb)
    return idle


def _is_cold(invocation: Invocation) -> bool:
    return invocation.loaded or invocation.cold_start > 0


def _median(values: Iterable[float]) -> float | None:
    measured = list(values)
    return round(statistics.median(measured), 3) if measured else None
