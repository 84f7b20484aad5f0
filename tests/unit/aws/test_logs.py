"""Reading, following and deleting log groups, with moto in place of AWS (aws/logs.py)."""

from __future__ import annotations

import json
import time

import boto3
import pytest

from lambdiff.aws import logs
from lambdiff.aws.account import Account
from lambdiff.errors import ConfigurationError, CredentialsError, InvalidRequest
from support.aws_resources import OUTPUTS, REGION, make_logs, refusing

GROUP = OUTPUTS["LogGroup"]
INFO = json.dumps({"level": "INFO", "request_id": "r-1", "status": 200})
ERROR = json.dumps({"level": "ERROR", "request_id": "r-2", "status": 500})


@pytest.fixture
def logged(account: Account) -> Account:
    """An account with three log lines."""
    make_logs(INFO, ERROR, "REPORT RequestId: r-2\tDuration: 1 ms")
    return account


def test_lines_are_read_in_order(logged: Account) -> None:
    """Lines are read in order: all since a given time, those of one request, or the first few."""
    lines = list(logs.read(logged, GROUP, since=time.time() - 60))
    assert [line.text for line in lines][:2] == [INFO, ERROR]
    assert lines[0].time.endswith("+00:00")
    assert lines == sorted(lines, key=lambda line: line.time)
    assert [line.text for line in logs.read(logged, GROUP, since=0, request_id="r-1")] == [INFO]
    assert [line.text for line in logs.read(logged, GROUP, since=0, limit=1)] == [INFO]
    assert not list(logs.read(logged, GROUP, since=time.time() + 60))


def test_following_yields_each_line_once(logged: Account) -> None:
    """`follow` yields old lines first, then new ones, and none twice."""
    client = boto3.client("logs", REGION)

    def write(_: float) -> None:
        event = {"timestamp": int(time.time() * 1000), "message": "news"}
        client.put_log_events(logGroupName=GROUP, logStreamName="one", logEvents=[event])

    lines = logs.follow(logged, GROUP, since=0, sleep=write)
    assert [next(lines).text for _ in range(5)][3:] == ["news", "news"]


def test_a_missing_log_group_is_explained(logged: Account) -> None:
    """If the log group does not exist yet, the error says that the first request creates it."""
    with pytest.raises(ConfigurationError, match="The first request creates it"):
        list(logs.read(logged, "none", since=0))


def test_a_log_group_can_be_deleted(logged: Account) -> None:
    """Deleting a missing log group is not an error, but a missing permission is."""
    assert logs.exists(logged, GROUP)
    with pytest.raises(CredentialsError, match=r"could not be deleted.*AWS's reason"):
        logs.delete(refusing(logged, "DeleteLogGroup"), GROUP)
    logs.delete(logged, GROUP)
    assert not logs.exists(logged, GROUP)
    logs.delete(logged, GROUP)
    assert not logs.exists(logged, "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 400.0), ("2 h", -6200.0), ("1d", -85_400.0), ("1970-01-01T00:10", 600.0), ("1970-01-01T01:00+01:00", 0.0)],
)
def test_times_are_ages_or_dates(text: str, seconds: float) -> None:
    """`parse_time` accepts ages, which count back from now, and dates, which are in UTC unless they have an offset."""
    assert logs.parse_time(text, now=1000.0) == seconds


@pytest.mark.parametrize("text", ["yesterday", "9" * 5000 + "s"], ids=["word", "long"])
def test_invalid_times_are_refused(text: str) -> None:
    """Text that is neither an age nor a date is refused, and the fix has examples."""
    with pytest.raises(InvalidRequest, match="10m"):
        logs.parse_time(text)
