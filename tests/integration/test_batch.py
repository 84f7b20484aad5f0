"""Batches with real parts: killed processes, several at once, and an endpoint that is busy and loses replies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import lambdiff
from lambdiff.auth.credentials import Keys
from lambdiff.batches.items import ItemReader
from lambdiff.batches.results_folder import ResultsFolder
from lambdiff.batches.run import BatchRun
from lambdiff.client.client import Client
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.lossy_proxy import LossyProxy
from support.stub_engine import StubEngine, pattern

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
IMAGES = int(os.environ.get("BATCH_IMAGES", "16"))
"""Images of the tests with processes; `BATCH_IMAGES=300 pytest tests/integration/test_batch.py` for a longer run."""


def lines_of(folder: Path) -> list[dict]:
    """Return what `results.jsonl` has."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def images_of(folder: Path) -> list[Path]:
    """Return the images in a folder."""
    return sorted(folder.glob("*.png"))


def start(*arguments: str | Path) -> subprocess.Popen:
    """Start `lambdiff batch`."""
    command = [sys.executable, "-m", "lambdiff", "batch", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A file of prompts with one step each."""
    things = ("cat", "dog", "fox", "apple", "rocket")
    rows = [{"prompt": f"a {things[n % 5]}", "seed": n, "num_inference_steps": 1, "id": n} for n in range(IMAGES)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.engine
@pytest.mark.linux
def test_killed_runs_make_every_image_once(prompts: Path, tmp_path: Path) -> None:
    """Runs that are killed at random moments end with every image, complete, once, and equal to the one made alone."""
    folder, moments = tmp_path / "out", random.Random(7)  # noqa: S311
    kills = 0
    while True:
        process = start(prompts, "-o", folder, "--local")
        try:
            process.communicate(timeout=1.0 + moments.random() if kills < IMAGES else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 1
    assert len(images_of(folder)) == IMAGES
    assert not list(folder.glob("*.part"))
    lines = lines_of(folder)
    assert sorted(line["number"] for line in lines) == list(range(1, IMAGES + 1))
    assert [line["extra"]["id"] for line in sorted(lines, key=lambda line: line["number"])] == list(range(IMAGES))
    with Client(local=True) as client:
        for line in moments.sample(lines, 5):
            given = {name: line["parameters"][name] for name in ("prompt", "seed", "num_inference_steps")}
            assert (folder / line["file"]).read_bytes() == client.generate(**given).content


@pytest.mark.engine
@pytest.mark.linux
def test_two_runs_at_once_share_the_work(prompts: Path, tmp_path: Path) -> None:
    """Two runs of the same file into one folder both succeed, and together generate each image once."""
    folder = tmp_path / "out"
    processes = [start(prompts, "-o", folder, "--local", "--json") for _ in range(2)]
    reports = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(report["generated"] for report in reports) == IMAGES
    assert {report["images"] for report in reports} == {IMAGES}
    assert len(images_of(folder)) == IMAGES
    assert sorted(line["number"] for line in lines_of(folder)) == list(range(1, IMAGES + 1))


@pytest.mark.engine
@pytest.mark.linux
def test_ctrl_c_keeps_what_is_finished(prompts: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a run within its time with exit code 130, and the next run makes the rest."""
    folder = tmp_path / "out"
    process = start(prompts, "-o", folder, "--local")
    while not (folder / "results.jsonl").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Run the same command again" in messages
    made = len(lines_of(folder))
    assert 0 < made < IMAGES
    report = json.loads(start(prompts, "-o", folder, "--local", "--json").communicate()[0])
    assert (report["generated"], report["already_there"]) == (IMAGES - made, made)


class BusyRun:
    """Runs a batch through an endpoint that allows few requests at once and loses some replies."""

    def __init__(self, folder: Path, *, lost: float, retries: int = 0, count: int = 60) -> None:
        self.engine = StubEngine(step_seconds=0.01)
        with (
            FunctionUrlServer(App(lambda: self.engine), KEYS, "us-east-1", concurrency=5) as function,
            LossyProxy(function.url, lost) as proxy,
        ):
            self.runs = 0
            while True:
                self.runs += 1
                client = Client(url=proxy.url, region="us-east-1", credentials=KEYS)
                client.transport.attempts = 1
                reader = ItemReader([{"prompt": "a cat", "seed": seed} for seed in range(count)], client.health())
                run = BatchRun(reader, ResultsFolder(folder), client, count, max_workers=32, retries=retries)
                run.wait()
                if not run.failed:
                    break
        self.losses = proxy.losses
        self.results = run.results()


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 2])
def test_an_endpoint_that_is_busy_and_loses_replies(tmp_path: Path, retries: int) -> None:
    """The endpoint generates as many images as there are, and those that were lost on their way back, and no others."""
    busy = BusyRun(tmp_path / "out", lost=0.15, retries=retries)
    assert len(busy.results) == 60
    assert all(record["file"] for record in busy.results)
    lost = busy.losses["reply reset"] + busy.losses["reply 502"]
    assert lost > 0
    assert busy.engine.calls == 60 + lost
    for record in busy.results:
        image = lambdiff.GeneratedImage.open(tmp_path / "out" / record["file"])
        assert (pattern(record["seed"], 64, 64) == image).all()


@pytest.mark.slow
def test_a_busy_endpoint_is_not_asked_in_vain_for_long(tmp_path: Path) -> None:
    """With room for five requests, most requests are accepted, although the run may send 32 at once."""
    folder = tmp_path / "out"
    answers: Counter[int] = Counter()

    class Counting(App):
        def handle(self, request):
            response = super().handle(request)
            answers[response.status] += 1
            return response

    engine = StubEngine(step_seconds=0.02)
    with FunctionUrlServer(Counting(lambda: engine), KEYS, "us-east-1", concurrency=5) as function:
        client = Client(url=function.url, region="us-east-1", credentials=KEYS)
        sent: list[str] = []
        transport, original = client.transport, client.transport.request

        def request(method, *arguments):
            sent.append(method)
            return original(method, *arguments)

        transport.attempts, transport.request = 1, request
        reader = ItemReader([{"prompt": "a cat", "seed": seed} for seed in range(100)], client.health())
        BatchRun(reader, ResultsFolder(folder), client, 100, max_workers=32).wait()
    assert engine.calls == 100
    assert sent.count("POST") < 2 * engine.calls
