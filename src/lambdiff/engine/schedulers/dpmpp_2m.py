"""DPM-Solver++ (2M): Lu and others 2022, "DPM-Solver++", algorithm 2, with a last step of first order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lambdiff.engine.schedulers.base import SigmaScheduler
from lambdiff.engine.schedulers.noise_schedule import spaced_timesteps

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array


class DPMSolverPlusPlus2M(SigmaScheduler):
    """Second-order multistep in the clean sample; time is the logarithm of the signal-to-noise ratio."""

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        if diffusion.timestep_spacing != "trailing":
            # diffusers spaces one step more and omits the last one, because the solver then jumps to zero noise.
            self.set_timesteps(np.round(spaced_timesteps(diffusion, steps + 1)[:-1]))
        self.previous: Array | None = None

    def step(self, output: Array, sample: Array) -> Array:
        """Solve the linear part exactly, with the clean sample extrapolated from this step and the last one."""
        index = self.done
        self.done += 1
        sigma, next_sigma = self.sigmas[index], self.sigmas[index + 1]
        clean = self.clean(output, sample, 1 / (sigma**2 + 1))
        if next_sigma == 0:
            return clean
        direction = clean
        if self.previous is not None:
            ratio = math.log(sigma / next_sigma) / math.log(self.sigmas[index - 1] / sigma)
            direction = clean + ratio / 2 * (clean - self.previous)
        self.previous = clean
        alpha, next_alpha = 1 / math.sqrt(sigma**2 + 1), 1 / math.sqrt(next_sigma**2 + 1)
        retained = (next_sigma * next_alpha) / (sigma * alpha)
        moved: Array = retained * sample + next_alpha * (1 - next_sigma / sigma) * direction
        return moved
