"""Ctrl-C, SIGTERM and SIGHUP end a command within two seconds, with its exit code, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import lambdiff
from lambdiff import Client, Keys
from lambdiff.errors import EndpointFailed

pytestmark = [pytest.mark.linux, pytest.mark.slow]

KEYS = Keys("AKIDEXAMPLE", "very-secret-key")
LAMBDIFF = [sys.executable, "-m", "lambdiff"]
LIMIT_S = 2.0 if os.environ.get("STRICT_TIMING") else 10.0
"""Ten seconds on a busy machine; `STRICT_TIMING=1` for the real limit."""


def start(*command: str, **options: Any) -> subprocess.Popen[str]:
    """Start a program with the usual signal handlers, even if these tests were started with some ignored."""
    usual = ["env", "--default-signal=INT,TERM,HUP"]
    return subprocess.Popen([*usual, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def stop(process: subprocess.Popen[str], *numbers: int) -> tuple[int, str, str]:
    """Send signals, and return exit code, stdout and stderr; fail if it does not end in time."""
    for number in numbers:
        process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=100)
    assert time.monotonic() - started < LIMIT_S
    return process.returncode, out, err


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, as long as the process runs."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.engine
def test_finished_images_are_kept(tmp_path: Path) -> None:
    """Ctrl-C, pressed twice, during -n on this machine keeps complete files and prints their names, nothing else."""
    process = start(*LAMBDIFF, "generate", "a cat", "-n", "60", "--steps", "20", "--local", cwd=tmp_path)
    wait_until(lambda: list(tmp_path.glob("*.png")), process)
    code, out, err = stop(process, signal.SIGINT, signal.SIGINT)
    assert (code, err.strip()) == (130, "Stopped.")
    files = [tmp_path / name for name in out.split()]
    assert files
    assert sorted(files) == sorted(tmp_path.iterdir())
    for file in files:
        Image.open(file).load()


@pytest.mark.engine
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_model_that_is_being_loaded_or_run_is_not_waited_for(tmp_path: Path, number: int, code: int) -> None:
    """Whatever a local generation is doing, a signal ends it with the exit code that shells know."""
    process = start(*LAMBDIFF, "generate", "a cat", "--steps", "100", "--local", cwd=tmp_path)
    wait_until(lambda: "libopenvino_intel_cpu" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    ended, out, err = stop(process, number)
    assert (ended, out, err.strip()) == (code, "", "Stopped.")
    assert list(tmp_path.iterdir()) == []


IGNORED = """
import os, signal, time, weakref
from lambdiff.termination import on_signals

class Thing:
    pass

def callback(_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)

with on_signals():
    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    time.sleep(30)
"""


def test_an_interruption_that_python_ignores_is_repeated() -> None:
    """In the callback of a weak reference, as the import system has some, Python would only print the exception."""
    assert stop(start(sys.executable, "-c", IGNORED)) == (143, "", "")


@pytest.mark.engine
def test_serve_answers_everybody() -> None:
    """On SIGTERM, requests in progress and those that wait get an image or 503, and the exit code is 0."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1]}
    server = start(*LAMBDIFF, "serve", "--port", "0", "--concurrency", "3", env=environment)
    assert server.stdout is not None
    url = server.stdout.readline().strip()

    def generate(seed: int) -> str:
        with Client(url, region="us-east-1", credentials=KEYS) as client:
            try:
                return f"seed {client.generate('a cat', seed=seed, num_inference_steps=100).seed}"
            except EndpointFailed as error:
                return str(error.status)

    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(generate, seed) for seed in range(3)]
        time.sleep(0.5)  # whether the requests are being received, are waiting, loading or running
        code, _, err = stop(server, signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in err
    assert "terminate" not in err
    received = [json.loads(line)["status"] for line in err.splitlines() if line.startswith("{")]
    for seed, reply in enumerate(replies):
        try:
            assert reply.result() in {f"seed {seed}", "503"}
        except lambdiff.EndpointUnreachable:
            assert len(received) < len(replies)  # it had not been sent


PROGRAMS = {
    "interrupted": "client.generate_many(['a cat'] * 20, num_inference_steps=50)",
    "caught": "try: client.generate_many(['a cat'] * 20, num_inference_steps=50)\nexcept KeyboardInterrupt: pass",
    "running at the end": """
threading.Thread(target=client.generate, args=("a cat",), kwargs={"num_inference_steps": 100}, daemon=True).start()
time.sleep(60)
""",
}


@pytest.mark.engine
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_that_use_the_engine_end_normally(program: str) -> None:
    """A program that is interrupted while threads generate neither crashes nor hangs when the interpreter ends."""
    setup = (
        "import threading, time, lambdiff\nclient = lambdiff.Client(local=True)\nprint(client.generate('a cat').size)\n"
    )
    process = start(sys.executable, "-uc", setup + program)
    assert process.stdout is not None
    assert process.stdout.readline()
    time.sleep(0.2)
    code, _, err = stop(process, signal.SIGINT)
    assert "terminate" not in err
    if "except" in program:
        assert (code, err) == (0, "")
    else:
        assert code == -signal.SIGINT
        assert err.splitlines()[-1] == "KeyboardInterrupt"


STUCK = """
import hashlib, sys, time
from pathlib import Path
from lambdiff import termination
from lambdiff.bake.output_folder import scratch_folder
from lambdiff.temporary import temporary_path

with termination.on_signals():
    with scratch_folder(Path("out")) as scratch, temporary_path(Path(), ".cat.", ".part") as part:
        (scratch / "weights").write_bytes(b"half")
        part.write_bytes(b"half")
        print("ready", flush=True)
        {body}
    sys.exit(6)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
        "try: time.sleep(60)\n        finally: time.sleep(60)",
    ],
    ids=["in Python", "in a library", "in a clean-up"],
)
def test_temporary_files_are_removed(tmp_path: Path, body: str, number: int) -> None:
    """Temporary files and folders are removed even if the main thread does not end; a second signal changes nothing."""
    process = start(sys.executable, "-c", STUCK.format(body=body), cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    code, _, err = stop(process, number, number)
    assert code == 128 + number
    assert err in ("", "Stopped.\n")
    assert list(tmp_path.iterdir()) == []


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """`nohup` keeps a command running when the terminal closes."""
    process = start("nohup", sys.executable, "-c", STUCK.format(body="time.sleep(1)"), cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert stop(process, signal.SIGHUP)[0] == 6


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_closed_terminal_changes_nothing(tmp_path: Path, redirection: str) -> None:
    """The exit code is the same if nothing can be printed."""
    command = f"exec {' '.join(LAMBDIFF)} serve --port 0 {redirection}"
    process = start("sh", "-c", command, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://")
    assert stop(process, signal.SIGTERM)[0] == 0


STUCK_DEPLOYMENT = """
import hashlib
from lambdiff import termination
from lambdiff.aws import account

def open_account(*_):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

account.open_account = open_account
with termination.on_signals():
    from lambdiff.cli import main
    main(["deploy", "--yes"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_deployment_that_has_changed_nothing_is_not_waited_for(tmp_path: Path, number: int) -> None:
    """Until AWS is changed, `deploy` ends like every other command, even from within a library's code."""
    environment = {**os.environ, "LAMBDIFF_HOME": str(tmp_path), "AWS_REGION": "eu-central-1"}
    process = start(sys.executable, "-c", STUCK_DEPLOYMENT, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)  # until the computation itself has begun
    code, _, err = stop(process, number)
    assert code == 128 + number
    assert "Stopped." in err or "nothing was changed in AWS" in err
