"""The interface of a sampler, and base classes for most of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np

from lambdiff.engine.schedulers.noise_schedule import (
    alphas_cumprod,
    noise_levels,
    spaced_sigmas,
    spaced_timesteps,
    timesteps_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Diffusion
    from lambdiff.protocol.contract import SigmaSchedule

    Array = NDArray[np.floating[Any]]


class Scheduler(Protocol):
    """One request's path from noise to a clean sample.

    Example:
        >>> from lambdiff.engine.latents import step_noise
        >>> from lambdiff.engine.manifest import Diffusion
        >>> from lambdiff.engine.schedulers import make
        >>> scheduler = make("euler", Diffusion(), 4, step_noise(seed=0))
        >>> sample = np.random.default_rng(0).standard_normal((1, 4, 64, 64)) * scheduler.init_noise_sigma
        >>> for timestep in scheduler.timesteps:
        ...     output = unet(scheduler.scale_model_input(sample), timestep)
        ...     sample = scheduler.step(output, sample)
    """

    timesteps: Array
    """The decreasing timesteps to call the model with, one call each. Heun and PNDM have more than the requested
    steps."""
    init_noise_sigma: float
    """The factor that turns standard normal noise into the first sample."""

    @property
    def remaining(self) -> Array:
        """Those of the timesteps that are still to come."""

    def skip(self, steps: int) -> None:
        """Leave out the first steps: the sample then begins with a start image at the noise level of the next one."""

    def add_noise(self, sample: Array, noise: Array) -> Array:
        """Return a clean sample with standard normal noise at the level of the next call; clean after the last."""

    def noise_level(self) -> tuple[float, float]:
        """Return the factors of the clean sample and of the noise at the next call."""

    def estimate(self, output: Array, sample: Array, level: tuple[float, float]) -> Array:
        """Return the clean sample that the output at a noise level implies, for previews."""

    def scale_model_input(self, sample: Array) -> Array:
        """Return the sample scaled as the model expects it at this step."""

    def step(self, output: Array, sample: Array) -> Array:
        """Return the next sample.

        Args:
            output: the model's output at this step.
            sample: the unscaled sample that the output was computed from.
        """


_LEAST_SIGNAL: Final = 1e-6
"""Where there is no signal at all, noise alone implies no clean sample."""


class SchedulerBase:
    """Computes the noise schedule, and turns a model's output into the clean sample or the noise that it predicts.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: the requested number of steps, at least 1.

    Attributes:
        alphas: the schedule's `alphas_cumprod`.
        done: the number of finished or skipped calls.
    """

    CALLS_PER_STEP: ClassVar[int] = 1
    init_noise_sigma = 1.0
    timesteps: Array

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        self.diffusion = diffusion
        self.steps = steps
        self.alphas = alphas_cumprod(diffusion)
        self.timesteps = np.round(spaced_timesteps(diffusion, steps))
        self.done = 0

    @property
    def remaining(self) -> Array:
        """The timesteps that are still to come."""
        return self.timesteps[self.done :]

    def skip(self, steps: int) -> None:
        """Leave out the first steps."""
        self.done = steps * self.CALLS_PER_STEP

    def add_noise(self, sample: Array, noise: Array) -> Array:
        """Return a clean sample with noise at the level of the next call."""
        if not len(self.remaining):
            return sample
        signal, deviation = self.noise_level()
        return signal * sample + deviation * noise

    def noise_level(self) -> tuple[float, float]:
        """Return the factors of the clean sample and of the noise at the next call."""
        alpha = self.alpha(self.timesteps[self.done])
        return math.sqrt(alpha), math.sqrt(1 - alpha)

    def estimate(self, output: Array, sample: Array, level: tuple[float, float]) -> Array:
        """Return the clean sample that the output at a noise level implies, for previews.

        Args:
            output: the model's.
            sample: what it was computed from, unscaled.
            level: `noise_level` at that call.
        """
        signal, deviation = level
        norm = math.hypot(signal, deviation)
        return self.clean(output, sample / norm, max((signal / norm) ** 2, _LEAST_SIGNAL))

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
        match self.diffusion.prediction_type:
            case "epsilon":
                return (sample - math.sqrt(1 - alpha) * output) / math.sqrt(alpha)
            case "v_prediction":
                return math.sqrt(alpha) * sample - math.sqrt(1 - alpha) * output
            case "sample":
                return output

    def clipped(self, clean: Array) -> Array:
        """Return the clean sample limited to `clip_sample_range`, for samplers that limit it."""
        limit = self.diffusion.clip_sample_range
        return clean if limit is None else clean.clip(-limit, limit)

    def thresholded(self, clean: Array) -> Array:
        """Return the clean sample limited to a quantile of its magnitudes, if the model asks for it."""
        diffusion = self.diffusion
        if not diffusion.thresholding:
            return clean
        # As in diffusers, where the lower limit of 1 gives way to a smaller `sample_max_value`.
        quantile = max(1.0, float(np.quantile(np.abs(clean), diffusion.dynamic_thresholding_ratio)))
        limit = min(quantile, diffusion.sample_max_value)
        return clean.clip(-limit, limit) / limit

    def limited(self, clean: Array) -> Array:
        """Return the clean sample thresholded or, if the model does not ask for that, clipped."""
        return self.thresholded(clean) if self.diffusion.thresholding else self.clipped(clean)

    def noise(self, output: Array, sample: Array, alpha: float) -> Array:
        """Return the noise that the output implies."""
        match self.diffusion.prediction_type:
            case "epsilon":
                return output
            case "v_prediction":
                return math.sqrt(alpha) * output + math.sqrt(1 - alpha) * sample
            case "sample":
                return (sample - math.sqrt(alpha) * output) / math.sqrt(1 - alpha)


class SigmaScheduler(SchedulerBase):
    """Base of samplers whose steps are noise levels, from the first timestep's down to zero.

    Args:
        diffusion: the noise process that the weights were trained with.
        steps: at least 1.
        sigma_schedule: how the noise levels are spaced; `normal` follows the spacing of the timesteps.

    Attributes:
        sigmas: the noise level at each timestep, and the final one.
    """

    sigmas: list[float]

    def __init__(self, diffusion: Diffusion, steps: int, sigma_schedule: SigmaSchedule = "normal") -> None:
        super().__init__(diffusion, steps)
        if diffusion.rescale_betas_zero_snr:
            self.alphas[-1] = 2.0**-24  # as in diffusers: an infinite noise level could not be scaled
        levels = noise_levels(self.alphas)
        self.timesteps, sigmas = self.schedule(sigma_schedule, levels)
        self.sigmas = [*sigmas.tolist(), self.final_sigma(levels)]

    def schedule(self, sigma_schedule: SigmaSchedule, levels: Array) -> tuple[Array, Array]:
        """Return the timesteps, which may be fractions, and their noise levels.

        Args:
            sigma_schedule: how the noise levels are spaced.
            levels: the noise level at each training timestep.
        """
        timesteps = spaced_timesteps(self.diffusion, self.steps)
        normal = np.interp(timesteps, np.arange(len(levels)), levels)
        if sigma_schedule == "normal":
            return timesteps, normal
        sigmas = spaced_sigmas(sigma_schedule, float(normal[0]), float(normal[-1]), self.steps)
        return timesteps_of(sigmas, levels), sigmas

    def final_sigma(self, levels: Array) -> float:
        """Return the noise level of the result: 0, unless the model's configuration keeps the smallest one."""
        return float(levels[0]) if self.diffusion.final_sigmas_type == "sigma_min" else 0.0


class UnscaledSigmaScheduler(SigmaScheduler):
    """Base of samplers whose sample is `clean + sigma * noise`, as in Karras and others 2022."""

    def __init__(self, diffusion: Diffusion, steps: int, sigma_schedule: SigmaSchedule = "normal") -> None:
        super().__init__(diffusion, steps, sigma_schedule)
        largest: float = self.sigmas[0]
        leading = diffusion.timestep_spacing == "leading"
        self.init_noise_sigma = math.sqrt(largest**2 + 1) if leading else largest

    @property
    def sigma(self) -> float:
        """The noise level at which the model is called next."""
        return self.sigmas[self.done]

    def noise_level(self) -> tuple[float, float]:
        """Return 1 and the noise level."""
        return 1.0, self.sigma

    def scale_model_input(self, sample: Array) -> Array:
        """Return the sample at unit variance."""
        return sample / math.sqrt(self.sigma**2 + 1)

    def slope(self, output: Array, sample: Array) -> Array:
        """Return the derivative of the sample by the noise level, which is the noise that the output implies."""
        return self.noise(output, self.scale_model_input(sample), 1 / (self.sigma**2 + 1))


class MultistepScheduler(SigmaScheduler):
    """Base of multistep solvers in the clean sample; time is the logarithm of the signal-to-noise ratio.

    Attributes:
        order: the number of clean samples that a step combines, at most.
        outputs: the last clean samples, the newest one last.
    """

    def __init__(self, diffusion: Diffusion, steps: int, sigma_schedule: SigmaSchedule = "normal") -> None:
        super().__init__(diffusion, steps, sigma_schedule)
        self.order = diffusion.solver_order
        self.outputs: list[Array] = []

    def schedule(self, sigma_schedule: SigmaSchedule, levels: Array) -> tuple[Array, Array]:
        """Return whole timesteps and their noise levels.

        diffusers' solvers space one step more and omit the last one, because they then jump to the final noise level.
        """
        if sigma_schedule == "normal":
            if self.diffusion.timestep_spacing == "trailing":
                timesteps = np.round(spaced_timesteps(self.diffusion, self.steps))
            else:
                timesteps = np.round(spaced_timesteps(self.diffusion, self.steps + 1)[:-1])
            return timesteps, np.interp(timesteps, np.arange(len(levels)), levels)
        sigmas = spaced_sigmas(sigma_schedule, float(levels[-1]), float(levels[0]), self.steps)
        timesteps = timesteps_of(sigmas, levels)
        # diffusers rounds the timesteps of this schedule and truncates those of the other.
        return np.round(timesteps) if sigma_schedule == "karras" else np.trunc(timesteps), sigmas

    def noise_level(self) -> tuple[float, float]:
        """Return alpha and sigma at the next call."""
        return self.coefficients(self.done)

    def clean_sample(self, output: Array, sample: Array) -> Array:
        """Return the clean sample that the output at this step implies."""
        return self.thresholded(self.clean(output, sample, 1 / (self.sigmas[self.done] ** 2 + 1)))

    def keep(self, clean: Array) -> None:
        """Keep the newest clean sample and drop those that no step combines any more."""
        self.outputs = [*self.outputs, clean][-self.order :]

    def coefficients(self, index: int) -> tuple[float, float]:
        """Return alpha and sigma at a step, with `sample = alpha * clean + sigma * noise`."""
        alpha = 1 / math.sqrt(self.sigmas[index] ** 2 + 1)
        return alpha, self.sigmas[index] * alpha

    def log_snr(self, index: int) -> float:
        """Return half the logarithm of the signal-to-noise ratio at a step; infinite without noise."""
        return -math.log(self.sigmas[index]) if self.sigmas[index] > 0 else math.inf
