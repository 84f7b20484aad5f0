"""The interface of a sampler, and base classes for most of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lambdiff.engine.schedulers.noise_schedule import alphas_cumprod, spaced_timesteps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Diffusion

    Array = NDArray[np.floating[Any]]


class Scheduler(Protocol):
    """One request's path from noise to a clean sample.

    Example:
        >>> from lambdiff.engine.manifest import Diffusion
        >>> from lambdiff.engine.schedulers import make
        >>> random = np.random.default_rng(0)
        >>> scheduler = make("euler", Diffusion(), 4, random)
        >>> sample = random.standard_normal((1, 4, 64, 64)) * scheduler.init_noise_sigma
        >>> for timestep in scheduler.timesteps:
        ...     output = unet(scheduler.scale_model_input(sample), timestep)
        ...     sample = scheduler.step(output, sample)
    """

    timesteps: Array
    """The decreasing timesteps to call the model with, one call each. PNDM has one more than the requested steps."""
    init_noise_sigma: float
    """The factor that turns standard normal noise into the first sample."""

    def scale_model_input(self, sample: Array) -> Array:
        """Return the sample scaled as the model expects it at this step."""

    def step(self, output: Array, sample: Array) -> Array:
        """Return the next sample.

        Args:
            output: the model's output at this step.
            sample: the unscaled sample that the output was computed from.
        """


class SchedulerBase:
    """Computes the noise schedule, and turns a model's output into the clean sample or the noise that it predicts.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: the requested number of steps, at least 1.

    Attributes:
        alphas: the schedule's `alphas_cumprod`.
        done: the number of finished steps.
    """

    init_noise_sigma = 1.0
    timesteps: Array

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        self.diffusion = diffusion
        self.steps = steps
        self.alphas = alphas_cumprod(diffusion)
        self.timesteps = np.round(spaced_timesteps(diffusion, steps))
        self.done = 0

    def scale_model_input(self, sample: Array) -> Array:
        """Return the sample itself, whose variance is already one."""
        return sample

    def alpha(self, timestep: float) -> float:
        """Return the cumulative alpha at a timestep; for timesteps below 0, that of the final sample."""
        if timestep < 0:
            return 1.0 if self.diffusion.set_alpha_to_one else float(self.alphas[0])
        return float(self.alphas[int(timestep)])

    def clean(self, output: Array, sample: Array, alpha: float) -> Array:
        """Return the clean sample that the output implies."""
        if self.diffusion.prediction_type == "v_prediction":
            return math.sqrt(alpha) * sample - math.sqrt(1 - alpha) * output
        return (sample - math.sqrt(1 - alpha) * output) / math.sqrt(alpha)

    def noise(self, output: Array, sample: Array, alpha: float) -> Array:
        """Return the noise that the output implies."""
        if self.diffusion.prediction_type == "v_prediction":
            return math.sqrt(alpha) * output + math.sqrt(1 - alpha) * sample
        return output


class SigmaScheduler(SchedulerBase):
    """Base of samplers that interpolate the noise level between training timesteps and end at zero.

    Attributes:
        sigmas: the noise level at each timestep, and a final 0.
    """

    sigmas: list[float]

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        self.set_timesteps(spaced_timesteps(diffusion, steps))

    def set_timesteps(self, timesteps: Array) -> None:
        """Use these timesteps, which may be fractions, and their noise levels."""
        self.timesteps = timesteps
        levels = np.sqrt((1 - self.alphas) / self.alphas)
        self.sigmas = [*np.interp(timesteps, np.arange(len(levels)), levels).tolist(), 0.0]
