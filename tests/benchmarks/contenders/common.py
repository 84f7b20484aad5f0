"""What every contender's process does: import, load, generate twice or more, and print one line of JSON.

Imports only the standard library, so that the measured imports are those of the contender.
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
"""The environment variable with the `time.monotonic()` of the process's start; all processes share this clock."""

PROMPTS = ("a cat in a top hat", "a red dog on blue", "two cat with a hat", "the blue dog in the red hat")
"""One for each request, so that no contender gains from cached embeddings. The last request has the first prompt."""


@dataclass
class Job:
    """The requests that a contender has to answer.

    Attributes:
        model: the folder of the model in the contender's format.
        tiny_autoencoder: a folder of diffusers, for contenders that read the tiny decoder from there.
        size: width and height of the image in pixels.
        decoder: `full` or `tiny`.
        scheduler: by lambdiff's name.
        precision: in the contender's own terms; empty for its default.
        warm: the number of requests after the first.
        image: where to write the last image.
        switch: a function of `switches.py` that changes one thing in the engine; empty for none.
        prompt: of the current request.
        timings: seconds by phase of the current request, filled in by the contender.
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
    image: Path
    switch: str = ""
    prompt: str = ""
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """The number of processors that this process may use."""
        return len(os.sched_getaffinity(0))

    def latents(self) -> Any:
        """Return the initial latents of lambdiff for the seed, of shape (1, 4, size / 8, size / 8)."""
        import numpy as np

        noise = np.random.Generator(np.random.Philox(key=self.seed))
        return noise.standard_normal((1, 4, self.size // 8, self.size // 8), dtype=np.float32)

    def time_method(self, owner: Any, method: str, phase: str) -> None:
        """Add the seconds of every call of a method to a phase."""
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
    """Return the body that a Lambda function would send: a PNG in base64."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue())


def run(
    imports: Callable[[Job], None],
    load: Callable[[Job], Any],
    generate: Callable[[Any, Job], bytes],
    versions: Callable[[Any], dict[str, str]],
) -> None:
    """Run the job that the command line describes.

    Args:
        imports: imports the contender's libraries.
        load: reads the model and returns it for `generate`.
        generate: answers one request with a PNG in base64.
        versions: returns the versions of the libraries that matter, given the model.
    """
    job = _job()
    began = float(os.environ.get(STARTED, time.monotonic()))
    imports(job)
    imported = time.monotonic()
    model = load(job)
    loaded = time.monotonic()
    result: dict[str, Any] = {"imports": imported - began, "load": loaded - imported, "warm": [], "phases": []}
    for number in range(1 + job.warm):
        job.timings.clear()
        job.prompt = PROMPTS[(job.warm - number) % len(PROMPTS)]
        before = time.monotonic()
        body = generate(model, job)
        taken = time.monotonic() - before
        if number == 0:
            result |= {"first": taken, "cold": time.monotonic() - began, "first_phases": dict(job.timings)}
        else:
            result["warm"].append(taken)
            result["phases"].append(dict(job.timings))
    job.image.write_bytes(base64.b64decode(body))
    result |= {
        "peak_mb": _peak_mb(),
        "threads": job.threads,
        "versions": versions(model),
    }
    print("\n" + json.dumps(result), flush=True)


def _peak_mb() -> float:
    """Return the peak memory of this process. `getrusage` would return that of its parent, if it is larger."""
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
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--switch", default="")
    return Job(**vars(parser.parse_args()))
