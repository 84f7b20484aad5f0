"""CloudWatch log groups: reading, following and deleting a function's log."""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, translated
from lambdiff.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from types_boto3_logs.type_defs import FilteredLogEventTypeDef

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_OVERLAP = 10.0
"""Seconds that `follow` reads again each time, because events do not always arrive in order."""


class Line(Struct, frozen=True, kw_only=True):
    """A log line.

    Attributes:
        time: ISO 8601, UTC.
        stream: the log stream; each execution environment has its own.
        text: the text without the final line break.
    """

    time: str
    stream: str
    text: str


def read(
    account: Account, group: str, *, since: float, request_id: str | None = None, limit: int | None = None
) -> Iterator[Line]:
    """Read a log group, oldest line first.

    Args:
        account: the account.
        group: the name of the log group.
        since: seconds since 1970; older lines are left out.
        request_id: only lines that contain this request id.
        limit: the maximum number of lines.

    Raises:
        InvalidRequest: `request_id` is not a request id.
        ConfigurationError: there is no such log group.
        CredentialsError, DeployError: it cannot be read.
    """
    for event in _events(account, group, since, request_id, limit):
        yield _line(event)


def follow(
    account: Account,
    group: str,
    *,
    since: float,
    request_id: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """Read a log group as `read` does, then wait for new lines; never ends."""
    seen: set[str] = set()
    while True:
        for event in _events(account, group, since, request_id, None):
            if event["eventId"] not in seen:
                seen.add(event["eventId"])
                since = max(since, event["timestamp"] / 1000 - _OVERLAP)
                yield _line(event)
        sleep(2)


def tail(account: Account, group: str, stream: str, token: str | None = None) -> tuple[list[str], str | None]:
    """Read the lines of one log stream that are new since the last call.

    Args:
        account: the account.
        group: the name of the log group.
        stream: the name of the stream.
        token: the second part of the last result; None reads from the beginning.

    Returns:
        The lines, and the token for the next call. There are none while the stream does not exist.
    """
    options: dict[str, Any] = {"nextToken": token} if token else {}
    try:
        with translated(f"The log group {group}"):
            reply = account.client("logs").get_log_events(
                logGroupName=group, logStreamName=stream, startFromHead=True, **options
            )
    except NotFound:
        return [], token
    return [event["message"].rstrip("\n") for event in reply["events"]], reply["nextForwardToken"]


def exists(account: Account, group: str) -> bool:
    """Return whether a log group exists."""
    if not group:
        return False
    with translated(f"The log group {group}"):
        found = account.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    return any(each["logGroupName"] == group for each in found)


def delete(account: Account, group: str) -> None:
    """Delete a log group; do nothing if it does not exist."""
    with contextlib.suppress(NotFound), translated(f"The log group {group}", "deleted"):
        account.client("logs").delete_log_group(logGroupName=group)


def check_request_id(text: str | None) -> None:
    """Check that a text can be a request id; None is no request id and valid.

    Raises:
        InvalidRequest: it cannot.
    """
    if text is not None and not re.fullmatch(r"[\w.:=-]{1,200}", text, re.ASCII):
        raise InvalidRequest(
            f"{text[:100]!r} is not a request id.", fix="Copy it from an error message or from the log."
        )


def parse_time(text: str, now: float | None = None) -> float:
    """Convert an age (`10m`, `2h`, `3d`) or an ISO 8601 time (UTC by default) to seconds since 1970.

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
        raise InvalidRequest(
            f"`since=` must be an age such as 10m, 2h or 3d, or a time such as 2026-09-01T12:00, not {text[:40]!r}."
        ) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()


def _events(
    account: Account, group: str, since: float, request_id: str | None, limit: int | None
) -> Iterator[FilteredLogEventTypeDef]:
    check_request_id(request_id)
    options: dict[str, Any] = {"logGroupName": group, "startTime": max(0, int(since * 1000))}
    if limit is not None:
        options["PaginationConfig"] = {"MaxItems": limit}
    if request_id:
        options["filterPattern"] = f'"{request_id}"'
    pages = account.client("logs").get_paginator("filter_log_events")
    try:
        with translated(f"The log group {group}"):
            for page in pages.paginate(**options):
                yield from page["events"]
    except NotFound:
        raise ConfigurationError(
            f"There is no log group {group} yet.",
            fix="The first request creates it: run `lambdiff warm`, or generate an image.",
        ) from None


def _line(event: FilteredLogEventTypeDef) -> Line:
    when = datetime.datetime.fromtimestamp(event["timestamp"] / 1000, datetime.UTC)
    return Line(
        time=when.isoformat(timespec="milliseconds"),
        stream=event["logStreamName"],
        text=event["message"].rstrip("\n"),
    )
