"""Bring the images of a run in AWS into a results folder: the same folder that a run on this machine fills."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from lambdiff.aws import buckets
from lambdiff.batches import cloud_progress, cloud_results
from lambdiff.batches.cloud_progress import RunStatus
from lambdiff.batches.cloud_results import CloudResult
from lambdiff.batches.cloud_run import CloudTarget, RunDescription
from lambdiff.batches.items import Item
from lambdiff.batches.results_folder import ResultLine, ResultsFolder, RowError
from lambdiff.protocol.batch_layout import BatchItem
from lambdiff.protocol.contract import Defaults, GenerateRequest

THREADS: Final = 16
_UNUSED: Final = Defaults(num_inference_steps=1, guidance_scale=1.0, width=64, height=64, scheduler="euler")
"""A complete request leaves nothing to defaults."""
_REASONS: Final = {
    "refused": (
        "The function has refused the request",
        "Check the row; after a change of the model, start another run.",
    ),
    "failed": ("The function could not generate the image", "Run the batch again; `lambdiff logs` may have more."),
    "claimed": ("Another run was generating the image", "Run the batch again."),
    "missing": ("There is no image: its call was stopped, or has not been made", "Run the batch again."),
}


def to_stored(item: Item) -> BatchItem:
    """Return an item as the bucket keeps it."""
    return BatchItem(
        key=item.key,
        request=msgspec.json.decode(item.request.to_json()),
        number=item.number,
        line=item.line,
        extra=dict(item.extra),
    )


def from_stored(stored: BatchItem) -> Item:
    """Return an item from what the bucket keeps, which another machine may have written.

    Raises:
        InvalidRequest: its request is not valid.
    """
    request = GenerateRequest.from_fields(stored.request)
    return Item(stored.number, stored.line, request, request.resolve(_UNUSED), stored.key, stored.extra)


def collect(
    target: CloudTarget,
    run: str,
    folder: ResultsFolder,
    *,
    wait: bool = False,
    tell: Callable[[RunStatus], object] = lambda _: None,
    interval_s: float = 5.0,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[RunStatus, list[ResultLine]]:
    """Download the images of a run that the folder does not have.

    When the run has ended, rows without an image get a line that says why.

    Args:
        target: the deployment.
        run: the name of the run.
        folder: where the images and `results.jsonl` are.
        wait: go on until the run has ended, downloading images as they come.
        tell: receives the status whenever the counts have changed.
        interval_s: seconds between two looks.
        sleep: waits.

    Returns:
        The status of the run, and a line for each of its rows that has an image or a reason why not.

    Raises:
        InvalidRequest: there is no such run.
        OutputError: a file cannot be written.
        CredentialsError, DeployError: AWS cannot be asked.
    """
    described = cloud_progress.describe(target, run)
    waiting = {each.number: each for each in cloud_results.read_items(target, run)}
    lines: list[ResultLine] = []

    def fetch(status: RunStatus) -> None:
        tell(status)
        if status.running:
            records = {each.key: each for each in cloud_progress.read_records(target, run)}
            reported = {key: each for key, each in records.items() if each.outcome in cloud_results.WITH_IMAGE}
            items = [each for each in waiting.values() if each.key in reported]
            ready = [cloud_results.of_image(each, reported[each.key]) for each in items]
        else:
            ready = [each for each in cloud_results.read_results(target, run) if each.number in waiting]
        for line in _save(target, folder, waiting, ready, described, ended=not status.running):
            lines.append(line)
            del waiting[line.number]

    if wait:
        status = cloud_progress.follow(target, run, fetch, interval_s=interval_s, sleep=sleep)
    else:
        status = cloud_progress.read_status(target, run)
        fetch(status)
    if waiting and not status.running:
        fetch(status)  # what came between the last look and the end
    return status, sorted(lines, key=lambda line: line.number)


def _save(
    target: CloudTarget,
    folder: ResultsFolder,
    stored: dict[int, BatchItem],
    results: list[CloudResult],
    described: RunDescription,
    *,
    ended: bool,
) -> Iterator[ResultLine]:
    items = {each.number: from_stored(stored[each.number]) for each in results}
    files = {number: folder.find(item) for number, item in items.items()}

    def fetch(result: CloudResult) -> tuple[CloudResult, bytes, list[str]]:
        content = b"" if files[result.number] else buckets.get(target.account, target.bucket, result.object)
        report = cloud_results.read_report(target, result.record) if result.record else None
        return result, content, report.warnings if report else []

    with ThreadPoolExecutor(THREADS) as pool:
        for result, content, warnings in pool.map(fetch, [each for each in results if each.status == "ok"]):
            item = items[result.number]
            name = files[result.number] or folder.write_image(item, content)
            cost = None if result.seconds is None else described.price(result.seconds)
            line = ResultLine.of(item, file=name, seconds=result.seconds, cost=cost, warnings=warnings)
            if not folder.is_listed(item):
                folder.append(line)
            yield line
    if not ended:
        return
    for result in results:
        if result.status != "ok":
            reason, fix = _REASONS[result.status]
            detail = ": ".join(filter(None, (reason, " ".join(filter(None, (result.problem, *result.fields))))))
            error = RowError(type="CloudFailure", message=f"{detail}.", fix=fix, exit_code=5)
            line = ResultLine.of(items[result.number], file=None, seconds=result.seconds, error=error)
            folder.append(line)
            yield line
