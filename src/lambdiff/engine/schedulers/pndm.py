"""PNDM: Liu and others 2022, "Pseudo numerical methods for diffusion models on manifolds"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lambdiff.engine.schedulers.base import SchedulerBase

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array

_ADAMS_BASHFORTH: Final = {
    1: (1.0,),
    2: (-1 / 2, 3 / 2),
    3: (5 / 12, -16 / 12, 23 / 12),
    4: (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
}
"""Weights of the last 1 to 4 outputs, oldest first."""


class PNDM(SchedulerBase):
    """The linear multistep part (PLMS), without Runge-Kutta steps: Adams-Bashforth over the last four outputs.

    The first step is taken twice, so `timesteps` has one entry more than the requested steps, unless there is only one.
    """

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        if steps > 1:
            self.timesteps = np.insert(self.timesteps, 1, self.timesteps[1])
        self.outputs: list[Array] = []
        self.first_sample: Array = np.zeros(0)

    def skip(self, steps: int) -> None:
        """Leave out the first timesteps.

        As in diffusers, the second call then corrects the first step although its timestep is another one.
        """
        self.timesteps = self.timesteps[steps:]

    def step(self, output: Array, sample: Array) -> Array:
        """Take a DDIM step with the extrapolated output, written as in the paper's equation 9."""
        timestep = self.timesteps[self.done]
        stride = self.diffusion.num_train_timesteps // self.steps
        next_timestep = timestep - stride
        if self.done == 1:
            # The second call corrects the first step, and starts from the same sample.
            timestep, next_timestep = timestep + stride, timestep
            output = (output + self.outputs[-1]) / 2
            sample = self.first_sample
        else:
            self.outputs = [*self.outputs[-3:], output]
            self.first_sample = sample
            output = self._extrapolated()
        self.done += 1
        alpha, next_alpha = self.alpha(timestep), self.alpha(next_timestep)
        noise = self.noise(output, sample, alpha)
        denominator = alpha * math.sqrt(1 - next_alpha) + math.sqrt(alpha * (1 - alpha) * next_alpha)
        return math.sqrt(next_alpha / alpha) * sample - (next_alpha - alpha) / denominator * noise

    def _extrapolated(self) -> Array:
        total = np.zeros_like(self.outputs[0])
        for weight, output in zip(_ADAMS_BASHFORTH[len(self.outputs)], self.outputs, strict=True):
            total += weight * output
        return total
