"""Euler with ancestral sampling, from Katherine Crowson's k-diffusion (`sample_euler_ancestral`, eta = 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lambdiff.engine.schedulers.base import UnscaledSigmaScheduler

if TYPE_CHECKING:
    from lambdiff.engine.latents import StepNoise
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array


class EulerAncestral(UnscaledSigmaScheduler):
    """Euler's method to a lower noise level than the next one, then fresh noise up to it.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: at least 1.
        noise: the request's noise of each step.
    """

    def __init__(self, diffusion: Diffusion, steps: int, noise: StepNoise) -> None:
        super().__init__(diffusion, steps)
        self.fresh_noise = noise

    def final_sigma(self, levels: Array) -> float:
        """Return 0: this sampler always ends without noise."""
        return 0.0

    def step(self, output: Array, sample: Array) -> Array:
        """Split the next noise level into what Euler's method leaves and what fresh noise adds."""
        sigma, next_sigma = self.sigmas[self.done], self.sigmas[self.done + 1]
        added = next_sigma * math.sqrt(1 - (next_sigma / sigma) ** 2)
        left = math.sqrt(next_sigma**2 - added**2)
        moved: Array = sample + (left - sigma) * self.slope(output, sample)
        if added:
            moved = moved + added * self.fresh_noise(self.done, sample.shape)
        self.done += 1
        return moved
