"""The noise schedule of a trained model, and the timesteps and noise levels that a sampler uses.

With `a` the cumulative product of `1 - beta`, a noisy sample is `sqrt(a) * clean + sqrt(1 - a) * noise`. The model
predicts the noise (epsilon), the clean sample, or `sqrt(a) * noise - sqrt(1 - a) * clean` (v, Salimans and Ho 2022),
and the noise level `sigma` is `sqrt((1 - a) / a)`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Diffusion
    from lambdiff.protocol.contract import SigmaSchedule

    Array = NDArray[np.floating[Any]]

_KARRAS_RHO: Final = 7.0
_MAX_BETA: Final = 0.999


def alphas_cumprod(diffusion: Diffusion) -> Array:
    """Return, for each training timestep, the clean sample's share of the variance; shape (num_train_timesteps,)."""
    alphas = np.cumprod(1.0 - _betas(diffusion))
    return _with_zero_terminal_snr(alphas) if diffusion.rescale_betas_zero_snr else alphas


def _betas(diffusion: Diffusion) -> Array:
    count = diffusion.num_train_timesteps
    if diffusion.trained_betas is not None:
        return np.array(diffusion.trained_betas)
    match diffusion.beta_schedule:
        case "linear":
            return np.linspace(diffusion.beta_start, diffusion.beta_end, count)
        case "scaled_linear":
            roots: Array = np.linspace(diffusion.beta_start**0.5, diffusion.beta_end**0.5, count)
            betas: Array = roots**2
            return betas
        case "squaredcos_cap_v2":
            # Nichol and Dhariwal 2021, "Improved denoising diffusion probabilistic models", eq. 17.
            shares = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * math.pi / 2) ** 2
            capped: Array = np.minimum(1 - shares[1:] / shares[:-1], _MAX_BETA)
            return capped


def _with_zero_terminal_snr(alphas: Array) -> Array:
    """Return the schedule shifted and scaled so that the last timestep is pure noise.

    Source: Lin and others 2023, "Common diffusion noise schedules and sample steps are flawed", algorithm 1.
    """
    roots = np.sqrt(alphas)
    shifted: Array = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    return shifted**2


def spaced_timesteps(diffusion: Diffusion, steps: int) -> Array:
    """Return `steps` decreasing timesteps with the manifest's spacing.

    The three spacings come from table 2 in Lin and others 2023, "Common diffusion noise schedules and sample steps are
    flawed". With `linspace` the timesteps are fractions, which samplers that do not interpolate round.

    Example:
        >>> from lambdiff.engine.manifest import Diffusion
        >>> spaced_timesteps(Diffusion(timestep_spacing="trailing"), 4).tolist()
        [999.0, 749.0, 499.0, 249.0]
    """
    count = diffusion.num_train_timesteps
    if diffusion.timestep_spacing == "linspace":
        return np.linspace(0, count - 1, steps)[::-1]
    if diffusion.timestep_spacing == "leading":
        return np.arange(steps)[::-1] * float(count // steps) + diffusion.steps_offset
    return np.round(np.arange(count, 0, -count / steps)[:steps]) - 1


def noise_levels(alphas: Array) -> Array:
    """Return the noise level at each training timestep, in increasing order."""
    levels: Array = np.sqrt((1 - alphas) / alphas)
    return levels


def spaced_sigmas(schedule: SigmaSchedule, largest: float, smallest: float, steps: int) -> Array:
    """Return `steps` decreasing noise levels from `largest` to `smallest`.

    Args:
        schedule: `karras` (Karras and others 2022, "Elucidating the design space of diffusion-based generative models",
            eq. 5 with rho = 7) or `exponential` (evenly spaced logarithms).
        largest: the first noise level.
        smallest: the last one.
        steps: at least 1.

    Example:
        >>> spaced_sigmas("exponential", 8.0, 0.5, 5).round(6).tolist()
        [8.0, 4.0, 2.0, 1.0, 0.5]
    """
    ramp = np.linspace(0, 1, steps)
    if schedule == "karras":
        start, stop = largest ** (1 / _KARRAS_RHO), smallest ** (1 / _KARRAS_RHO)
        sigmas: Array = (start + ramp * (stop - start)) ** _KARRAS_RHO
        return sigmas
    return np.exp(math.log(largest) + ramp * (math.log(smallest) - math.log(largest)))


def timesteps_of(sigmas: Array, levels: Array) -> Array:
    """Return the fractional training timesteps at which the noise has these levels, interpolated in the logarithm."""
    timesteps: Array = np.interp(np.log(sigmas), np.log(levels), np.arange(len(levels), dtype=np.float64))
    return timesteps
