"""The initial latents of a request: their size and their seeded noise. Both engines use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Manifest
    from lambdiff.protocol.contract import Generation


def noise_generator(seed: int) -> np.random.Generator:
    """Return a request's only source of randomness. It is counter-based, so it is the same on every machine.

    Args:
        seed: 0..2^32-1.
    """
    return np.random.Generator(np.random.Philox(key=seed))


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


def initial_latents(generation: Generation, manifest: Manifest, noise: np.random.Generator) -> NDArray[np.float32]:
    """Return standard normal noise of shape `latents_shape(...)`.

    Call this before anything else draws from `noise`, so that a seed means the same noise in both engines.
    """
    return noise.standard_normal(latents_shape(generation, manifest), dtype=np.float32)
