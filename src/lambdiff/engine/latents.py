"""The initial latents of a request: their size and their seeded noise. Both engines use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Manifest
    from lambdiff.protocol.contract import Generation

_POSTERIOR: Final = 2**32
"""The stream of a start image's noise, beyond those of all steps."""
StepNoise = Callable[[int, tuple[int, ...]], "NDArray[np.float32]"]
"""Returns the standard normal noise of one call of the model: takes the call's number, counted from 0, and a shape."""


def step_noise(seed: int) -> StepNoise:
    """Return a request's source of noise for samplers that add some at each step.

    The noise depends on the seed and on the number of the step only. It is counter-based, so it is the same on every
    machine.

    Args:
        seed: 0..2^32-1.
    """

    def noise(step: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return _philox(seed, step + 1).standard_normal(shape, dtype=np.float32)

    return noise


def posterior_noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the noise that turns an encoder's distribution into the latents of a start image."""
    return _philox(seed, _POSTERIOR).standard_normal(shape, dtype=np.float32)


def generated_size(generation: Generation, manifest: Manifest) -> tuple[int, int]:
    """Return the (width, height) in pixels at which the model generates.

    This is the model's native size if it has one, otherwise the requested size rounded up to what the model supports.
    """
    if manifest.native_size:
        return manifest.native_size
    step = manifest.latents.factor * manifest.latents.multiple
    return -(-generation.width // step) * step, -(-generation.height // step) * step


def latents_shape(generation: Generation, manifest: Manifest) -> tuple[int, int, int, int]:
    """Return the shape of a request's latents: (1, channels, height / factor, width / factor)."""
    width, height = generated_size(generation, manifest)
    factor = manifest.latents.factor
    return 1, manifest.latents.channels, height // factor, width // factor


def initial_latents(generation: Generation, manifest: Manifest) -> NDArray[np.float32]:
    """Return the seed's standard normal noise, of shape `latents_shape(...)`."""
    return _philox(generation.seed, 0).standard_normal(latents_shape(generation, manifest), dtype=np.float32)


def _philox(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of one of a seed's independent streams."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, stream]))
