"""What every contender's process does: import, load, draw, draw again, and print one line of JSON.

Imports only the standard library, so that the seconds of a contender's own imports are its own.
"""

from __future__ import annotations

import argparse
import base64
import functools
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTED = "BENCHMARK_STARTED"
"""Environment variable: `time.monotonic()` at which the process was started, the same clock in every process."""

PROMPTS = ("a cat in a top hat", "a red dog on blue", "two cat with a hat", "the blue dog in the red hat")
"""Another for each request, so that no contender profits from kept embeddings; the last request has the first."""


@dataclass
class Job:
    """What is drawn, and how.

    Attributes:
        model: the contender's form of the model.
        tiny_autoencoder: a folder of diffusers, for those that take the tiny decoder from there.
        decoder: `full` or `tiny`.
        scheduler: lambdiff's name of it.
        precision: what the contender understands by it; empty for its own choice.
        warm: requests after the first.
        picture: where the last picture goes.
        switch: what is done otherwise than usual; see `switches.py`.
        prompt: of the current request.
        timings: seconds by phase of the current request, for the contender to fill in.
    """

    model: Path
    tiny_autoencoder: Path
    size: int
    steps: int
    guidance: float
    scheduler: str
    decoder: str
    precision: str
    seed: int
    warm: int
    picture: Path
    switch: str = ""
    prompt: str = ""
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """The processors that this process may use; limited from outside."""
        return len(os.sched_getaffinity(0))

    def latents(self) -> Any:
        """The initial latents that lambdiff draws from this seed: shape (1, 4, size / 8, size / 8)."""
        import numpy as np

        noise = np.random.Generator(np.random.Philox(key=self.seed))
        return noise.standard_normal((1, 4, self.size // 8, self.size // 8), dtype=np.float32)

    def time_method(self, owner: Any, method: str, phase: str) -> None:
        """Count the seconds of every call of a method in a phase."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.timings[phase] = self.timings.get(phase, 0.0) + time.perf_counter() - began

        setattr(owner, method, timed)


def reply(image: Any) -> bytes:
    """What a function would send: a PNG as base64."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue())


def run(
    imports: Callable[[Job], None],
    load: Callable[[Job], Any],
    draw: Callable[[Any, Job], bytes],
    versions: Callable[[Any], dict[str, str]],
) -> None:
    """Do the job that the command line describes.

    Args:
        imports: imports the contender's libraries.
        load: reads the model; what it returns is given to `draw`.
        draw: answers one request with a base64 PNG.
        versions: of the libraries that count; gets the same as `draw`.
    """
    job = _job()
    began = float(os.environ.get(STARTED, time.monotonic()))
    imports(job)
    imported = time.monotonic()
    state = load(job)
    loaded = time.monotonic()
    result: dict[str, Any] = {"imports": imported - began, "load": loaded - imported, "warm": [], "phases": []}
    for number in range(1 + job.warm):
        job.timings.clear()
        job.prompt = PROMPTS[(job.warm - number) % len(PROMPTS)]
        before = time.monotonic()
        body = draw(state, job)
        taken = time.monotonic() - before
        if number == 0:
            result |= {"first": taken, "cold": time.monotonic() - began, "first_phases": dict(job.timings)}
        else:
            result["warm"].append(taken)
            result["phases"].append(dict(job.timings))
    job.picture.write_bytes(base64.b64decode(body))
    result |= {
        "peak_mb": _peak_mb(),
        "threads": job.threads,
        "versions": versions(state),
    }
    print("\n" + json.dumps(result), flush=True)


def _peak_mb() -> float:
    """The most memory that this process had. `getrusage` would tell its parent's where that had more."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def _job() -> Job:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tiny-autoencoder", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--scheduler", default="pndm")
    parser.add_argument("--decoder", choices=("full", "tiny"), default="full")
    parser.add_argument("--precision", default="")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--switch", default="")
    return Job(**vars(parser.parse_args()))
