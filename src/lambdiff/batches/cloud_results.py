"""What became of each row of a run in AWS, with links to the images on request. Works from any machine."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from lambdiff.aws import buckets
from lambdiff.aws.error_mapping import NotFound
from lambdiff.batches.cloud_progress import StoredRecord, describe, read_records
from lambdiff.batches.cloud_run import CloudTarget, stored_name
from lambdiff.errors import InvalidRequest
from lambdiff.protocol.batch_layout import IMAGES, BatchItem, BatchRecord, Outcome, items_name, present_name

WITH_IMAGE: Final = ("generated", "present")
MAX_LINK_S: Final = 7 * 86_400
"""A signature of S3 is valid for a week at most."""


class CloudResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one row.

    Attributes:
        number: the row, as the run's caller counted.
        key: names the image.
        status: `ok`, `missing` if there is no image and no report yet, or why there is none.
        seconds: how long the function was busy; None without a report.
        problem, fields: why a request was refused or failed, and the names of its bad fields.
        object: the name of the image in the bucket; empty without one.
        record: the name of the function's report; empty without one.
        link: with which anybody can read it, until `expires` (ISO 8601).
        request: the complete request.
    """

    number: int
    key: str
    status: Literal["ok", "missing"] | Outcome
    seconds: float | None = None
    problem: str = ""
    fields: list[str] = []
    object: str = ""
    record: str = ""
    link: str = ""
    expires: str = ""
    request: dict[str, Any] = {}


def read_items(target: CloudTarget, run: str) -> Iterator[BatchItem]:
    """Yield the items of a run: those whose images were there when it began, then the others, each in order."""
    names = [present_name(run)] + [items_name(run, number) for number in range(1, describe(target, run).files + 1)]
    for name in names:
        content = buckets.get(target.account, target.bucket, name)
        for line in content.splitlines():
            yield msgspec.json.decode(line, type=BatchItem)


def read_results(target: CloudTarget, run: str) -> Iterator[CloudResult]:
    """Yield what became of each row of a run so far, in the order of `read_items`.

    Raises:
        InvalidRequest: there is no such run.
        CredentialsError, DeployError: it cannot be read.
    """
    images = {each.name for each in buckets.list_objects(target.account, target.bucket, IMAGES)}
    records: dict[str, StoredRecord] = {}
    for record in sorted(read_records(target, run), key=lambda each: each.written):
        records[record.key] = record
    for item in read_items(target, run):
        yield _result(target, item, images, records.get(item.key))


def with_links(
    target: CloudTarget, results: Iterator[CloudResult], seconds: int, *, now: datetime.datetime | None = None
) -> Iterator[CloudResult]:
    """Yield results with a link to each image, which expires after some seconds.

    Raises:
        InvalidRequest: `seconds` is more than S3 allows.
    """
    if not 0 < seconds <= MAX_LINK_S:
        raise InvalidRequest(
            f"A link can be valid for at most {MAX_LINK_S // 86_400} days.",
            problems=[("links", f"must be in 1..{MAX_LINK_S} seconds")],
        )
    end = (now or datetime.datetime.now(datetime.UTC)) + datetime.timedelta(seconds=seconds)
    for result in results:
        if result.status != "ok":
            yield result
            continue
        link = buckets.presigned(target.account, target.bucket, result.object, seconds)
        yield msgspec.structs.replace(result, link=link, expires=end.isoformat(timespec="seconds"))


def of_image(item: BatchItem, record: StoredRecord | None) -> CloudResult:
    """Return the result of a row whose image is in the bucket."""
    return CloudResult(
        number=item.number,
        key=item.key,
        status="ok",
        seconds=record.seconds if record else None,
        object=stored_name(item),
        record=record.name if record else "",
        request=item.request,
    )


def read_report(target: CloudTarget, record: str) -> BatchRecord | None:
    """Return what the function reported about an item; None if the report is gone."""
    try:
        return msgspec.json.decode(buckets.get(target.account, target.bucket, record), type=BatchRecord)
    except (NotFound, msgspec.DecodeError):
        return None


def _result(target: CloudTarget, item: BatchItem, images: set[str], record: StoredRecord | None) -> CloudResult:
    stored = stored_name(item)
    seconds = record.seconds if record else None
    if stored in images:
        return of_image(item, record)
    status = record.outcome if record else "missing"
    if record is None or status in WITH_IMAGE:  # without a record, or the image was deleted since
        return CloudResult(number=item.number, key=item.key, status="missing", seconds=seconds, request=item.request)
    told = read_report(target, record.name) or BatchRecord(key=item.key, outcome=record.outcome, seconds=record.seconds)
    return CloudResult(
        number=item.number,
        key=item.key,
        status=status,
        seconds=seconds,
        record=record.name,
        problem=told.problem,
        fields=told.fields,
        request=item.request,
    )
