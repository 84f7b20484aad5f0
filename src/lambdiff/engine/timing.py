"""Time the phases of a request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(timings: dict[str, float], phase: str) -> Iterator[None]:
    """Store the seconds that the body takes as `timings[phase]`, unless it raises."""
    start = time.perf_counter()
    yield
    timings[phase] = time.perf_counter() - start
