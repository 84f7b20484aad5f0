"""`lambdiff batch status`, `results` and `cancel` (cli/batch_runs.py), with the worker in `support/map_cloud.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from lambdiff.batches import cloud_api, cloud_run
from lambdiff.batches.cloud_run import CloudTarget
from lambdiff.cli import cli
from lambdiff.client.client import Client
from lambdiff.errors import InvalidRequest
from support.aws_resources import save_deployment
from support.map_cloud import MapCloud, batch_function, rows
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


@pytest.fixture
def map_cloud(aws: None, monkeypatch: pytest.MonkeyPatch) -> MapCloud:
    """A deployment with batch, and the run `cats-1` with six rows, of which the second is bad."""
    cloud = MapCloud()
    cloud.install(monkeypatch)
    save_deployment()
    monkeypatch.setattr(cloud_run.functions, "read", lambda account, name: batch_function(name=name))
    target = open_target()
    cloud_run.start(target, cloud_run.prepare(target, rows(6, wrong=[2])), "cats-1", tolerated_percent=20)
    return cloud


def open_target() -> CloudTarget:
    """Return what the deployment has for runs."""
    from lambdiff.aws.deployment import select

    return cloud_run.open_target(select())


def batch(*arguments: str) -> Result:
    """Run `lambdiff batch`; an exception is kept in the result, and an exit code is its value."""
    return CliRunner().invoke(cli, ["batch", *arguments], standalone_mode=False)


def test_status_says_how_far_a_run_is(map_cloud: MapCloud) -> None:
    """Items by state, what the function reports, and what was spent, also as JSON."""
    map_cloud.work(4)
    shown = batch("status", "cats-1")
    assert (shown.exception, shown.return_value) == (None, 0)
    assert "cats-1: running, 6 images: 2 pending, 3 succeeded, 1 failed" in shown.stdout
    assert "3 generated, 1 refused" in shown.stdout
    assert "of at most $" in shown.stdout
    report: dict[str, Any] = json.loads(batch("status", "cats-1", "--json").stdout)
    assert report["outcomes"] == {"generated": 3, "refused": 1}


def test_results_are_lines_of_json(map_cloud: MapCloud) -> None:
    """One for each row, with links on request."""
    map_cloud.work()
    lines = [json.loads(line) for line in batch("results", "cats-1").stdout.splitlines()]
    assert [each["status"] for each in lines] == ["ok", "refused", "ok", "ok", "ok", "ok"]
    assert not any("link" in each for each in lines)
    linked = [json.loads(line) for line in batch("results", "cats-1", "--links", "1h").stdout.splitlines()]
    assert [bool(each.get("link")) for each in linked] == [True, False, True, True, True, True]


def test_results_are_downloaded(map_cloud: MapCloud, tmp_path: Path) -> None:
    """Into a folder, with results.jsonl beside the images."""
    map_cloud.work()
    done = batch("results", "cats-1", "-o", str(tmp_path / "out"))
    assert (done.exception, done.return_value) == (None, 5)
    assert "5 images, 1 failed. $" in done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 6


def test_cancel_stops_a_run(map_cloud: MapCloud) -> None:
    """What is pending is aborted."""
    map_cloud.work(1)
    assert "aborted, 6 images: 1 succeeded, 5 aborted" in batch("cancel", "cats-1").stdout


def test_a_failed_run_exits_with_5(map_cloud: MapCloud) -> None:
    """So that a script notices."""
    next(iter(map_cloud.runs.values())).status = "FAILED"
    assert batch("status", "cats-1").return_value == 5


WRONG = (
    ("status", "cats-1", "--links", "1h"),
    ("cancel", "cats-1", "--wait"),
    ("results", "cats-1", "-o", "x", "--links", "1h"),
    ("results", "cats-1", "--links", "soon"),
    ("prompts.txt", "--where", "aws", "--local"),
    ("prompts.txt", "-o", "x", "--max-cost", "1"),
    ("prompts.txt",),
)


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_options_are_usage_errors(map_cloud: MapCloud, arguments: tuple[str, ...]) -> None:
    """Options that do not belong together are refused, and so is a duration without a unit."""
    assert isinstance(batch(*arguments).exception, click.UsageError)


def test_an_unknown_run_is_an_error(map_cloud: MapCloud) -> None:
    """It says how long runs are known."""
    error = batch("status", "dogs").exception
    assert isinstance(error, InvalidRequest)
    assert "There is no run 'dogs'" in error.message


@pytest.fixture
def prompts(map_cloud: MapCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of three prompts; the endpoint that is asked for its model is in this process."""
    monkeypatch.setattr(cloud_api, "Client", lambda **_: Client(transport=StubTransport(StubEngine())))
    map_cloud.eager = True
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,seed,id\na cat,1,c\na dog,2,d\na cat,1,again\n")
    return path


def test_a_file_becomes_a_run_in_aws(map_cloud: MapCloud, prompts: Path, tmp_path: Path) -> None:
    """The plan is shown first; images and results are those that a run on this machine would have."""
    map_cloud.work()
    before = map_cloud.engine.calls
    done = batch(str(prompts), "--where", "aws", "-o", str(tmp_path / "out"), "--yes", "--max-cost", "5")
    assert (done.exception, done.return_value) == (None, 0)
    assert "2 images, " in done.stderr
    assert "at most $0." in done.stderr
    assert map_cloud.engine.calls == before + 2
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {each["number"]: (each["line"], each["extra"]) for each in lines} == {
        1: (2, {"id": "c"}), 2: (3, {"id": "d"}), 3: (4, {"id": "again"}),
    }  # fmt: skip
    keys = {each["number"]: each["key"] for each in lines}
    assert keys[1] == keys[3]
    again = batch(str(prompts), "--where", "aws", "-o", str(tmp_path / "out"), "--yes")
    assert again.return_value == 0
    assert map_cloud.engine.calls == before + 2
    elsewhere = batch(str(prompts), "--where", "aws", "-o", str(tmp_path / "other"), "--yes")
    assert elsewhere.return_value == 0
    assert len(list((tmp_path / "other").glob("*.png"))) == 3
    assert map_cloud.engine.calls == before + 2


def test_without_a_folder_the_run_is_only_started(map_cloud: MapCloud, prompts: Path) -> None:
    """Its name goes to stdout; declining starts nothing, and a bad row is found before anything is uploaded."""
    count = len(map_cloud.runs)
    declined = CliRunner().invoke(cli, ["batch", str(prompts), "--where", "aws"], input="n\n", standalone_mode=False)
    assert (declined.return_value, len(map_cloud.runs)) == (130, count)
    done = batch(str(prompts), "--where", "aws", "--yes", "--run", "mine")
    assert (done.stdout, len(map_cloud.runs)) == ("mine\n", count + 1)
    prompts.write_text("prompt,width\na cat,100\n")
    error = batch(str(prompts), "--where", "aws", "--yes").exception
    assert isinstance(error, InvalidRequest)
    assert "line 2: width" in error.message
