"""Sixty-four concurrent callers: no image is lost, swapped or damaged, and nothing leaks."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lambdiff import Client
from lambdiff.auth.credentials import Keys
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine, pattern

pytestmark = pytest.mark.slow

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
CALLERS = 64
IMAGES = int(os.environ.get("LOAD_IMAGES", "12"))
"""Images for each caller; `LOAD_IMAGES=500 pytest tests/integration/test_load.py` for a longer run."""


def resident() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    """Return the number of open file descriptors of this process."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.linux
@pytest.mark.timeout(900 + IMAGES)
def test_concurrent_callers_get_their_own_images() -> None:
    """Each of many concurrent callers gets the image of its own seed, without leaks of memory, files or threads."""
    before = (handles(), threading.active_count())
    wrong: list[str] = []
    memory: list[int] = []
    halfway = threading.Barrier(CALLERS, lambda: memory.append(resident()))
    with (
        FunctionUrlServer(App(StubEngine), KEYS, "us-east-1", concurrency=CALLERS) as function,
        Client(url=function.url, region="us-east-1", credentials=KEYS) as client,
    ):

        def call(caller: int) -> None:
            for number in range(IMAGES):
                seed = caller + number * CALLERS
                image = client.generate("a cat", seed=seed)
                if image.seed != seed or not np.array_equal(np.asarray(image.image), pattern(seed, 64, 64)):
                    wrong.append(f"seed {seed}")
                if number == IMAGES // 2:
                    halfway.wait()

        def watched(caller: int) -> None:
            try:
                call(caller)
            except Exception as error:
                wrong.append(repr(error))
                halfway.abort()

        callers = [threading.Thread(target=watched, args=(caller,)) for caller in range(CALLERS)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        memory.append(resident())
    assert not wrong
    grown = memory[1] - memory[0]
    assert grown < 20_000_000, f"memory grew by {grown / 1e6:.1f} MB"
    deadline = time.monotonic() + 60
    while (handles(), threading.active_count()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert handles() <= before[0]
    assert threading.active_count() <= before[1]
