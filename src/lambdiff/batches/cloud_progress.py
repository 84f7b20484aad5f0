"""How far a run in AWS is: items by state, rate, time left, and what was spent. Works from any machine."""

from __future__ import annotations

import datetime
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from lambdiff import pricing
from lambdiff.aws import buckets, map_runs
from lambdiff.aws.error_mapping import NotFound
from lambdiff.aws.map_runs import ItemCounts
from lambdiff.batches import throughput
from lambdiff.batches.cloud_run import CloudTarget, RunDescription
from lambdiff.errors import InvalidRequest
from lambdiff.protocol.batch_layout import Outcome, description_name, parse_record_name, records_prefix

WINDOW_S: Final = 120.0
"""The rate is that of the last two minutes."""

Clock = Callable[[], datetime.datetime]


class RunStatus(Struct, frozen=True, kw_only=True):
    """The progress of a run, as `lambdiff batch status --json` prints it.

    Attributes:
        state: `running`, `succeeded`, `failed`, `aborted` or `timed_out`; `not_started` if its upload was interrupted.
        reason: why it failed.
        images: how many it was to generate.
        items: how many items Step Functions counts by state; items whose Map Run has not begun are pending.
        outcomes: what the function reports about items: generated, present, claimed, refused or failed.
        per_minute: images generated a minute, in the last two minutes.
        seconds_left: until all are done at this rate; None if nothing can be said.
        spent: dollars by the function's reports, and in `most` what the run can cost at most.
        unreported: failed calls without a report, which were killed; each may have cost as much as the timeout allows,
            which `spent` includes.
    """

    run: str
    state: str
    reason: str
    started: str
    stopped: str | None
    images: int
    items: dict[str, int]
    outcomes: dict[str, int]
    per_minute: float
    seconds_left: float | None
    spent: float
    most: float
    unreported: int

    @property
    def running(self) -> bool:
        """Whether the run goes on."""
        return self.state == "running"


@dataclass(frozen=True)
class StoredRecord:
    """What the name of a record says, and when it was written."""

    key: str
    outcome: Outcome
    seconds: float
    written: datetime.datetime
    name: str


def describe(target: CloudTarget, run: str) -> RunDescription:
    """Read the description of a run.

    Raises:
        InvalidRequest: there is no such run, or it is older than the bucket keeps runs.
        CredentialsError, DeployError: it cannot be read.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", run, re.ASCII):
        try:
            content = buckets.get(target.account, target.bucket, description_name(run))
            return msgspec.json.decode(content, type=RunDescription)
        except (NotFound, msgspec.DecodeError):
            pass
    raise InvalidRequest(
        f"There is no run {run[:80]!r} in the bucket {target.bucket}.",
        fix="Runs are forgotten after 30 days; images are kept.",
    )


def read_records(target: CloudTarget, run: str) -> list[StoredRecord]:
    """Return the records of a run, with one call for 1,000 of them."""
    records = []
    for each in buckets.list_objects(target.account, target.bucket, records_prefix(run)):
        if parsed := parse_record_name(each.name):
            records.append(StoredRecord(*parsed, each.modified, each.name))
    return records


def read_status(
    target: CloudTarget, run: str, *, clock: Clock = lambda: datetime.datetime.now(datetime.UTC)
) -> RunStatus:
    """Return the progress of a run.

    Raises:
        InvalidRequest: there is no such run.
        CredentialsError, DeployError: it cannot be read.
    """
    described = describe(target, run)
    execution = map_runs.read(target.account, target.machine, run)
    records = read_records(target, run)
    outcomes = Counter(each.outcome for each in records)
    counts = map_runs.count_items(target.account, execution) if execution else ItemCounts()
    images = described.plan.images
    counted = counts.pending + counts.running + counts.succeeded + counts.failed + counts.timed_out + counts.aborted
    running = execution is not None and execution.running
    items = {
        "pending": counts.pending + max(0, images - counted if running else 0),
        "running": counts.running,
        "succeeded": counts.succeeded,
        "failed": counts.failed + counts.timed_out,
        "aborted": counts.aborted,
    }
    unreported = max(0, items["failed"] - outcomes["refused"] - outcomes["failed"] - outcomes["claimed"])
    state = execution.status.lower() if execution else "not_started" if described.files else "succeeded"
    per_minute = _rate(records, execution.started, clock()) if execution and running else 0.0
    left = items["pending"] + items["running"]
    return RunStatus(
        run=run,
        state=state,
        reason=execution.reason if execution else "",
        started=described.started,
        stopped=execution.stopped.isoformat(timespec="seconds") if execution and execution.stopped else None,
        images=images,
        items=items,
        outcomes={str(outcome): count for outcome, count in outcomes.items()},
        per_minute=round(per_minute, 2),
        seconds_left=round(60 * left / per_minute) if running and per_minute else None,
        spent=_spent(described, records, unreported),
        most=described.plan.most,
        unreported=unreported,
    )


def follow(
    target: CloudTarget,
    run: str,
    tell: Callable[[RunStatus], object],
    *,
    interval_s: float = 5.0,
    sleep: Callable[[float], object] = time.sleep,
) -> RunStatus:
    """Wait until a run has ended, and return its status.

    Args:
        target: the deployment.
        run: the name of the run.
        tell: receives the status whenever the counts have changed.
        interval_s: seconds between two looks.
        sleep: waits.

    Raises:
        InvalidRequest: there is no such run.
        CredentialsError, DeployError: it cannot be read.
    """
    told: dict[str, int] | None = None
    while True:
        status = read_status(target, run)
        if status.items != told:
            told = status.items
            tell(status)
        if not status.running:
            return status
        sleep(interval_s)


def cancel(target: CloudTarget, run: str) -> RunStatus:
    """Stop a run, and return its status. Calls that have begun end by themselves; their images are kept.

    Raises:
        InvalidRequest: there is no such run.
        CredentialsError, DeployError: it cannot be stopped.
    """
    describe(target, run)
    execution = map_runs.read(target.account, target.machine, run)
    if execution is not None and execution.running:
        map_runs.stop(target.account, execution)
    return read_status(target, run)


def _rate(records: list[StoredRecord], started: datetime.datetime, now: datetime.datetime) -> float:
    """Images generated in a minute, in the last `WINDOW_S` or since the start."""
    window = min(WINDOW_S, max(1.0, (now - started).total_seconds()))
    begin = now - datetime.timedelta(seconds=window)
    return 60 / window * sum(each.outcome == "generated" and each.written >= begin for each in records)


def _spent(described: RunDescription, records: list[StoredRecord], unreported: int) -> float:
    calls = len(records) + unreported
    seconds = sum(each.seconds for each in records) + unreported * described.timeout_s
    function = seconds * described.price_per_second + calls * described.price_per_call
    return function + calls * (throughput.TRANSITIONS_PER_ITEM * pricing.STATE_TRANSITION + 3 * pricing.S3_PUT)
