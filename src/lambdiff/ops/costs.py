"""`lambdiff cost`: what a picture and a month cost, from measured durations and the dated prices of `prices.py`.

Durations are Lambda's own: the REPORT line that it writes after each request, with the billed time, the cold start's
part of it and the memory. Which of them were pictures, the handler's line with the same request id says.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from lambdiff import pricing
from lambdiff.aws import logs, stacks
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.report_lines import Invocation, invocations

MONTHLY: Final = (100, 1_000, 10_000)


class Month(Struct, frozen=True, kw_only=True):
    """Dollars for a month with so many pictures, what idles included, without and with the free tier."""

    images: int
    dollars: float
    with_free_tier: float


class Cost(Struct, frozen=True, kw_only=True):
    """The report; the form of `--json`.

    Attributes:
        images, cold_starts: counted in the log.
        seconds_warm, seconds_cold: median billed seconds of a picture with the model in memory, and of one for which
            the environment was started or the model was read.
        dollars_per_image: the mean over all pictures, cold starts included; None if there were none.
        max_memory_mb: the most that a request used.
        idle: dollars a month for what is there all the time, by part.
    """

    name: str
    prices_of: str
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
    """Work out what a deployment costs.

    Args:
        target: the deployment.
        since: seconds since 1970; older requests are not counted.

    Raises:
        CredentialsError, ConfigurationError, DeployError: function or log cannot be read.
    """
    lines = logs.read(target.account, logs.group_of(target), since=since)
    found = invocations(line.text for line in lines)
    settings = _settings(target)
    return summarise(target.deployment.value.name, found, settings, _idle(target, settings))


def summarise(name: str, found: list[Invocation], settings: dict[str, Any], idle: dict[str, float]) -> Cost:
    """The report for measured invocations."""
    architecture = settings["architecture"]
    pictures = [each for each in found if each.picture]
    per_image = free = None
    if pictures:
        each_costs = [
            pricing.invocation(each.memory_mb, each.billed, architecture=architecture, tmp_mb=settings["tmp_mb"])
            for each in pictures
        ]
        per_image = statistics.fmean(each_costs)
        free = pricing.free_images(settings["memory_mb"], statistics.fmean(each.billed for each in pictures))
    fixed = sum(idle.values())
    months = [
        Month(
            images=images,
            dollars=fixed + images * per_image,
            with_free_tier=fixed + max(0, images - free) * per_image,
        )
        for images in MONTHLY
        if per_image is not None and free is not None
    ]
    return Cost(
        name=name,
        prices_of=f"{pricing.DATE}, us-east-1, before tax",
        memory_mb=settings["memory_mb"],
        architecture=architecture,
        images=len(pictures),
        cold_starts=sum(each.cold > 0 for each in found),
        seconds_warm=_median(each.billed for each in pictures if not (each.cold or each.loaded)),
        seconds_cold=_median(each.billed for each in pictures if each.cold or each.loaded),
        dollars_per_image=per_image,
        free_images=free,
        idle=idle,
        months=months,
    )


def _settings(target: SelectedDeployment) -> dict[str, Any]:
    found = target.account.client("lambda").get_function_configuration(FunctionName=target.function)
    return {
        "memory_mb": found["MemorySize"],
        "architecture": found.get("Architectures", ["x86_64"])[0],
        "tmp_mb": found.get("EphemeralStorage", {}).get("Size", 512),
        "snapstart": found.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions",
    }


def _idle(target: SelectedDeployment, settings: dict[str, Any]) -> dict[str, float]:
    deployment = target.deployment.value
    idle = {}
    if deployment.secret_arn:
        idle["secret"] = pricing.SECRET_MONTH
    if deployment.stack and stacks.read(target.account, deployment.stack):
        idle["three alarms"] = 3 * pricing.ALARM_MONTH
    if size := _image_bytes(target):
        idle["image in ECR"] = size / 1e9 * pricing.ECR_GB_MONTH
    if settings["snapstart"]:
        idle["SnapStart's snapshot"] = pricing.snapstart_month(settings["memory_mb"])
    return idle


def _image_bytes(target: SelectedDeployment) -> int | None:
    from botocore.exceptions import ClientError

    try:
        uri = target.account.client("lambda").get_function(FunctionName=target.function)["Code"]["ImageUri"]
        repository, _, tag = uri.partition("/")[2].partition(":")
        found = target.account.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
        return int(found["imageDetails"][0]["imageSizeInBytes"])
    except (ClientError, KeyError, IndexError):
        return None


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(statistics.median(listed), 3) if listed else None
