"""Heun: Karras and others 2022, "Elucidating the design space of diffusion-based generative models", algorithm 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lambdiff.engine.schedulers.base import UnscaledSigmaScheduler

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array
    from lambdiff.protocol.contract import SigmaSchedule


class Heun(UnscaledSigmaScheduler):
    """Heun's second-order method, without churn: two calls of the model per step, except for the last step."""

    CALLS_PER_STEP = 2

    def __init__(self, diffusion: Diffusion, steps: int, sigma_schedule: SigmaSchedule = "normal") -> None:
        super().__init__(diffusion, steps, sigma_schedule)
        *sigmas, final = self.sigmas
        self.timesteps = np.repeat(self.timesteps, 2)[1:]
        self.sigmas = [*np.repeat(sigmas, 2)[1:].tolist(), final]
        self.start: tuple[Array, Array] | None = None

    def final_sigma(self, levels: Array) -> float:
        """Return 0: this sampler always ends without noise."""
        return 0.0

    def step(self, output: Array, sample: Array) -> Array:
        """Take Euler's step; at the next call, take it again with the mean of the slopes at both ends."""
        slope = self.slope(output, sample)
        if self.diffusion.clip_sample_range is not None:
            slope = (sample - self.clipped(sample - self.sigma * slope)) / self.sigma
        if self.start is None:
            length = self.sigmas[self.done + 1] - self.sigma
            self.start = (sample, slope)
        else:
            length = self.sigma - self.sigmas[self.done - 1]
            (sample, first_slope), self.start = self.start, None
            slope = (first_slope + slope) / 2
        self.done += 1
        moved: Array = sample + length * slope
        return moved
