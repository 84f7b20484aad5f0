"""DDPM: Ho and others 2020, "Denoising diffusion probabilistic models", eq. 7, with its smaller variance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lambdiff.engine.schedulers.base import SchedulerBase

if TYPE_CHECKING:
    from lambdiff.engine.latents import StepNoise
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array


class DDPM(SchedulerBase):
    """Ancestral sampling from the posterior of the diffusion process.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: at least 1.
        noise: the request's noise of each step.
    """

    def __init__(self, diffusion: Diffusion, steps: int, noise: StepNoise) -> None:
        super().__init__(diffusion, steps)
        self.fresh_noise = noise

    def step(self, output: Array, sample: Array) -> Array:
        """Move to the posterior's mean for the next timestep, and add its noise."""
        timestep = self.timesteps[self.done]
        alpha = self.alpha(timestep)
        is_last = self.done + 1 == len(self.timesteps)
        next_alpha = 1.0 if is_last else self.alpha(self.timesteps[self.done + 1])
        beta = 1 - alpha / next_alpha
        clean = self.limited(self.clean(output, sample, alpha))
        mean: Array = (
            math.sqrt(next_alpha) * beta * clean + math.sqrt(alpha / next_alpha) * (1 - next_alpha) * sample
        ) / (1 - alpha)
        variance = (1 - next_alpha) / (1 - alpha) * beta
        if variance:
            mean = mean + math.sqrt(variance) * self.fresh_noise(self.done, sample.shape)
        self.done += 1
        return mean
