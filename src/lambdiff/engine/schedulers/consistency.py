"""Samplers of models that were distilled to few steps on the schedule of a teacher.

LCM: Luo and others 2023, "Latent consistency models", algorithm 3. TCD: Zheng and others 2024, "Trajectory consistency
distillation", algorithm 4.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from lambdiff.engine.schedulers.base import SchedulerBase
from lambdiff.errors import InvalidRequest

if TYPE_CHECKING:
    from lambdiff.engine.latents import StepNoise
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array


class _TeacherSchedule(SchedulerBase):
    """Uses evenly spaced steps of the teacher's schedule.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: at most `diffusion.original_inference_steps`.
        noise: the request's noise of each step.

    Raises:
        InvalidRequest: more steps than the teacher had.
    """

    NAME: ClassVar[str]

    def __init__(self, diffusion: Diffusion, steps: int, noise: StepNoise) -> None:
        original = diffusion.original_inference_steps
        if steps > original:
            detail = f"must be 1..{original} with this model and the scheduler {self.NAME}, not {steps}"
            raise InvalidRequest(
                f"`num_inference_steps=` {detail}.",
                fix="Request fewer steps (4 is common), or choose another scheduler.",
                problems=[("num_inference_steps", detail)],
            )
        super().__init__(diffusion, steps)
        teacher = np.arange(original, 0, -1) * (diffusion.num_train_timesteps // original) - 1
        self.timesteps = teacher[np.floor(np.arange(steps) * (original / steps)).astype(int)].astype(np.float64)
        self.fresh_noise = noise

    def with_noise(self, sample: Array, alpha: float, next_alpha: float) -> Array:
        """Add fresh noise to a sample, from the cumulative alpha that it has to the next one."""
        share = next_alpha / alpha
        fresh = self.fresh_noise(self.done, sample.shape)
        return math.sqrt(share) * sample + math.sqrt(1 - share) * fresh


class LCM(_TeacherSchedule):
    """Consistency sampling: jump to the clean sample, add fresh noise, repeat."""

    NAME = "lcm"
    SIGMA_DATA: Final = 0.5

    def step(self, output: Array, sample: Array) -> Array:
        """Jump to the clean sample and, unless this is the last step, add fresh noise for the next one."""
        timestep = float(self.timesteps[self.done])
        scaled = timestep * self.diffusion.timestep_scaling
        variance = scaled**2 + self.SIGMA_DATA**2
        clean = self.limited(self.clean(output, sample, self.alpha(timestep)))
        denoised = scaled / math.sqrt(variance) * clean + self.SIGMA_DATA**2 / variance * sample
        if self.done + 1 < self.steps:
            denoised = self.with_noise(denoised, 1.0, self.alpha(self.timesteps[self.done + 1]))
        self.done += 1
        return denoised


class TCD(_TeacherSchedule):
    """Strategic stochastic sampling: jump below the next timestep, then add noise up to it."""

    NAME = "tcd"

    def step(self, output: Array, sample: Array) -> Array:
        """Mix the clean sample and the noise again for a lower timestep, then add fresh noise."""
        alpha = self.alpha(self.timesteps[self.done])
        is_last = self.done + 1 == self.steps
        next_timestep = 0.0 if is_last else float(self.timesteps[self.done + 1])
        lower_alpha = self.alpha(math.floor((1 - self.diffusion.eta) * next_timestep))
        clean, noise = self.clean(output, sample, alpha), self.noise(output, sample, alpha)
        moved: Array = math.sqrt(lower_alpha) * clean + math.sqrt(1 - lower_alpha) * noise
        if not is_last and self.diffusion.eta > 0:
            moved = self.with_noise(moved, lower_alpha, self.alpha(next_timestep))
        self.done += 1
        return moved
