"""Sixty-four callers at once: no image is lost, swapped or damaged, and nothing leaks."""

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

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
CALLERS = 64
SECONDS = float(os.environ.get("LOAD_SECONDS", "4"))
"""How long to run; `LOAD_SECONDS=120 pytest tests/integration/test_load.py` for a longer run."""


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    """Open file descriptors of this process."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.linux
@pytest.mark.timeout(SECONDS + 120)
def test_sixty_four_callers() -> None:
    """Client, HTTP, signature check, handler and encoder in one process; each image must be that of its seed."""
    before = (handles(), threading.active_count())
    wrong: list[str] = []
    counts = [0] * CALLERS
    memory = 0
    with (
        FunctionUrlServer(App(StubEngine), KEYS, "us-east-1", concurrency=CALLERS) as function,
        Client(url=function.url, region="us-east-1", credentials=KEYS) as client,
    ):
        end = time.monotonic() + SECONDS

        def call(caller: int) -> None:
            seed = caller
            while counts[caller] == 0 or time.monotonic() < end:
                image = client.generate("a cat", seed=seed)
                if image.seed != seed or not np.array_equal(np.asarray(image.image), pattern(seed, 64, 64)):
                    wrong.append(f"seed {seed}")
                counts[caller] += 1
                seed += CALLERS

        def watched(caller: int) -> None:
            try:
                call(caller)
            except Exception as error:
                wrong.append(repr(error))

        callers = [threading.Thread(target=watched, args=(caller,)) for caller in range(CALLERS)]
        for each in callers:
            each.start()
        time.sleep(SECONDS / 2)
        memory = resident()
        for each in callers:
            each.join()
        grown = resident() - memory
    print(f"\n{sum(counts)} images, {min(counts)} for the slowest caller, memory grew by {grown / 1e6:.1f} MB")
    assert not wrong
    assert min(counts) > 0
    assert grown < 20_000_000
    deadline = time.monotonic() + 60
    while (handles(), threading.active_count()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert handles() <= before[0]
    assert threading.active_count() <= before[1]
