"""`lambdiff cost`: what a picture and a month cost, from measured durations and the dated prices of `prices.py`.

Durations are Lambda's own: the REPORT line that it writes after each request, with the billed time, the cold start's
part of it and the memory. Which of them were pictures, the handler's line with the same request id says.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from lambdiff.infra import logs, prices, stackstate
from lambdiff.infra.target import Target

MONTHLY: Final = (100, 1_000, 10_000)


@dataclass(frozen=True)
class Invocation:
    """One REPORT line.

    Attributes:
        billed: seconds, the cold start's included.
        cold: seconds of a new environment's start.
        picture: whether it drew one.
        loaded: whether it read the model's weights first.
    """

    request_id: str
    billed: float
    cold: float
    memory_mb: int
    picture: bool = False
    loaded: bool = False


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


def cost(target: Target, since: float) -> Cost:
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


def invocations(lines: Iterable[str]) -> list[Invocation]:
    """Every REPORT among a log's lines, in Lambda's text and JSON forms; those of pictures are marked.

    Example:
        >>> invocations(["REPORT RequestId: a-1\\tDuration: 900.0 ms\\tBilled Duration: 1000 ms\\tMemory Size: 512 MB"])
        [Invocation(request_id='a-1', billed=1.0, cold=0.0, memory_mb=512, picture=False, loaded=False)]
    """
    reports: dict[str, Invocation] = {}
    drawn: dict[str, bool] = {}
    for line in lines:
        entry = _json(line)
        if entry is not None and entry.get("type") == "platform.report":
            record = entry["record"]
            metrics = record["metrics"]
            reports[record["requestId"]] = Invocation(
                request_id=record["requestId"],
                billed=metrics["billedDurationMs"] / 1000,
                cold=metrics.get("initDurationMs", metrics.get("restoreDurationMs", 0)) / 1000,
                memory_mb=metrics["memorySizeMB"],
            )
        elif entry is not None:
            if entry.get("status") == 200 and "timings" in entry:
                drawn[entry.get("request_id", "")] = "load" in entry["timings"]
        elif line.startswith("REPORT RequestId: "):
            report = _report(line)
            reports[report.request_id] = report
    return [
        dataclasses.replace(each, picture=key in drawn, loaded=drawn.get(key, False)) for key, each in reports.items()
    ]


def summarise(name: str, found: list[Invocation], settings: dict[str, Any], idle: dict[str, float]) -> Cost:
    """The report for measured invocations."""
    architecture = settings["architecture"]
    pictures = [each for each in found if each.picture]
    per_image = free = None
    if pictures:
        each_costs = [
            prices.invocation(each.memory_mb, each.billed, architecture=architecture, tmp_mb=settings["tmp_mb"])
            for each in pictures
        ]
        per_image = statistics.fmean(each_costs)
        free = prices.free_images(settings["memory_mb"], statistics.fmean(each.billed for each in pictures))
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
        prices_of=f"{prices.DATE}, us-east-1, before tax",
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


def _settings(target: Target) -> dict[str, Any]:
    found = target.account.client("lambda").get_function_configuration(FunctionName=target.function)
    return {
        "memory_mb": found["MemorySize"],
        "architecture": found.get("Architectures", ["x86_64"])[0],
        "tmp_mb": found.get("EphemeralStorage", {}).get("Size", 512),
        "snapstart": found.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions",
    }


def _idle(target: Target, settings: dict[str, Any]) -> dict[str, float]:
    deployment = target.deployment.value
    idle = {}
    if deployment.secret_arn:
        idle["secret"] = prices.SECRET_MONTH
    if deployment.stack and stackstate.read(target.account, deployment.stack):
        idle["three alarms"] = 3 * prices.ALARM_MONTH
    if size := _image_bytes(target):
        idle["image in ECR"] = size / 1e9 * prices.ECR_GB_MONTH
    if settings["snapstart"]:
        idle["SnapStart's snapshot"] = prices.snapstart_month(settings["memory_mb"])
    return idle


def _image_bytes(target: Target) -> int | None:
    from botocore.exceptions import ClientError

    try:
        uri = target.account.client("lambda").get_function(FunctionName=target.function)["Code"]["ImageUri"]
        repository, _, tag = uri.partition("/")[2].partition(":")
        found = target.account.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
        return int(found["imageDetails"][0]["imageSizeInBytes"])
    except (ClientError, KeyError, IndexError):
        return None


def _report(line: str) -> Invocation:
    def number(name: str) -> float:
        match = re.search(rf"(?:^|\t){name}: ([\d.]+) (?:ms|MB)", line)
        return float(match[1]) if match else 0.0

    return Invocation(
        request_id=line.split()[2],
        billed=number("Billed Duration") / 1000,
        cold=(number("Init Duration") or number("Restore Duration")) / 1000,
        memory_mb=int(number("Memory Size")),
    )


def _json(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(statistics.median(listed), 3) if listed else None
