"""A run of 60 rows in a local cloud: throttled, cancelled, resumed, downloaded, destroyed.

`support/localcloud/__init__.py` says what is real and what is emulated. Each test builds on the ones before it, so they
run together and in this order.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdiff.engine import manifest as manifests
from lambdiff.local import builtin
from lambdiff.protocol.batch_layout import parse_record_name
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.request_key import request_key
from support.localcloud import install, settings
from support.localcloud.cloud import Cloud
from support.localcloud.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

ROWS, BAD = 60, (5, 33, 59)
"""The keys of bad rows belong to another model, so that only the function can notice."""
START = """
import sys, msgspec
from lambdiff.aws.deployment import select
from lambdiff.batches import cloud_run
from lambdiff.protocol.batch_layout import BatchItem
target = cloud_run.open_target(select())
def items():
    with open(sys.argv[1], "rb") as lines:
        yield from (msgspec.json.decode(line, type=BatchItem) for line in lines)
prepared = cloud_run.prepare(target, items, concurrency=4)
print(prepared.plan.present, prepared.plan.images)
cloud_run.start(target, prepared, sys.argv[2], tolerated_percent=20)
"""


def prompt(number: int) -> str:
    """The prompt of a row."""
    return f"a secret cat number {number}"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """The local cloud, installed if necessary."""
    install.install()
    with Cloud() as running:
        yield running


@pytest.fixture(scope="module")
def machine(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with a deployment for batch runs, in an account where three calls may run at once."""
    made = Machine(cloud, tmp_path_factory.mktemp("machine"), builtin.builtin_model_dir())
    deployed = made.lambdiff(
        "deploy", "--yes", "--no-smoke", "--batch", "--batch-memory", "3008", "--batch-timeout", "60"
    )
    assert deployed.returncode == 0, deployed.stderr
    assert "batch runs with 3,008 MB, which cost nothing when idle" in deployed.stderr
    settings.CONCURRENCY.write_text("3")
    return made


@pytest.fixture(scope="module")
def items(machine: Machine) -> Path:
    """A file with the items of all rows."""
    manifest = manifests.read(machine.model)
    lines = []
    for number in range(1, ROWS + 1):
        generation = GenerateRequest(prompt=prompt(number), seed=number).resolve(manifest.defaults)
        fields = {name: getattr(generation, name) for name in generation.__struct_fields__}
        request = {name: value for name, value in fields.items() if value is not None}
        key = request_key(generation, "f" * 64 if number in BAD else manifest.digest)
        lines.append(json.dumps({"key": key, "request": request, "number": number}))
    path = machine.folder / "items.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(machine: Machine, items: Path, run: str) -> str:
    """Start a run; return how many images were there and how many it generates."""
    done = machine.cloud.run(sys.executable, "-c", START, items, run, **machine.state)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bucket(machine: Machine) -> str:
    """The bucket of the deployment."""
    stack = machine.cloud.client("cloudformation").describe_stacks(StackName="lambdiff")["Stacks"][0]
    return str(next(each["OutputValue"] for each in stack["Outputs"] if each["OutputKey"] == "BatchBucketName"))


def images(machine: Machine) -> dict[str, bytes]:
    """The images in the bucket, by key."""
    client, name = machine.cloud.client("s3"), bucket(machine)
    found = client.list_objects_v2(Bucket=name, Prefix="images/").get("Contents", [])
    return {
        each["Key"][7:71]: client.get_object(Bucket=name, Key=each["Key"])["Body"].read() for each in found
    }  # fmt: skip


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def status(machine: Machine, run: str) -> Any:
    """Return the report about a run."""
    return machine.report("batch", "status", run)


def test_a_cancelled_run_stops(machine: Machine, items: Path) -> None:
    """Calls that have begun go on, and no other is started."""
    assert start(machine, items, "first") == f"0 {ROWS}"
    wait_until(lambda: len(images(machine)) >= 15)
    report = machine.report("batch", "cancel", "first")
    assert report["state"] == "aborted"
    wait_until(lambda: status(machine, "first")["items"]["running"] == 0)
    after = status(machine, "first")
    assert after["items"]["aborted"] > 0
    assert after["spent"] > 0
    count = len(images(machine))
    assert count < ROWS - len(BAD)
    time.sleep(3)
    assert len(images(machine)) == count


def test_the_next_run_generates_the_rest(machine: Machine, items: Path) -> None:
    """What is there is left out; bad rows are reported and tolerated; throttled calls are repeated."""
    there = len(images(machine))
    assert start(machine, items, "second") == f"{there} {ROWS - there}"
    done = machine.lambdiff("batch", "results", "second", "--wait", "-o", str(machine.folder / "images"))
    assert done.returncode == 5, done.stderr  # three rows are bad
    report = status(machine, "second")
    assert report["state"] == "succeeded", report
    assert report["unreported"] == 0
    assert len(images(machine)) == ROWS - len(BAD)
    lines = (machine.folder / "images" / "results.jsonl").read_text().splitlines()
    results = {each["number"]: each for each in map(json.loads, lines)}
    assert set(results) == set(range(1, ROWS + 1))
    refused = {number for number, each in results.items() if each["file"] is None}
    assert refused == set(BAD)
    assert all("wrong-key" in results[number]["error"]["message"] for number in refused)
    stored = images(machine)
    for number in set(results) - refused:
        assert (machine.folder / "images" / results[number]["file"]).read_bytes() == stored[results[number]["key"]]


def test_throttled_calls_were_repeated(machine: Machine) -> None:
    """Four items at a time meet a limit of three calls: the emulator counts what it has refused."""
    assert int(settings.THROTTLED.read_text()) > 0


def log(machine: Machine) -> list[dict[str, Any]]:
    """The lines of the batch function's log that are about items."""
    client = machine.cloud.client("logs")
    (name,) = (
        each["logGroupName"]
        for each in client.describe_log_groups()["logGroups"]
        if "BatchLogs" in each["logGroupName"]
    )
    events, token = [], {}
    while True:
        page = client.filter_log_events(logGroupName=name, **token)
        events += page["events"]
        if not page.get("nextToken"):
            break
        token = {"nextToken": page["nextToken"]}
    text = "\n".join(each["message"] for each in events)
    assert "secret cat" not in text
    # Wherever they begin: the Runtime Interface Emulator writes lines of its own into the same stream.
    return [json.loads(found) for found in re.findall(r'\{"level":"\w+","request_id":[^{}]*"outcome":[^{}]*\}', text)]


def test_nothing_was_generated_twice(machine: Machine, items: Path) -> None:
    """Both runs together have one record of a generation for each image; the log has no other, and never a prompt."""
    client, name = machine.cloud.client("s3"), bucket(machine)
    found = client.list_objects_v2(Bucket=name, Prefix="runs/")["Contents"]
    records = [record for each in found if (record := parse_record_name(each["Key"]))]
    recorded = Counter(key for key, outcome, _ in records if outcome == "generated")
    assert recorded == dict.fromkeys(images(machine), 1)
    # The emulator may lose a line of a container's log, but it makes none up.
    logged = Counter(entry["key"] for entry in log(machine) if entry["outcome"] == "generated")
    assert logged
    assert logged <= recorded
    assert {entry["run"] for entry in log(machine)} == {"first", "second"}


def test_images_equal_those_made_alone(machine: Machine, items: Path) -> None:
    """The endpoint's function returns the same bytes for the same request."""
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    stored = images(machine)
    for number in (1, 30, 60):
        out = machine.folder / f"alone-{number}.png"
        done = machine.lambdiff("generate", prompt(number), "--seed", str(number), "-o", str(out))
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == stored[rows[number - 1]["key"]]


def test_one_command_does_it_all(machine: Machine) -> None:
    """A file of prompts in, a folder of images out; what earlier runs have generated is found by its key."""
    path, out = machine.folder / "prompts.csv", machine.folder / "out"
    path.write_text(f"prompt,seed,id\n{prompt(1)},1,there\na dog in a crown,7,new\n")
    done = machine.lambdiff("batch", str(path), "--where", "aws", "-o", str(out), "--yes", "--max-cost", "1")
    assert done.returncode == 0, done.stderr
    assert "1 images (1 of 2 are there)" in done.stderr
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {each["extra"]["id"]: bool(each["file"]) for each in lines} == {"there": True, "new": True}
    local = machine.folder / "local.png"
    arguments = ("generate", "a dog in a crown", "--seed", "7", "-o", str(local))
    assert machine.lambdiff(*arguments).returncode == 0
    (name,) = (each["file"] for each in lines if each["extra"]["id"] == "new")
    assert (out / name).read_bytes() == local.read_bytes()


def test_destroy_leaves_nothing(machine: Machine) -> None:
    """With the images, everything is gone."""
    report = machine.report("destroy", "--yes", "--delete-images")
    assert f"with {ROWS - len(BAD) + 1} images of batch runs" in " ".join(report["removed"])
    client = machine.cloud.client
    assert [each["StackName"] for each in client("cloudformation").describe_stacks()["Stacks"]] == ["CDKToolkit"]
    assert client("lambda").list_functions()["Functions"] == []
    assert client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert client("logs").describe_log_groups()["logGroups"] == []
    assert len(client("s3").list_buckets()["Buckets"]) == 1
