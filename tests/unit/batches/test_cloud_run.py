"""Runs in AWS from start to results (batches/cloud_run.py, cloud_progress.py, cloud_results.py).

The buckets are moto's; `support/map_cloud.py` calls the function's real worker with a stub engine.
"""

from __future__ import annotations

import contextlib
import datetime
import urllib.parse
from pathlib import Path

import boto3
import msgspec
import pytest

from lambdiff.aws.deployment import select
from lambdiff.aws.map_runs import failed_items, read
from lambdiff.batches import cloud_folder, cloud_progress, cloud_results, cloud_run
from lambdiff.batches.cloud_run import CloudTarget, Items
from lambdiff.batches.results_folder import ResultsFolder
from lambdiff.errors import ConfigurationError, InvalidRequest
from lambdiff.handler.app import App
from lambdiff.protocol.batch_layout import BatchItem
from lambdiff.protocol.http import HttpRequest
from lambdiff.protocol.request_key import request_key
from support.aws_resources import REGION, make_stack, save_deployment
from support.map_cloud import BUCKET, START, MapCloud, batch_function, item, rows
from support.stub_engine import MANIFEST, StubEngine

NOW = datetime.datetime.now(datetime.UTC)


def start(
    target: CloudTarget, items: Items, run: str = "cats-1", *, max_cost: float | None = None, **options: float
) -> cloud_run.RunDescription:
    """Prepare and start a run."""
    return cloud_run.start(target, cloud_run.prepare(target, items, max_cost=max_cost), run, **options)  # type: ignore[arg-type]


def opened(path: Path) -> contextlib.closing[ResultsFolder]:
    """Return a context with a results folder."""
    return contextlib.closing(ResultsFolder(path))


def alone(made: BatchItem) -> bytes:
    """Return the image of a request that is generated on its own."""
    return App(StubEngine).handle(HttpRequest(method="POST", body=msgspec.json.encode(made.request))).body


def test_a_run_generates_each_image_once_and_downloads_them(
    map_cloud: MapCloud, target: CloudTarget, tmp_path: Path
) -> None:
    """The files equal the images that are generated alone, in the order of the rows, and the status adds up."""
    items = rows(12)
    map_cloud.engine.warnings = ("cut",)
    described = start(target, items)
    assert (described.files, described.plan.images) == (1, 12)
    map_cloud.work(5)
    status = cloud_progress.read_status(target, "cats-1", clock=lambda: datetime.datetime.now(datetime.UTC))
    assert (status.state, status.items["succeeded"], status.items["pending"]) == ("running", 5, 7)
    assert (status.outcomes, status.per_minute > 0, status.seconds_left is not None) == ({"generated": 5}, True, True)
    map_cloud.work()
    status = cloud_progress.read_status(target, "cats-1")
    assert (status.state, status.running, status.seconds_left) == ("succeeded", False, None)
    assert 0 < status.spent < status.most
    with opened(tmp_path) as folder:
        _, lines = cloud_folder.collect(target, "cats-1", folder)
        assert [line.number for line in lines] == list(range(1, 13))
        for made, line in zip(items(), lines, strict=True):
            assert (tmp_path / str(line.file)).read_bytes() == alone(made)
            assert line.seconds is not None
            assert line.parameters["seed"] == made.number
            assert (line.line, line.extra, line.warnings) == (made.number + 1, {"id": made.number}, ["cut"])
    assert sum(line.cost or 0 for line in lines) < status.spent
    assert map_cloud.engine.calls == 12


def test_another_run_leaves_out_what_is_there(map_cloud: MapCloud, target: CloudTarget) -> None:
    """After a cancelled run, the next one generates the rest and nothing twice."""
    start(target, rows(10))
    map_cloud.work(4)
    status = cloud_progress.cancel(target, "cats-1")
    assert (status.state, status.items["aborted"], status.items["succeeded"]) == ("aborted", 6, 4)
    map_cloud.work()
    prepared = cloud_run.prepare(target, rows(10))
    assert (prepared.plan.present, prepared.plan.images) == (4, 6)
    assert "mean of 4 images of earlier runs" in prepared.plan.summary
    cloud_run.start(target, prepared, "cats-2")
    map_cloud.work()
    assert map_cloud.engine.calls == 10
    assert cloud_run.prepare(target, rows(10)).plan.images == 0


def test_rows_with_the_same_request_are_one_item(map_cloud: MapCloud, target: CloudTarget) -> None:
    """Otherwise, the second would wait for the claim of the first."""
    twice = [item(1), item(1), item(2)]
    described = start(target, lambda: iter(twice))
    assert described.plan.images == 2
    map_cloud.work()
    assert map_cloud.engine.calls == 2


def test_bad_rows_are_reported_by_row(map_cloud: MapCloud, target: CloudTarget) -> None:
    """Refused, failed and killed items have a status each; killed calls count with what they can have cost."""
    start(target, rows(6, wrong=[2]))
    map_cloud.killed.add(5)
    map_cloud.work(3)
    before = cloud_progress.read_status(target, "cats-1").spent
    map_cloud.engine.error = RuntimeError("a secret cat")
    map_cloud.work(1)
    map_cloud.engine.error = None
    map_cloud.work()
    results = {each.number: each for each in cloud_results.read_results(target, "cats-1")}
    assert {number: each.status for number, each in results.items()} == {
        1: "ok", 2: "refused", 3: "ok", 4: "failed", 5: "missing", 6: "ok",
    }  # fmt: skip
    assert (results[2].problem, results[4].problem) == ("wrong-key", "internal-error")
    status = cloud_progress.read_status(target, "cats-1")
    assert (status.items["failed"], status.unreported) == (3, 1)
    assert status.spent > before + batch_function().price(60)
    execution = read(target.account, target.machine, "cats-1")
    assert execution is not None
    failed = {each.key: each.error for each in failed_items(target.account, execution, 10)}
    assert failed == {results[2].key: "ItemRefused", results[4].key: "GenerationFailed", results[5].key: "TimeoutError"}
    assert len(list(failed_items(target.account, execution, 2))) == 2


def test_a_limit_cuts_the_run(map_cloud: MapCloud, target: CloudTarget) -> None:
    """Only as many rows are uploaded as fit in the worst case, from the first on."""
    described = start(target, rows(50), max_cost=1.0)
    assert 0 < described.plan.images < 50
    map_cloud.work()
    assert map_cloud.engine.calls == described.plan.images
    numbers = [each.number for each in cloud_results.read_items(target, "cats-1")]
    assert numbers == list(range(1, described.plan.images + 1))
    assert cloud_progress.read_status(target, "cats-1").spent < 1.0


def test_items_are_split_into_files(map_cloud: MapCloud, target: CloudTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has no more items and no more bytes than Step Functions takes; together they have all items."""
    monkeypatch.setattr(cloud_run, "ITEMS_PER_FILE", 4)
    assert start(target, rows(10)).files == 3
    monkeypatch.setattr(cloud_run, "ITEMS_PER_FILE", 40_000)
    monkeypatch.setattr(cloud_run, "BYTES_PER_FILE", 1_000)
    size = len(msgspec.json.encode(item(1))) + 1
    assert start(target, rows(10), "cats-2").files == -(-10 // (1_000 // size))
    for run in ("cats-1", "cats-2"):
        assert [each.number for each in cloud_results.read_items(target, run)] == list(range(1, 11))
    map_cloud.work()
    assert map_cloud.engine.calls == 10


def test_an_item_that_is_too_large_is_refused_before_anything_starts(map_cloud: MapCloud, target: CloudTarget) -> None:
    """Step Functions takes 256 KiB: the message names the row."""
    large = BatchItem(key="0" * 64, request={"prompt": "x", "image": "A" * 300_000}, number=7)
    with pytest.raises(InvalidRequest, match="row 7"):
        start(target, lambda: iter([item(1), large]))
    assert map_cloud.runs == {}


def test_a_name_is_used_once(map_cloud: MapCloud, target: CloudTarget) -> None:
    """A second run of the same name neither starts nor replaces the first one's items."""
    start(target, rows(3))
    with pytest.raises(InvalidRequest, match="There is a run cats-1 already"):
        start(target, rows(5))
    assert cloud_progress.describe(target, "cats-1").plan.rows == 3


@pytest.mark.parametrize("name", ["other", "../cats", "A", ""])
def test_an_unknown_run_is_named(target: CloudTarget, name: str) -> None:
    """Also if it cannot be a name."""
    for call in (cloud_progress.read_status, cloud_progress.cancel):
        with pytest.raises(InvalidRequest, match="There is no run"):
            call(target, name)


def test_an_interrupted_upload_is_not_a_run(map_cloud: MapCloud, target: CloudTarget) -> None:
    """The description is there, but Step Functions does not know the run."""
    start(target, rows(2))
    map_cloud.runs.clear()
    status = cloud_progress.read_status(target, "cats-1")
    assert (status.state, status.items["pending"], status.spent) == ("not_started", 0, 0.0)


def test_links_expire(map_cloud: MapCloud, target: CloudTarget) -> None:
    """Each image has a signed link that expires with the others; the other rows have none."""
    start(target, rows(3, wrong=[2]))
    map_cloud.work()
    linked = list(cloud_results.with_links(target, cloud_results.read_results(target, "cats-1"), 600, now=START))
    assert [bool(each.link) for each in linked] == [True, False, True]
    assert linked[0].expires == "2026-12-01T12:10:00+00:00"
    query = urllib.parse.parse_qs(urllib.parse.urlparse(linked[0].link).query)
    assert "600" in query.get("X-Amz-Expires", ["600"])
    with pytest.raises(InvalidRequest, match="7 days"):
        list(cloud_results.with_links(target, iter([]), 8 * 86_400))


def test_an_image_that_was_deleted_is_missing(map_cloud: MapCloud, target: CloudTarget) -> None:
    """Its record says that it was generated; the next run generates it again."""
    start(target, rows(2))
    map_cloud.work()
    boto3.client("s3", REGION).delete_object(Bucket=BUCKET, Key=f"images/{item(1).key}.png")
    assert [each.status for each in cloud_results.read_results(target, "cats-1")] == ["missing", "ok"]
    assert cloud_run.prepare(target, rows(2)).plan.images == 1


def test_files_that_exist_are_kept(map_cloud: MapCloud, target: CloudTarget, tmp_path: Path) -> None:
    """Collecting again downloads only what is not there, and adds no line to the results."""
    start(target, rows(2))
    map_cloud.work()
    with opened(tmp_path) as folder:
        cloud_folder.collect(target, "cats-1", folder)
        lines = list(folder.lines())
        (tmp_path / str(lines[0].file)).write_bytes(b"mine")
        (tmp_path / str(lines[1].file)).unlink()
        cloud_folder.collect(target, "cats-1", folder)
        assert list(folder.lines()) == lines
    assert (tmp_path / str(lines[0].file)).read_bytes() == b"mine"
    assert (tmp_path / str(lines[1].file)).read_bytes() == alone(item(2))


def test_a_deployment_without_batch_says_how_to_add_it(aws: None) -> None:
    """The fix is the command."""
    make_stack()
    save_deployment()
    with pytest.raises(ConfigurationError) as caught:
        cloud_run.open_target(select())
    assert "lambdiff deploy --batch" in caught.value.fix


@pytest.mark.parametrize(
    ("limits", "free"), [((1000, 990), 890), ((1000, 150), 75), ((10, 10), 5), ((10, 1), 1), (None, 100)]
)
def test_the_concurrency_is_what_the_account_has_free(
    target: CloudTarget, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int] | None, free: int
) -> None:
    """100 executions are left to others, or half in accounts that have few; a wish is not raised."""
    monkeypatch.setattr(type(target.account), "concurrency", lambda _: limits)
    assert cloud_run.prepare(target, rows(1)).plan.concurrency == free
    assert cloud_run.prepare(target, rows(1), concurrency=3).plan.concurrency == 3


def test_images_are_downloaded_as_they_come(map_cloud: MapCloud, target: CloudTarget, tmp_path: Path) -> None:
    """Each look at the run fetches what is new, until it has ended; then rows without an image get their reason."""
    start(target, rows(6, wrong=[6]), tolerated_percent=20)
    told: list[int] = []
    counted: list[int] = []

    def sleep(_: float) -> None:
        counted.append(len(list(tmp_path.glob("*.png"))))
        map_cloud.work(2)

    with opened(tmp_path) as folder:
        status, lines = cloud_folder.collect(
            target, "cats-1", folder, wait=True, tell=lambda each: told.append(each.items["succeeded"]), sleep=sleep
        )
        assert folder.latest() == lines
    assert status.state == "succeeded"
    assert told == [0, 2, 4, 5]
    assert counted[:3] == [0, 2, 4]
    assert [bool(line.file) for line in lines] == [True] * 5 + [False]
    assert lines[5].error is not None
    assert "refused the request: wrong-key" in lines[5].error.message


def test_a_run_of_images_that_are_there_starts_nothing(
    map_cloud: MapCloud, target: CloudTarget, tmp_path: Path
) -> None:
    """It still brings all of them into the folder, and a row that repeats another gets its image as well."""
    start(target, rows(3))
    map_cloud.work()
    twice = [*rows(3)(), msgspec.structs.replace(item(1), number=4)]
    described = start(target, lambda: iter(twice), "cats-2")
    assert (described.files, len(map_cloud.runs)) == (0, 1)
    with opened(tmp_path) as folder:
        status, lines = cloud_folder.collect(target, "cats-2", folder, wait=True)
    assert (status.state, status.spent) == ("succeeded", 0.0)
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert (tmp_path / str(lines[3].file)).read_bytes() == alone(item(1))


def test_a_request_survives_the_way_through_the_bucket(target: CloudTarget) -> None:
    """An item that another machine reads is the one that was uploaded."""
    first = cloud_folder.from_stored(item(7))
    again = cloud_folder.from_stored(cloud_folder.to_stored(first))
    assert again == first
    assert request_key(again.generation, MANIFEST.digest) == item(7).key
