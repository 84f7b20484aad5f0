"""DDIM: Song and others 2020, "Denoising diffusion implicit models", eq. 12 with sigma = 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lambdiff.engine.schedulers.base import SchedulerBase

if TYPE_CHECKING:
    from lambdiff.engine.schedulers.base import Array


class DDIM(SchedulerBase):
    """Deterministic DDIM."""

    def step(self, output: Array, sample: Array) -> Array:
        """Mix the clean sample and the noise again, for the timestep one stride lower."""
        timestep = self.timesteps[self.done]
        alpha = self.alpha(timestep)
        next_alpha = self.alpha(timestep - self.diffusion.num_train_timesteps // self.steps)
        self.done += 1
        clean, noise = self.limited(self.clean(output, sample, alpha)), self.noise(output, sample, alpha)
        return math.sqrt(next_alpha) * clean + math.sqrt(1 - next_alpha) * noise
