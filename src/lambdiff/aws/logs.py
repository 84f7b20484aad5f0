"""`lambdiff logs`: what the function wrote, and what Lambda says about each request."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from lambdiff.aws import account as accounts
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.errors import ConfigurationError, InvalidRequest

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Line(Struct, frozen=True, kw_only=True):
    """One line of the log.

    Attributes:
        time: ISO 8601, UTC.
        stream: the environment it came from.
        text: as it was written.
    """

    time: str
    stream: str
    text: str


def group_of(target: SelectedDeployment) -> str:
    """The log group of a deployment's function.

    Raises:
        CredentialsError, DeployError: Lambda does not say.
    """
    from botocore.exceptions import ClientError

    try:
        settings = target.account.client("lambda").get_function_configuration(FunctionName=target.function)
    except ClientError as error:
        raise accounts.refused(error, f"The function {target.function}") from None
    return str(settings.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{target.function}")


def read(
    account: Account, group: str, *, since: float, request_id: str | None = None, limit: int | None = None
) -> Iterator[Line]:
    """The lines of a log group since a moment.

    Args:
        group: the log group's name.
        since: seconds since 1970.
        request_id: only lines that name this request.
        limit: at most so many.

    Raises:
        CredentialsError, DeployError: the log cannot be read.
    """
    for event in _events(account, group, since, request_id, limit):
        yield _line(event)


def follow(account: Account, group: str, *, since: float, request_id: str | None = None) -> Iterator[Line]:
    """`read`, and then whatever comes, until interrupted."""
    seen: set[str] = set()
    while True:
        for event in _events(account, group, since, request_id, None):
            if event["eventId"] not in seen:
                seen.add(event["eventId"])
                # Lines of one moment may still be on their way, so the next look begins a little earlier.
                since = max(since, event["timestamp"] / 1000 - 10)
                yield _line(event)
        time.sleep(2)


def parse_time(text: str, now: float | None = None) -> float:
    """Seconds since 1970 of `10m`, `2h`, `3d` ago, or of an ISO 8601 time (UTC unless it says otherwise).

    Raises:
        InvalidRequest: it is neither.

    Example:
        >>> parse_time("10m", now=1000.0)
        400.0
    """
    now = time.time() if now is None else now
    if match := re.fullmatch(r"(\d{1,9})\s*([smhdw])", text):
        return now - int(match[1]) * _UNITS[match[2]]
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a time.", fix="Write it like 10m, 2h, 3d or 2026-09-01T12:00.") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()


def _events(
    account: Account, group: str, since: float, request_id: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import ClientError

    options: dict[str, Any] = {"logGroupName": group, "startTime": max(0, int(since * 1000))}
    if request_id:
        options["filterPattern"] = f'"{request_id}"'
    pages = account.client("logs").get_paginator("filter_log_events")
    try:
        yield from pages.paginate(**options, PaginationConfig={"MaxItems": limit}).search("events[]")
    except ClientError as error:
        if accounts.code(error) == "ResourceNotFoundException":
            raise ConfigurationError(
                f"There is no log group {group} yet.", fix="It begins with the first request: lambdiff warm"
            ) from None
        raise accounts.refused(error, f"The log group {group}") from None


def _line(event: dict[str, Any]) -> Line:
    when = datetime.datetime.fromtimestamp(event["timestamp"] / 1000, datetime.UTC)
    return Line(
        time=when.isoformat(timespec="milliseconds"),
        stream=event["logStreamName"],
        text=event["message"].rstrip("\n"),
    )
