"""`lambdiff bench` for real: on the built-in model, against `lambdiff serve`, on a deployment whose price is known."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lambdiff import config, pricing
from lambdiff.auth.credentials import Keys
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine

KEYS = Keys("AKIDEXAMPLE", "very-secret-key")
SMALL = ("--size", "64x64", "--rounds", "1")


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`lambdiff bench` in a process of its own."""
    command = [sys.executable, "-m", "lambdiff", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def document(ran: subprocess.CompletedProcess[str]) -> Any:
    """The JSON of a run that succeeded."""
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind `deployment`: 20 ms a step."""
    return StubEngine(step_seconds=0.02)


@pytest.fixture
def deployment(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Function URL on loopback, saved as a deployment with 3,008 MB."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)
    with FunctionUrlServer(App(lambda: engine), KEYS, "us-east-1") as function:
        config.save(config.Deployment(name="mine", url=function.url, region="us-east-1", memory_mb=3008))
        yield function.url


def test_this_machine() -> None:
    """The built-in model loads, draws and is measured; what a function would cost is not guessed."""
    report = document(bench("--local", "--steps", "1,2", *SMALL, "--json"))
    assert report["model"].startswith("lambdiff-emoji@")
    assert report["start"]["first"] > report["start"]["load"] > 0
    assert [(point["num_inference_steps"], point["pictures"]) for point in report["points"]] == [(1, 1), (2, 1)]
    for point in report["points"]:
        assert {"encode", "denoise", "decode", "compress"} <= set(point["phases"])
        assert all(seconds > 0 for seconds in point["phases"].values())
        assert point["seconds"]["median"] >= point["engine"]["median"] > 0
        assert point["dollars_per_image"] is None
    (fit,) = report["fits"]
    one, two = (point["seconds"]["median"] for point in report["points"])
    assert fit["per_step"] == pytest.approx(two - one, abs=0.001)
    assert fit["fixed"] == pytest.approx(2 * one - two, abs=0.001)


def test_a_served_model() -> None:
    """`lambdiff serve` and `lambdiff bench` as two programs: signed calls, the phases from its replies."""
    keys = {"AWS_ACCESS_KEY_ID": KEYS.access_key_id, "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key}
    environment = {**os.environ, **keys}
    server = subprocess.Popen(
        [sys.executable, "-m", "lambdiff", "serve", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        ran = bench("--url", url, "--region", "us-east-1", "--steps", "1", *SMALL, **keys)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert "Drawing 2 pictures, 1 of them to warm up" in ran.stderr
    assert "the function's memory is not" in ran.stderr
    assert re.search(r"first picture [\d.]+ s \([\d.]+ s of it to load the model\)", ran.stdout)
    heads, row = (line.split() for line in ran.stdout.split("\n\n")[1].splitlines())
    assert heads[:4] == ["steps", "size", "seconds", "min..max"]
    assert "denoise" in heads
    assert "cents" not in heads
    assert row[:2] == ["1", "64x64"]


def test_a_deployments_price(deployment: str) -> None:
    """Cents by the phases' time and the saved memory; beforehand, what a second costs as no picture was drawn yet."""
    ran = bench("--steps", "1,11", "--rounds", "2", "--json")
    second = pricing.dollars(pricing.invocation(3008, 1.0))
    assert f"Drawing 6 pictures, 2 of them to warm up. Each second of theirs costs {second}" in ran.stderr
    report = document(ran)
    for point in report["points"]:
        assert point["pictures"] == 2
        expected = pricing.invocation(3008, point["engine"]["median"])
        assert point["dollars_per_image"] == pytest.approx(expected, rel=0.02)
    assert report["prices_of"] == pricing.DATE
    assert report["endpoint"] == f"{deployment} (deployment mine)"
    (fit,) = report["fits"]
    one, eleven = report["points"]
    assert eleven["engine"]["min"] >= 0.22
    rise = eleven["seconds"]["median"] - one["seconds"]["median"]
    assert fit["per_step"] == pytest.approx(rise / 10, abs=0.001)
    table = bench("--steps", "1", "--rounds", "1").stdout
    assert "cents" in table
    assert f"prices of us-east-1, {pricing.DATE}" in table


def test_an_interruption_shows_what_is_there(deployment: str, engine: StubEngine) -> None:
    """SIGINT in a later round: the figures of those before it, and exit code 130."""
    engine.step_seconds = 0.1
    command = [sys.executable, "-m", "lambdiff", "bench", "--steps", "1", "--rounds", "100", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while engine.calls < 4:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("Stopped.\n")
    (point,) = json.loads(out)["points"]
    assert 2 <= point["pictures"] < 100


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--steps", "0"), 2, "num_inference_steps"),
        (("--steps", "4,x"), 2, "'x' is not a valid integer"),
        (("--size", "big"), 2, "512x512"),
        (("--size", "1024x1024"), 4, "this model draws 64 to 512"),
        (("--prompt", ""), 2, "prompt"),
        (("--deployment", "none"), 3, "no deployment 'none'"),
        (("--model-dir", "x"), 3, "--local"),
        (("--local", "--url", "https://a"), 3, "--local"),
        (("--region", "eu-west-1"), 4, "403"),
        (("--memory", "2048"), 3, "identity cannot be established"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_sentence(
    deployment: str, engine: StubEngine, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """No traceback, nothing on stdout, and no picture."""
    ran = bench(*arguments, AWS_MAX_ATTEMPTS="1", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert (ran.returncode, ran.stdout) == (code, "")
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert engine.calls == 0
