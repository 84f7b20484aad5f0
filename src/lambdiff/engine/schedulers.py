"""Samplers in numpy: from the model's output at each timestep to the next, less noisy sample.

Each class follows its paper and agrees, step by step, with diffusers' class of the same name in the settings that
Stable Diffusion pipelines use. An object serves one request: it counts its steps.

    Euler    Karras and others 2022, "Elucidating the design space", algorithm 1 without churn
    DDIM     Song and others 2020, "Denoising diffusion implicit models", eq. 12 with sigma = 0
    LCM      Luo and others 2023, "Latent consistency models", algorithm 3
    PNDM     Liu and others 2022, "Pseudo numerical methods", the linear multistep part (PLMS) alone
    DPM++2M  Lu and others 2022, "DPM-Solver++", algorithm 2, last step of first order

With `a` the cumulative product of `1 - beta`, a noisy sample is `sqrt(a) * clean + sqrt(1 - a) * noise`, the model
predicts either the noise (epsilon) or `sqrt(a) * noise - sqrt(1 - a) * clean` (v, Salimans & Ho 2022), and `sigma` is
`sqrt((1 - a) / a)`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from lambdiff.errors import InvalidRequest
from lambdiff.protocol.contract import SchedulerName

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Diffusion

    Array = NDArray[np.floating[Any]]


class Scheduler(Protocol):
    """One request's way from noise to a clean sample.

    Example:
        >>> scheduler = make("euler", Diffusion(), 4, np.random.default_rng(0))
        >>> sample = noise * scheduler.init_noise_sigma
        >>> for timestep in scheduler.timesteps:
        ...     output = unet(scheduler.scale_model_input(sample), timestep)
        ...     sample = scheduler.step(output, sample)
    """

    timesteps: Array
    """What the model is called with, one call each, falling; PNDM makes one call more than it was asked for."""
    init_noise_sigma: float
    """What standard normal noise is multiplied by to make the first sample."""

    def scale_model_input(self, sample: Array) -> Array:
        """The sample as the model wants to see it at this step."""

    def step(self, output: Array, sample: Array) -> Array:
        """The next sample, from the model's output at this step and the unscaled sample it was made from."""


def make(name: SchedulerName, diffusion: Diffusion, num_inference_steps: int, noise: np.random.Generator) -> Scheduler:
    """A scheduler for one request.

    Args:
        name: the contract's name.
        diffusion: the noise process that the weights were trained with.
        num_inference_steps: at least 1.
        noise: the request's own generator; only LCM draws from it.

    Raises:
        InvalidRequest: more steps than LCM's teacher had.
    """
    if name == "lcm":
        return LCM(diffusion, num_inference_steps, noise)
    return _DETERMINISTIC[name](diffusion, num_inference_steps)


def alphas_cumprod(diffusion: Diffusion) -> Array:
    """The share of the clean sample's variance that is left at each training timestep."""
    count = diffusion.num_train_timesteps
    if diffusion.beta_schedule == "linear":
        betas = np.linspace(diffusion.beta_start, diffusion.beta_end, count)
    else:
        betas = np.linspace(diffusion.beta_start**0.5, diffusion.beta_end**0.5, count) ** 2
    return np.cumprod(1.0 - betas)


def spaced(diffusion: Diffusion, steps: int) -> Array:
    """Timesteps, falling, as in table 2 of Lin and others 2023, "Common diffusion noise schedules [...] are flawed".

    Those of `linspace` are fractions; a sampler without interpolation rounds them.
    """
    count = diffusion.num_train_timesteps
    if diffusion.timestep_spacing == "linspace":
        return np.linspace(0, count - 1, steps)[::-1]
    if diffusion.timestep_spacing == "leading":
        return np.arange(steps)[::-1] * float(count // steps) + diffusion.steps_offset
    return np.round(np.arange(count, 0, -count / steps)[:steps]) - 1


class _Base:
    init_noise_sigma = 1.0
    timesteps: Array

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        self.diffusion = diffusion
        self.steps = steps
        self.alphas = alphas_cumprod(diffusion)
        self.timesteps = np.round(spaced(diffusion, steps))
        self.done = 0

    def scale_model_input(self, sample: Array) -> Array:
        """The sample itself: its variance is one already."""
        return sample

    def _alpha(self, timestep: float) -> float:
        """The cumulative alpha at a timestep; before the first one the sample is clean, or as clean as it gets."""
        if timestep < 0:
            return 1.0 if self.diffusion.set_alpha_to_one else float(self.alphas[0])
        return float(self.alphas[int(timestep)])

    def _clean(self, output: Array, sample: Array, alpha: float) -> Array:
        """The clean sample that the output stands for."""
        if self.diffusion.prediction_type == "v_prediction":
            return math.sqrt(alpha) * sample - math.sqrt(1 - alpha) * output
        return (sample - math.sqrt(1 - alpha) * output) / math.sqrt(alpha)

    def _noise(self, output: Array, sample: Array, alpha: float) -> Array:
        """The noise that the output stands for."""
        if self.diffusion.prediction_type == "v_prediction":
            return math.sqrt(alpha) * output + math.sqrt(1 - alpha) * sample
        return output


class DDIM(_Base):
    """Deterministic DDIM."""

    def step(self, output: Array, sample: Array) -> Array:
        """Clean sample and noise, mixed anew for the timestep one stride lower."""
        timestep = self.timesteps[self.done]
        alpha = self._alpha(timestep)
        following = self._alpha(timestep - self.diffusion.num_train_timesteps // self.steps)
        self.done += 1
        clean, noise = self._clean(output, sample, alpha), self._noise(output, sample, alpha)
        return math.sqrt(following) * clean + math.sqrt(1 - following) * noise


class PNDM(_Base):
    """PLMS: Adams-Bashforth over the last four noises, started by repeating the first step."""

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        if steps > 1:
            self.timesteps = np.insert(self.timesteps, 1, self.timesteps[1])
        self.outputs: list[Array] = []
        self.first_sample: Array = np.zeros(0)

    def step(self, output: Array, sample: Array) -> Array:
        """DDIM's step with the extrapolated noise, written as in the paper's equation 9."""
        timestep = self.timesteps[self.done]
        stride = self.diffusion.num_train_timesteps // self.steps
        following = timestep - stride
        if self.done == 1:
            # The second call corrects the first step, from where that one started.
            timestep, following = timestep + stride, timestep
            output = (output + self.outputs[-1]) / 2
            sample = self.first_sample
        else:
            self.outputs = [*self.outputs[-3:], output]
            self.first_sample = sample
            output = self._extrapolated()
        self.done += 1
        alpha, after = self._alpha(timestep), self._alpha(following)
        noise = self._noise(output, sample, alpha)
        denominator = alpha * math.sqrt(1 - after) + math.sqrt(alpha * (1 - alpha) * after)
        return math.sqrt(after / alpha) * sample - (after - alpha) / denominator * noise

    def _extrapolated(self) -> Array:
        total = np.zeros_like(self.outputs[0])
        for weight, output in zip(_ADAMS_BASHFORTH[len(self.outputs)], self.outputs, strict=True):
            total += weight * output
        return total


_ADAMS_BASHFORTH: Final = {
    1: (1.0,),
    2: (-1 / 2, 3 / 2),
    3: (5 / 12, -16 / 12, 23 / 12),
    4: (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
}


class LCM(_Base):
    """Consistency sampling: jump to the clean sample, add fresh noise, repeat."""

    TIMESTEP_SCALING: Final = 10.0
    SIGMA_DATA: Final = 0.5

    def __init__(self, diffusion: Diffusion, steps: int, noise: np.random.Generator) -> None:
        original = diffusion.original_inference_steps
        if steps > original:
            detail = f"is {steps}; the scheduler lcm takes at most {original} with this model"
            raise InvalidRequest(
                f"num_inference_steps: {detail}",
                fix="Ask for fewer steps (4 is usual), or name another scheduler.",
                problems=[("num_inference_steps", detail)],
            )
        super().__init__(diffusion, steps)
        teacher = np.arange(original, 0, -1) * (diffusion.num_train_timesteps // original) - 1
        self.timesteps = teacher[np.floor(np.arange(steps) * (original / steps)).astype(int)].astype(np.float64)
        self.noise = noise

    def step(self, output: Array, sample: Array) -> Array:
        """Jump to the clean sample; unless this is the last step, add fresh noise for the next one."""
        timestep = float(self.timesteps[self.done])
        self.done += 1
        scaled = timestep * self.TIMESTEP_SCALING
        variance = scaled**2 + self.SIGMA_DATA**2
        clean = self._clean(output, sample, self._alpha(timestep))
        denoised = scaled / math.sqrt(variance) * clean + self.SIGMA_DATA**2 / variance * sample
        if self.done == self.steps:
            return denoised
        following = self._alpha(self.timesteps[self.done])
        fresh = self.noise.standard_normal(sample.shape, dtype=np.float32)
        return math.sqrt(following) * denoised + math.sqrt(1 - following) * fresh


class _Sigmas(_Base):
    """Samplers that interpolate the noise level between training timesteps and end at zero."""

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        self._set_timesteps(spaced(diffusion, steps))

    def _set_timesteps(self, timesteps: Array) -> None:
        self.timesteps = timesteps
        levels = np.sqrt((1 - self.alphas) / self.alphas)
        self.sigmas = [*np.interp(timesteps, np.arange(len(levels)), levels).tolist(), 0.0]


class Euler(_Sigmas):
    """Euler's method on the probability-flow equation; the sample is `clean + sigma * noise`."""

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        largest = self.sigmas[0]
        leading = diffusion.timestep_spacing == "leading"
        self.init_noise_sigma = math.sqrt(largest**2 + 1) if leading else largest

    def scale_model_input(self, sample: Array) -> Array:
        """The sample at unit variance."""
        return sample / math.sqrt(self.sigmas[self.done] ** 2 + 1)

    def step(self, output: Array, sample: Array) -> Array:
        """Along the tangent to the next noise level."""
        sigma, following = self.sigmas[self.done], self.sigmas[self.done + 1]
        noise = self._noise(output, self.scale_model_input(sample), 1 / (sigma**2 + 1))
        self.done += 1
        moved: Array = sample + (following - sigma) * noise
        return moved


class DPMSolverPlusPlus2M(_Sigmas):
    """Second-order multistep in the clean sample, with the logarithm of the signal-to-noise ratio as time."""

    def __init__(self, diffusion: Diffusion, steps: int) -> None:
        super().__init__(diffusion, steps)
        if diffusion.timestep_spacing != "trailing":
            # This family spaces one step more and leaves the last one out, which is where it jumps to zero noise.
            self._set_timesteps(np.round(spaced(diffusion, steps + 1)[:-1]))
        self.previous: Array | None = None

    def step(self, output: Array, sample: Array) -> Array:
        """The exact linear part, and the clean sample extrapolated from this step's and the last one's."""
        index = self.done
        self.done += 1
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        clean = self._clean(output, sample, 1 / (sigma**2 + 1))
        if following == 0:
            return clean
        direction = clean
        if self.previous is not None:
            ratio = math.log(sigma / following) / math.log(self.sigmas[index - 1] / sigma)
            direction = clean + ratio / 2 * (clean - self.previous)
        self.previous = clean
        alpha, alpha_following = 1 / math.sqrt(sigma**2 + 1), 1 / math.sqrt(following**2 + 1)
        kept = (following * alpha_following) / (sigma * alpha)
        moved: Array = kept * sample + alpha_following * (1 - following / sigma) * direction
        return moved


_DETERMINISTIC: Final[dict[str, type[DDIM | PNDM | Euler | DPMSolverPlusPlus2M]]] = {
    "ddim": DDIM,
    "dpmpp_2m": DPMSolverPlusPlus2M,
    "euler": Euler,
    "pndm": PNDM,
}
