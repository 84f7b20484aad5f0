"""Forked processes: each gets its own images, whatever its parent did with a client before or is doing at the time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import lambdiff
from lambdiff import Client, GeneratedImage
from lambdiff.auth.credentials import Keys
from lambdiff.errors import Cancelled, EndpointFailed
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine, pattern

pytestmark = [pytest.mark.linux, pytest.mark.slow]

FORK = multiprocessing.get_context("fork")
KEY, SECRET = "AKIDEXAMPLE", "very-secret-key"
WORKERS = 6
CALLS = 10
ROUNDS = int(os.environ.get("FORK_ROUNDS", "1"))
"""Repetitions of the slowest test; `FORK_ROUNDS=5` for more."""
Generate = Callable[..., GeneratedImage]


def stub_server(address: multiprocessing.SimpleQueue[str]) -> None:
    """Serve patterns until this process is killed."""
    with FunctionUrlServer(App(StubEngine), Keys(KEY, SECRET), "us-east-1", concurrency=WORKERS + 2) as function:
        address.put(function.url)
        threading.Event().wait()


@pytest.fixture(scope="module")
def stub_url() -> Iterator[str]:
    """The URL of a server in another process, whose images are patterns determined by the seed."""
    address = multiprocessing.get_context("spawn").SimpleQueue()
    server = multiprocessing.get_context("spawn").Process(target=stub_server, args=(address,), daemon=True)
    server.start()
    yield address.get()
    server.kill()
    server.join()


@pytest.fixture
def url(stub_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same URL, with credentials for it in the environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1", "LAMBDIFF_URL": stub_url,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return stub_url


def check_pattern(generate: Generate, seed: int) -> None:
    """Generate an image and compare its pixels, its seed and its prompt with the request's."""
    image = generate(f"a cat {seed}", seed=seed)
    assert (image.seed, image.parameters.seed, image.parameters.prompt) == (seed, seed, f"a cat {seed}")
    assert np.array_equal(np.asarray(image.image), pattern(seed, 64, 64))


def run_in_children(check: Callable[[int], None], *, workers: int = WORKERS, calls: int = CALLS) -> list[str]:
    """Fork processes that call `check` with a seed each time; return what went wrong."""
    wrong = FORK.SimpleQueue()

    def work(number: int) -> None:
        for call in range(calls):
            try:
                check(1000 * number + call)
            except BaseException:
                wrong.put(traceback.format_exc())

    children = [FORK.Process(target=work, args=(number,)) for number in range(1, workers + 1)]
    for child in children:
        child.start()
    problems = []
    for child in children:
        child.join(120)
        if child.exitcode != 0:
            problems.append(f"exit code {child.exitcode}")
            child.kill()
    while not wrong.empty():
        problems.append(wrong.get())
    return problems


@pytest.mark.parametrize("kind", ["explicit", "shared"])
def test_sixty_calls_from_six_forked_workers(url: str, kind: str) -> None:
    """After a first use in the parent, no worker gets a broken reply or another's image, five times in a row."""
    client = Client()
    generate = client.generate if kind == "explicit" else lambdiff.generate
    for _ in range(5):
        check_pattern(generate, 1)
        assert run_in_children(lambda seed: check_pattern(generate, seed)) == []
        check_pattern(generate, 2)


@pytest.mark.parametrize("kind", ["explicit", "shared"])
def test_forking_while_threads_use_the_client(url: str, kind: str) -> None:
    """Children work although threads of the parent use the client at the moment of the fork, and so do the threads."""
    client = Client()
    generate = client.generate if kind == "explicit" else lambdiff.generate
    stopped, wrong = threading.Event(), []

    def use(number: int) -> None:
        seed = 100_000 * number
        while not stopped.is_set():
            seed += 1
            try:
                check_pattern(generate, seed)
            except BaseException:
                wrong.append(traceback.format_exc())
                return

    threads = [threading.Thread(target=use, args=(number,), daemon=True) for number in range(1, 3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert run_in_children(lambda seed: check_pattern(generate, seed), workers=4, calls=2) == []
    finally:
        stopped.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []


def seed_of(seed: int) -> int:
    """Generate an image in a worker of a process pool and return its seed."""
    return lambdiff.generate("a cat", seed=seed).seed


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_process_pools(url: str, method: str) -> None:
    """`lambdiff.generate` works in a process pool, however its workers are started, after a use in the parent."""
    lambdiff.generate("a cat")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(seed_of, range(8))) == list(range(8))


SERVE = [sys.executable, "-m", "lambdiff", "serve", "--port", "0", "--concurrency", "8"]


@pytest.mark.engine
def test_sixty_calls_to_lambdiff_serve(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same against `lambdiff serve` with its real model."""
    server = subprocess.Popen(SERVE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        monkeypatch.setenv("LAMBDIFF_URL", server.stdout.readline().strip())

        def check(seed: int) -> None:
            image = lambdiff.generate(f"a cat {seed}", seed=seed, num_inference_steps=1)
            assert (image.seed, image.parameters.seed, image.parameters.prompt) == (seed, seed, f"a cat {seed}")

        for _ in range(ROUNDS):
            check(1)
            assert run_in_children(check) == []
    finally:
        server.kill()
        server.wait()


@pytest.mark.engine
def test_the_engine_in_forked_children() -> None:
    """Children of a process that generates with the local engine, even at that moment, generate the same images."""
    with Client(local=True) as client:

        def pixels(seed: int) -> bytes:
            return client.generate("a cat", seed=seed, num_inference_steps=2).image.tobytes()

        expected = {seed: pixels(seed) for seed in (1000, 2000)}
        stopped = threading.Event()

        def use() -> None:
            while not stopped.is_set():
                pixels(1)

        thread = threading.Thread(target=use, daemon=True)
        thread.start()

        def check(seed: int) -> None:
            assert pixels(seed) == expected[seed]

        try:
            for _ in range(ROUNDS):
                assert run_in_children(check, workers=2, calls=1) == []
        finally:
            stopped.set()
            thread.join(60)


@pytest.mark.engine
def test_children_with_an_inherited_engine_end_normally() -> None:
    """Children that end like any program, not with `os._exit`, neither hang nor crash on the inherited model."""
    program = """
import gc, os, lambdiff
client = lambdiff.Client(local=True)
client.generate("a cat", num_inference_steps=1)
for use in (
    lambda: None, client.close, lambda: globals().pop("client"), lambda: client.generate("a cat", num_inference_steps=1)
):
    child = os.fork()
    if not child:
        use()
        gc.collect()
        break
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


CHILD = """
import os, sys
import lambdiff

def pixels(seed):
    return lambdiff.generate("a cat", seed=seed, num_inference_steps=1).image.tobytes()

expected = pixels(1)
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert pixels(1) == expected
try:
    lambdiff.generate("a cat", width=99)
except lambdiff.InvalidRequest as error:
    assert error.problems[0][0] == "width"
grandchild = os.fork()
assert pixels(1) == expected
if grandchild:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
"""


@pytest.mark.engine
def test_forked_processes_end_as_others_do() -> None:
    """A child of a process with a loaded model, and a child of the child, generate images and end; nothing is left."""
    done = subprocess.run([sys.executable, "-c", CHILD], check=False, timeout=100, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


class Refused(Exception):
    """Raised by the caller's own code."""


@pytest.mark.engine
def test_a_forked_child_counts_steps_and_cancels() -> None:
    """In a forked child, steps are counted, requests are cancelled, and another one is answered after that."""
    with Client(local=True) as client:
        expected = client.generate("a cat", seed=1, num_inference_steps=3).image.tobytes()

        def check(seed: int) -> None:
            steps: list[tuple[int, int]] = []
            client.generate("a cat", seed=seed, num_inference_steps=3, on_step=lambda *step: steps.append(step))
            assert steps == [(1, 3), (2, 3), (3, 3)]
            with pytest.raises(Cancelled):
                client.generate("a cat", num_inference_steps=50, on_step=lambda done, _: done == 2)

            def refuse(done: int, total: int) -> None:
                raise Refused

            with pytest.raises(Refused):
                client.generate("a cat", num_inference_steps=50, on_step=refuse)
            assert client.generate("a cat", seed=1, num_inference_steps=3).image.tobytes() == expected

        assert run_in_children(check, workers=1, calls=1) == []


@pytest.mark.engine
def test_the_process_of_a_forked_child_is_killed() -> None:
    """If the process that generates for a forked child dies, that is an error; the next request starts another one."""
    with Client(local=True) as client:
        client.generate("a cat", num_inference_steps=1)

        def check(seed: int) -> None:
            def kill(done: int, total: int) -> None:
                (process,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                os.kill(int(process), signal.SIGKILL)

            with pytest.raises(EndpointFailed, match="exit code -9"):
                client.generate("a cat", num_inference_steps=50, on_step=kill)
            client.generate("a cat", num_inference_steps=1)

        assert run_in_children(check, workers=1, calls=1) == []
