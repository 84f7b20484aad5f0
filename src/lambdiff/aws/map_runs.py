"""Batch runs in Step Functions: starting, following and stopping the execution of one.

An execution has the name of its run, so its ARN follows from that of the state machine, and AWS starts a run only once.
Its Distributed Map has a Map Run for each item file, which are worked off one after the other.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, translated
from lambdiff.printable import printable

MAX_CONCURRENCY: Final = 10_000
"""Child executions of a Map Run that may run at once."""
MAX_ITEM_BYTES: Final = 250_000
"""Of an item with the name of its run: the input of a state may have 256 KiB."""
RETRIES_AFTER_THROTTLING: Final = 60
"""How often the state machine repeats a call that Lambda has not started; with the delays between, half an hour."""
RETRIES_AFTER_ERRORS: Final = 1
"""How often it repeats a call after an error of Lambda's own, which may have been billed."""
STATES: Final = ("pending", "running", "succeeded", "failed", "timedOut", "aborted")


class RunInput(Struct, frozen=True, kw_only=True):
    """The input of an execution.

    Attributes:
        run: the name of the run.
        files: how many item files it has, numbered from 1.
        concurrency: how many items may be in progress at once.
        tolerated_percent: failed items of a file, in percent, above which the run ends.
        file: the first one to work off.
    """

    run: str
    files: int
    concurrency: int
    tolerated_percent: float
    file: int = 1


@dataclass(frozen=True)
class Execution:
    """An execution as Step Functions describes it.

    Attributes:
        status: `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
        reason: why it failed; empty otherwise.
        stopped: when it ended; None while it runs.
    """

    arn: str
    status: str
    started: datetime.datetime
    stopped: datetime.datetime | None = None
    reason: str = ""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status == "RUNNING"


@dataclass(frozen=True)
class ItemCounts:
    """How many items of a run are in which state; items of files that have not begun are not counted.

    Attributes:
        map_runs: how many Map Runs have begun.
    """

    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    aborted: int = 0
    map_runs: int = 0


@dataclass(frozen=True)
class FailedItem:
    """A child execution that failed.

    Attributes:
        key: the key of its image.
        error: the error's name, for example `ItemRefused` or `Sandbox.Timedout`.
        cause: the error's message.
    """

    key: str
    error: str
    cause: str = field(default="", repr=False)


def execution_arn(machine: str, run: str) -> str:
    """Return the ARN of a run's execution.

    Example:
        >>> execution_arn("arn:aws:states:us-east-1:123456789012:stateMachine:Batch", "cats-1")
        'arn:aws:states:us-east-1:123456789012:execution:Batch:cats-1'
    """
    return f"{machine.replace(':stateMachine:', ':execution:', 1)}:{run}"


def start(account: Account, machine: str, given: RunInput) -> str:
    """Start a run, and return the ARN of its execution.

    Raises:
        Conflict: a run of this name was started in the last 90 days.
        CredentialsError, DeployError: it cannot be started.
    """
    with translated(f"The run {given.run}", "started"):
        reply = account.client("stepfunctions").start_execution(
            stateMachineArn=machine, name=given.run, input=msgspec.json.encode(given).decode()
        )
    return reply["executionArn"]


def read(account: Account, machine: str, run: str) -> Execution | None:
    """Return the execution of a run, or None if there is none, as is the case 90 days after it has ended."""
    arn = execution_arn(machine, run)
    try:
        with translated(f"The run {run}"):
            found = account.client("stepfunctions").describe_execution(executionArn=arn, includedData="METADATA_ONLY")
    except NotFound:
        return None
    reason = ": ".join(filter(None, (found.get("error"), found.get("cause"))))
    return Execution(arn, found["status"], found["startDate"], found.get("stopDate"), printable(reason))


def count_items(account: Account, execution: Execution) -> ItemCounts:
    """Return how many items of a run are in which state; takes one call for each Map Run."""
    totals = dict.fromkeys(STATES, 0)
    map_runs = 0
    client = account.client("stepfunctions")
    with translated("The progress of the run"):
        for page in client.get_paginator("list_map_runs").paginate(executionArn=execution.arn):
            for each in page["mapRuns"]:
                map_runs += 1
                counts = client.describe_map_run(mapRunArn=each["mapRunArn"])["itemCounts"]
                for state in STATES:
                    totals[state] += counts[state]
    timed_out = totals.pop("timedOut")
    return ItemCounts(**totals, timed_out=timed_out, map_runs=map_runs)


def failed_items(account: Account, execution: Execution, limit: int) -> Iterator[FailedItem]:
    """Yield items whose child execution failed, at most `limit`; takes one call for each.

    The function writes records of what it refused and of what failed in it; this also has the calls that were killed.
    """
    client = account.client("stepfunctions")
    with translated("The failed items of the run"):
        for runs in client.get_paginator("list_map_runs").paginate(executionArn=execution.arn):
            for each in runs["mapRuns"]:
                pages = client.get_paginator("list_executions").paginate(
                    mapRunArn=each["mapRunArn"], statusFilter="FAILED"
                )
                arns = (child["executionArn"] for page in pages for child in page["executions"])
                for arn in islice(arns, limit):
                    limit -= 1
                    child = client.describe_execution(executionArn=arn)
                    item = msgspec.json.decode(child.get("input") or "{}").get("item", {})
                    yield FailedItem(item.get("key", ""), printable(child.get("error", "")), child.get("cause", ""))


def stop(account: Account, execution: Execution) -> None:
    """Stop a run. Calls that have begun end by themselves and are billed; their images are kept.

    Raises:
        CredentialsError, DeployError: it cannot be stopped.
    """
    with translated("The run", "stopped"):
        account.client("stepfunctions").stop_execution(executionArn=execution.arn, cause="Cancelled by its owner.")
