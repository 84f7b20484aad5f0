"""The command `lambdiff bench` (cli/bench.py)."""

from __future__ import annotations

import functools
import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lambdiff.bench.memory_sweep import MemorySweep
from lambdiff.cli import cli
from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed
from support.recording_transport import RecordingTransport
from support.stub_engine import StubEngine
from support.sweep_cloud import CAP, Cloud, interrupt


def run(*arguments: str, answer: str | None = None) -> Any:
    """Run `lambdiff bench`; an exception is kept in the result."""
    arguments = ("bench", "--steps", "1", "--rounds", "1", *arguments)
    return CliRunner().invoke(cli, arguments, input=answer, standalone_mode=False)


@pytest.fixture
def command_on_the_clouds_clock(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the command measure on the cloud's clock."""
    sweep = functools.partial(MemorySweep, clock=lambda: cloud.now, log_patience=0.0)
    monkeypatch.setattr("lambdiff.bench.memory_sweep.MemorySweep", sweep)


@pytest.mark.usefixtures("command_on_the_clouds_clock")
def test_bench_memory_prints_the_best_settings(cloud: Cloud) -> None:
    """After a question the command prints a table and the best two settings; with `--json --yes` it prints JSON."""
    result = run("--memory", "2048,10240", answer="y\n")
    assert result.exception is None, result.output
    assert "2,048 MB" in result.stdout
    assert "cheapest  2,048 MB: +24% time, -15% cost\n" in result.stdout
    assert "fastest  10,240 MB: -48% time, +70% cost\n" in result.stdout
    assert "The memory is 3,008 MB again" in result.stdout
    assert result.return_value == 0
    cloud.refuse = lambda size, _: ("ValidationException", 400) if size > 3008 else None
    refused = run("--memory", "10240", "--yes")
    assert refused.return_value == 7
    assert f"Error: 10,240 MB: AWS says: ValidationException: {CAP}\n  Leave out this memory size" in refused.stderr
    cloud.refuse = lambda *_: None
    document = json.loads(run("--memory", "2048", "--json", "--yes").stdout)
    assert (document["cheapest_memory_mb"], document["restored"], len(document["settings"])) == (2048, True, 2)
    assert cloud.memory == 3008


def test_without_a_terminal_yes_is_required(cloud: Cloud) -> None:
    """Without a terminal, or with --json, the command refuses to start without --yes."""
    assert run("--memory", "2048").exception is not None
    assert "add --yes" in str(run("--memory", "2048", "--json").exception)
    assert (cloud.updates, cloud.images) == ([], [])


def test_an_interrupted_command_prints_the_figures_so_far(cloud: Cloud) -> None:
    """After Ctrl-C the figures measured so far are printed, and the memory is restored."""
    cloud.before_image = interrupt
    result = run("--memory", "2048,10240", "--yes")
    assert isinstance(result.exception, click.Abort)
    assert "3,008 MB" in result.stdout
    assert cloud.memory == 3008


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memory", "2048", "--local"), "needs a deployment"),
        (("--memory", "2048", "--url", "https://a"), "needs a deployment"),
        (("--memory", "2048", "--steps", "1,2"), "one number of steps"),
        (("--memory", "2048", "--size", "64x64,128x64"), "one size"),
        (("--memory", "64"), "128..10240, not 64"),
        (("--memory", "2048,"), "128..10240, not ''"),
    ],
)
def test_invalid_usage_is_refused(cloud: Cloud, arguments: tuple[str, ...], words: str) -> None:
    """Invalid usage is refused before an image is generated or the memory is changed."""
    assert words in str(run(*arguments, "--yes").exception)
    assert (cloud.updates, cloud.images) == ([], [])


def test_a_failed_configuration_is_printed_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed configuration is printed with its error and fix, and determines the exit code."""
    transport = RecordingTransport(StubEngine())
    monkeypatch.setattr("lambdiff.client.client.Client", lambda *_, **__: Client(transport=transport))
    transport.fail[9] = EndpointFailed("The function's time was almost up.", fix="Pass fewer `steps=`.")
    arguments = ["bench", "--local", "--steps", "9,1", "--rounds", "1"]
    ran = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert ran.stderr.endswith("Error: 9 steps, 64x64: The function's time was almost up.\n  Pass fewer --steps.\n")
    assert ran.return_value == 5
