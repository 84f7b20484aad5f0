"""The noise schedule of a trained model, and the timesteps that a sampler uses.

With `a` the cumulative product of `1 - beta`, a noisy sample is `sqrt(a) * clean + sqrt(1 - a) * noise`. The model
predicts either the noise (epsilon) or `sqrt(a) * noise - sqrt(1 - a) * clean` (v, Salimans and Ho 2022), and the noise
level `sigma` is `sqrt((1 - a) / a)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Diffusion

    Array = NDArray[np.floating[Any]]


def alphas_cumprod(diffusion: Diffusion) -> Array:
    """Return, for each training timestep, the clean sample's share of the variance; shape (num_train_timesteps,)."""
    count = diffusion.num_train_timesteps
    if diffusion.beta_schedule == "linear":
        betas = np.linspace(diffusion.beta_start, diffusion.beta_end, count)
    else:
        betas = np.linspace(diffusion.beta_start**0.5, diffusion.beta_end**0.5, count) ** 2
    return np.cumprod(1.0 - betas)


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
