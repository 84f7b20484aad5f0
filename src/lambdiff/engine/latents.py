"""Where a picture's randomness comes from, and what else both engines must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Manifest
    from lambdiff.protocol.contract import Generation


def noise_generator(seed: int) -> np.random.Generator:
    """The request's only source of randomness: counter-based, so the same on every machine and in both engines.

    Args:
        seed: 0..2^32-1.
    """
    return np.random.Generator(np.random.Philox(key=seed))


def drawn_size(generation: Generation, manifest: Manifest) -> tuple[int, int]:
    """(width, height) that the model itself draws: its native size, or the requested one rounded up to what it can."""
    if manifest.native_size:
        return manifest.native_size
    step = manifest.latents.factor * manifest.latents.multiple
    return -(-generation.width // step) * step, -(-generation.height // step) * step


def initial_latents(generation: Generation, manifest: Manifest, noise: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal noise of shape (1, channels, height / factor, width / factor); the generator's first draw."""
    width, height = drawn_size(generation, manifest)
    latents = manifest.latents
    shape = (1, latents.channels, height // latents.factor, width // latents.factor)
    return noise.standard_normal(shape, dtype=np.float32)


def guidance_embedding(guidance_scale: float, width: int) -> NDArray[np.float32]:
    """The guidance scale as a sinusoidal embedding of shape (1, width), for UNets distilled to take it as an input.

    Source: Meng and others 2022, "On distillation of guided diffusion models"; the formula is that of the timestep
    embedding in Google's `vdm` code, applied to `1000 * (guidance_scale - 1)`.
    """
    half = width // 2
    frequencies = np.exp(np.arange(half) * -(np.log(10_000.0) / (half - 1)))
    angles = (guidance_scale - 1) * 1000.0 * frequencies
    embedding = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    return embedding[None].astype(np.float32)
