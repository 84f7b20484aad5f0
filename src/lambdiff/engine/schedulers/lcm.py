"""LCM: Luo and others 2023, "Latent consistency models", algorithm 3."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lambdiff.engine.schedulers.base import SchedulerBase
from lambdiff.errors import InvalidRequest

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array


class LCM(SchedulerBase):
    """Consistency sampling: jump to the clean sample, add fresh noise, repeat.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: at most `diffusion.original_inference_steps`.
        noise: the request's generator.

    Raises:
        InvalidRequest: more steps than LCM's teacher had.
    """

    TIMESTEP_SCALING: Final = 10.0
    SIGMA_DATA: Final = 0.5

    def __init__(self, diffusion: Diffusion, steps: int, noise: np.random.Generator) -> None:
        original = diffusion.original_inference_steps
        if steps > original:
            detail = f"must be 1..{original} with this model and the scheduler lcm, not {steps}"
            raise InvalidRequest(
                f"`num_inference_steps=` {detail}.",
                fix="Request fewer steps (4 is common), or choose another scheduler.",
                problems=[("num_inference_steps", detail)],
            )
        super().__init__(diffusion, steps)
        teacher = np.arange(original, 0, -1) * (diffusion.num_train_timesteps // original) - 1
        self.timesteps = teacher[np.floor(np.arange(steps) * (original / steps)).astype(int)].astype(np.float64)
        self.generator = noise

    def step(self, output: Array, sample: Array) -> Array:
        """Jump to the clean sample and, unless this is the last step, add fresh noise for the next one."""
        timestep = float(self.timesteps[self.done])
        self.done += 1
        scaled = timestep * self.TIMESTEP_SCALING
        variance = scaled**2 + self.SIGMA_DATA**2
        clean = self.clean(output, sample, self.alpha(timestep))
        denoised = scaled / math.sqrt(variance) * clean + self.SIGMA_DATA**2 / variance * sample
        if self.done == self.steps:
            return denoised
        next_alpha = self.alpha(self.timesteps[self.done])
        fresh = self.generator.standard_normal(sample.shape, dtype=np.float32)
        return math.sqrt(next_alpha) * denoised + math.sqrt(1 - next_alpha) * fresh
