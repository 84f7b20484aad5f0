"""Euler: Karras and others 2022, "Elucidating the design space of diffusion-based generative models", algorithm 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lambdiff.engine.schedulers.base import SigmaScheduler

if TYPE_CHECKING:
    from lambdiff.engine.manifest import Diffusion
    from lambdiff.engine.schedulers.base import Array


class Euler(SigmaScheduler):
    """Euler's method on the probability-flow equation, without churn. The sample is `clean + sigma * noise`."""

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        largest = self.sigmas[0]
        leading = diffusion.timestep_spacing == "leading"
        self.init_noise_sigma = math.sqrt(largest**2 + 1) if leading else largest

    def scale_model_input(self, sample: Array) -> Array:
        """Return the sample at unit variance."""
        return sample / math.sqrt(self.sigmas[self.done] ** 2 + 1)

    def step(self, output: Array, sample: Array) -> Array:
        """Follow the tangent to the next noise level."""
        sigma, next_sigma = self.sigmas[self.done], self.sigmas[self.done + 1]
        noise = self.noise(output, self.scale_model_input(sample), 1 / (sigma**2 + 1))
        self.done += 1
        moved: Array = sample + (next_sigma - sigma) * noise
        return moved
