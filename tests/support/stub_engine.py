"""An `Engine` without weights, whose images are patterns determined by the seed, and which can misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import numpy as np

from lambdiff.engine.base import EngineOutput
from lambdiff.engine.manifest import Manifest
from lambdiff.errors import Cancelled
from lambdiff.protocol.contract import Defaults, Generation, Limits, OnStep

MANIFEST = Manifest(
    format=1,
    name="stub",
    revision="r1",
    license="MIT",
    engine="openvino",
    precision="f32",
    defaults=Defaults(num_inference_steps=2, guidance_scale=1.0, width=64, height=64, scheduler="euler"),
    files=[],
    limits=Limits(min_size=64, max_size=512, schedulers=("euler", "ddim")),
)
WITH_PICTURES = msgspec.structs.replace(
    MANIFEST, limits=msgspec.structs.replace(MANIFEST.limits, image="optional", mask="optional")
)
"""The manifest of a model that takes start images and masks."""


def pattern(seed: int, width: int, height: int) -> np.ndarray:
    """Return blocks of 8 x 8 pixels in random colors determined by `seed`, shape (height, width, 3)."""
    blocks = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


class StubEngine:
    """An engine that counts its loads, calls and steps.

    Args:
        step_seconds: how long each step sleeps.
        before_step: called before each step, for instance to block or to advance a fake clock.
        error: raised by `generate`.
        load_error: raised by `load`.
        noise: (width, height) of an image of random pixels that every request gets, whatever its size.
        warnings: returned with each image.
    """

    name = "stub"
    precision = "f32"
    threads = 1
    activity = ""

    def __init__(
        self,
        *,
        step_seconds: float = 0.0,
        before_step: Callable[[], object] = lambda: None,
        error: BaseException | None = None,
        load_error: Exception | None = None,
        noise: tuple[int, int] | None = None,
        warnings: tuple[str, ...] = (),
        manifest: Manifest = MANIFEST,
    ) -> None:
        self.manifest = manifest
        self.step_seconds = step_seconds
        self.before_step = before_step
        self.error = error
        self.load_error = load_error
        self.noise = noise
        self.warnings = warnings
        self.loads = 0
        self.calls = 0
        self.steps = 0
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        return self.loads > 0

    def load(self) -> None:
        if self.load_error:
            raise self.load_error
        self.loads = 1

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        self.load()
        with self._lock:
            self.calls += 1
        started = time.monotonic()
        if self.error:
            raise self.error
        for step in range(generation.num_inference_steps):
            self.before_step()
            time.sleep(self.step_seconds)
            with self._lock:
                self.steps += 1
            if on_step and on_step(step + 1, generation.num_inference_steps):
                raise Cancelled("Stopped by the caller.")
        if self.noise:
            width, height = self.noise
            pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (height, width, 3), np.uint8)
        else:
            pixels = pattern(generation.seed, generation.width, generation.height)
        timings = {"encode": 0.0, "denoise": time.monotonic() - started, "decode": 0.0}
        return EngineOutput(pixels, timings, list(self.warnings))
