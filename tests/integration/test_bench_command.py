"""`lambdiff bench` with the built-in model, with `lambdiff serve`, and with a deployment of known price."""

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

pytestmark = pytest.mark.slow

KEYS = Keys("AKIDEXAMPLE", "very-secret-key")
SMALL = ("--size", "64x64", "--rounds", "1")


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `lambdiff bench` in a separate process."""
    command = [sys.executable, "-m", "lambdiff", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def document(ran: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON document of a successful run."""
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind `deployment`, with 20 ms per step."""
    return StubEngine(step_seconds=0.02)


@pytest.fixture
def deployment(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Function URL on loopback, saved as a deployment with 3,008 MB."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)
    with FunctionUrlServer(App(lambda: engine), KEYS, "us-east-1") as function:
        config.save(config.Deployment(name="mine", url=function.url, region="us-east-1", memory_mb=3008))
        yield function.url


@pytest.mark.engine
def test_bench_measures_this_machine() -> None:
    """With --local the built-in model is measured, and no cost is reported."""
    report = document(bench("--local", "--steps", "1,2", *SMALL, "--json"))
    assert report["model"].startswith("lambdiff-emoji@")
    assert report["startup"]["first_image_seconds"] > report["startup"]["load_seconds"] > 0
    assert report["endpoint"] == "this machine (--local)"
    results = report["results"]
    assert [(result["num_inference_steps"], result["images"]) for result in results] == [(1, 1), (2, 1)]
    for result in results:
        assert {"encode", "denoise", "decode", "compress"} <= set(result["phase_seconds"])
        assert all(seconds > 0 for seconds in result["phase_seconds"].values())
        assert result["latency_seconds"]["median"] >= result["engine_seconds"]["median"] > 0
        assert result["dollars_per_image"] is None
    (fit,) = report["fits"]
    one, two = (result["latency_seconds"]["median"] for result in results)
    assert fit["seconds_per_step"] == pytest.approx(two - one, abs=0.001)
    assert fit["fixed_seconds"] == pytest.approx(2 * one - two, abs=0.001)


@pytest.mark.engine
def test_bench_measures_a_served_model() -> None:
    """With --url, bench sends signed requests to a separate `lambdiff serve` and reads the phases from its replies."""
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
    assert "Generating 2 images, 1 of them to warm up" in ran.stderr
    assert "The cost is unknown" in ran.stderr
    assert re.search(r"first image [\d.]+ s \([\d.]+ s of it to load the model\)", ran.stdout)
    headings, row = (line.split() for line in ran.stdout.split("\n\n")[1].splitlines())
    assert headings[:4] == ["steps", "size", "seconds", "min..max"]
    assert "denoise" in headings
    assert "cents" not in headings
    assert row[:2] == ["1", "64x64"]


def test_bench_prices_a_deployment(deployment: str) -> None:
    """The cost follows from phases and saved memory; before the first image only the cost of a second is known."""
    ran = bench("--steps", "1,11", "--rounds", "2", "--json")
    second = pricing.dollars(pricing.invocation(3008, 1.0))
    assert f"Generating 6 images, 2 of them to warm up. Each second costs {second}" in ran.stderr
    report = document(ran)
    for result in report["results"]:
        assert result["images"] == 2
        expected = pricing.invocation(3008, result["engine_seconds"]["median"])
        assert result["dollars_per_image"] == pytest.approx(expected, rel=0.02)
    assert report["prices_as_of"] == pricing.DATE
    assert report["endpoint"] == f"{deployment} (deployment mine)"
    (fit,) = report["fits"]
    one, eleven = report["results"]
    assert eleven["engine_seconds"]["min"] >= 0.22
    rise = eleven["latency_seconds"]["median"] - one["latency_seconds"]["median"]
    assert fit["seconds_per_step"] == pytest.approx(rise / 10, abs=0.001)
    table = bench("--steps", "1", "--rounds", "1").stdout
    assert "cents" in table
    assert f"us-east-1 prices as of {pricing.DATE}" in table


def test_an_interruption_prints_the_report_so_far(deployment: str, engine: StubEngine) -> None:
    """After SIGINT the report contains the rounds so far, and the exit code is 130."""
    engine.step_seconds = 0.1
    command = [sys.executable, "-m", "lambdiff", "bench", "--steps", "1", "--rounds", "100", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while engine.calls < 4:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("Stopped.\n")
    (result,) = json.loads(out)["results"]
    assert 2 <= result["images"] < 100


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--steps", "0"), 2, "--steps must be a whole number in 1..100"),
        (("--steps", "4,x"), 2, "--steps must be a whole number in 1..100, not 'x'"),
        (("--size", "big"), 2, "512x512"),
        (("--size", "1024x1024"), 4, "64..512 with this model"),
        (("--prompt", ""), 2, "prompt"),
        (("--deployment", "none"), 3, "no deployment 'none'"),
        (("--model-dir", "x"), 3, "x is not a baked model"),
        (("--local", "--profile", "ghost"), 3, "--profile would have no effect"),
        (("--local", "--url", "https://a"), 3, "--local"),
        (("--region", "eu-west-1"), 4, "403"),
        (("--memory", "2048"), 7, "AWS cannot be reached"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_sentence(
    deployment: str, engine: StubEngine, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A mistake gives its exit code and one sentence, without a traceback, output on stdout or an image."""
    ran = bench(*arguments, AWS_MAX_ATTEMPTS="1", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert (ran.returncode, ran.stdout) == (code, "")
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert engine.calls == 0
