"""Start a run in AWS: leave out what is there, price the rest, upload it, and start the state machine.

Starting again is how a run is resumed: another run with the same rows, in which all images that exist are left out.
"""

from __future__ import annotations

import datetime
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from lambdiff.aws import buckets, map_runs, outputs, stacks
from lambdiff.aws import function as functions
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.error_mapping import Conflict
from lambdiff.aws.function import Function
from lambdiff.aws.map_runs import RunInput
from lambdiff.batches.cloud_plan import BYTES_PER_FILE, ITEMS_PER_FILE, Plan, make_plan
from lambdiff.errors import ConfigurationError, InvalidRequest
from lambdiff.protocol.batch_layout import (
    IMAGES,
    RUNS,
    BatchItem,
    description_name,
    image_name,
    items_name,
    parse_record_name,
    present_name,
)

DEFAULT_CONCURRENCY: Final = 100
"""Where the account's limit may not be read: more would be throttled in accounts with a low limit."""
TOLERATED_PERCENT: Final = 10.0
ASSUMED_SECONDS: Final = 15.0
ASSUMED_BYTES: Final = 500_000
_SAMPLE: Final = 3_000
"""Records of earlier runs that the duration of an image is estimated from."""

Items = Callable[[], Iterable[BatchItem]]
"""The complete requests of a run, in the order of their rows. Called several times: they need not be in memory."""


class RunDescription(Struct, frozen=True, kw_only=True):
    """What is known about a run when it starts, as its bucket keeps it.

    Attributes:
        run: its name.
        started: ISO 8601.
        files: how many item files it has; without any, there was nothing to generate.
        plan: what was shown before it was started.
        price_per_second: of the function, in dollars; `price_per_call` is added for each call.
        timeout_s: of the function.
    """

    run: str
    started: str
    files: int
    plan: Plan
    price_per_second: float
    price_per_call: float
    timeout_s: int

    def price(self, seconds: float) -> float:
        """Return what a call of the function cost, in dollars."""
        return self.price_per_call + seconds * self.price_per_second


@dataclass(frozen=True)
class CloudTarget:
    """What a deployment has for batch runs.

    Attributes:
        bucket: the name of the bucket.
        machine: the ARN of the state machine.
        function: the batch function.
    """

    account: Account
    bucket: str
    machine: str
    function: Function


@dataclass(frozen=True)
class PreparedRun:
    """A run that has been planned and not started.

    Attributes:
        missing: the keys of the images that it generates.
        present: the keys of those that are in the bucket.
    """

    plan: Plan
    items: Items
    missing: frozenset[str]
    present: frozenset[str]


def open_target(selected: SelectedDeployment) -> CloudTarget:
    """Return what a deployment has for batch runs.

    Raises:
        ConfigurationError: it was deployed without `batch`.
        CredentialsError, DeployError: the stack or the function cannot be read.
    """
    deployment, account = selected.deployment.value, selected.account
    found = stacks.require_for(account, deployment).outputs
    if outputs.BATCH_STATE_MACHINE not in found:
        raise ConfigurationError(
            f"The deployment {deployment.name} has no state machine for batch runs.",
            fix="Add it with `lambdiff deploy --batch`, which costs nothing when idle.",
        )
    function = functions.read(account, found[outputs.BATCH_FUNCTION])
    return CloudTarget(account, found[outputs.BATCH_BUCKET], found[outputs.BATCH_STATE_MACHINE], function)


def prepare(
    target: CloudTarget,
    items: Items,
    *,
    max_cost: float | None = None,
    concurrency: int | None = None,
    seconds: float | None = None,
) -> PreparedRun:
    """Find out which images are missing, and what it takes to generate them. Changes nothing in AWS.

    Args:
        target: the deployment.
        items: the complete requests.
        max_cost: dollars that the run cannot exceed whatever happens; see `cloud_plan`.
        concurrency: images in progress at once; by default what the account has free.
        seconds: the expected duration of an image; by default that of earlier runs.

    Raises:
        InvalidRequest: an item is too large, or no image fits into `max_cost`.
        CredentialsError, DeployError: AWS cannot be asked.
    """
    sizes = {each.name: each.size for each in buckets.list_objects(target.account, target.bucket, IMAGES)}
    keys: dict[str, None] = {}
    present: set[str] = set()
    for item in items():
        if stored_name(item) in sizes:
            present.add(item.key)
        else:
            keys[item.key] = None
    if seconds is None:
        seconds, source = _seconds_of_earlier_runs(target)
    else:
        source = "given"
    plan = make_plan(
        len(keys) + len(present),
        len(present),
        target.function,
        concurrency=_concurrency(target.account, concurrency),
        seconds=seconds,
        source=source,
        bytes_per_image=sum(sizes.values()) / len(sizes) if sizes else ASSUMED_BYTES,
        region=target.account.region.value,
        max_cost=max_cost,
    )
    return PreparedRun(plan, items, frozenset(islice(keys, plan.images)), frozenset(present))


def new_run_id(now: datetime.datetime | None = None) -> str:
    """Return a name for a run that sorts by time.

    Example:
        >>> new_run_id(datetime.datetime(2026, 12, 1, 9, 30))[:15]
        '20261201-093000'
    """
    now = now or datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def start(
    target: CloudTarget,
    prepared: PreparedRun,
    run: str,
    *,
    tolerated_percent: float = TOLERATED_PERCENT,
    progress: Callable[[int], None] = lambda _: None,
) -> RunDescription:
    """Upload the items and start the run.

    Args:
        target: the deployment.
        prepared: the run.
        run: its name, lower-case letters, digits and hyphens.
        tolerated_percent: failed items of a file, in percent, above which the run ends.
        progress: receives the number of bytes that were sent since its last call, from any thread.

    Raises:
        InvalidRequest: there is a run of this name.
        CredentialsError, DeployError: it could not be started.
    """
    function = target.function
    with tempfile.TemporaryDirectory(prefix="lambdiff-batch-") as folder:
        files = list(_write_files(prepared, Path(folder)))
        per_call = function.price(0.0)
        described = RunDescription(
            run=run,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            files=len(files),
            plan=prepared.plan,
            price_per_second=function.price(1.0) - per_call,
            price_per_call=per_call,
            timeout_s=function.timeout_s,
        )
        try:
            content = msgspec.json.encode(described)
            buckets.put(target.account, target.bucket, description_name(run), content, replace=False)
        except Conflict:
            raise InvalidRequest(
                f"There is a run {run} already.", fix="Choose another name; images that exist are left out by any run."
            ) from None
        present = Path(folder) / "present.jsonl"
        with present.open("wb") as stream:
            stream.writelines(_of_present(prepared))
        buckets.upload(target.account, target.bucket, present_name(run), present, progress)
        for number, path in enumerate(files, 1):
            buckets.upload(target.account, target.bucket, items_name(run, number), path, progress)
    given = RunInput(
        run=run, files=len(files), concurrency=prepared.plan.concurrency, tolerated_percent=tolerated_percent
    )
    if files:
        map_runs.start(target.account, target.machine, given)
    return described


def _write_files(prepared: PreparedRun, folder: Path) -> Iterator[Path]:
    """Write the items that are missing, in files that Step Functions accepts, and yield their paths."""
    left = set(prepared.missing)
    file: IO[bytes] | None = None
    items = size = number = 0
    try:
        for item in prepared.items():
            if item.key not in left:
                continue
            left.remove(item.key)  # of rows with the same request, the first
            line = _encoded(item)
            if file is None or items == ITEMS_PER_FILE or size + len(line) > BYTES_PER_FILE:
                if file is not None:
                    file.close()
                number += 1
                items = size = 0
                path = folder / f"{number}.jsonl"
                file = path.open("wb")
                yield path
            file.write(line)
            items, size = items + 1, size + len(line)
    finally:
        if file is not None:
            file.close()


def _of_present(prepared: PreparedRun) -> Iterator[bytes]:
    """Yield the lines of rows that need no call: their image is there, or is that of an earlier row."""
    seen: set[str] = set()
    for item in prepared.items():
        if item.key in prepared.present or item.key in seen:
            yield msgspec.json.encode(item) + b"\n"
        elif item.key in prepared.missing:
            seen.add(item.key)


def _encoded(item: BatchItem) -> bytes:
    line = msgspec.json.encode(item)
    if len(line) > map_runs.MAX_ITEM_BYTES:
        raise InvalidRequest(
            f"The request of row {item.number} has {len(line):,} bytes; Step Functions takes "
            f"{map_runs.MAX_ITEM_BYTES:,} for an item.",
            fix="Use smaller start images, or generate rows with start images through the endpoint.",
        )
    return line + b"\n"


def stored_name(item: BatchItem) -> str:
    """Return the name of an item's image in the bucket."""
    return image_name(item.key, item.request.get("image_format", "png"))


def _concurrency(account: Account, wanted: int | None) -> int:
    free = account.free_concurrency()
    if free is None:
        free = DEFAULT_CONCURRENCY
    return min(free if wanted is None else wanted, map_runs.MAX_CONCURRENCY)


def _seconds_of_earlier_runs(target: CloudTarget) -> tuple[float, str]:
    names = (each.name for each in buckets.list_objects(target.account, target.bucket, RUNS))
    parsed = filter(None, (parse_record_name(name) for name in islice(names, _SAMPLE)))
    found = [seconds for _, outcome, seconds in parsed if outcome == "generated"]
    if not found:
        return ASSUMED_SECONDS, "assumed: there are no earlier runs"
    return sum(found) / len(found), f"mean of {len(found):,} images of earlier runs"
