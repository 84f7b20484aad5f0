"""Classifier-free guidance, and its distilled form, which takes the guidance scale as an input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Manifest
    from lambdiff.protocol.contract import Generation


def is_guided(generation: Generation, manifest: Manifest) -> bool:
    """Whether a request needs unconditional passes. Models with a guidance embedding need none at any scale."""
    return generation.guided and not manifest.guidance_embedding


def combine(output: NDArray[np.float32], guidance_scale: float) -> NDArray[np.float32]:
    """Extrapolate from the unconditional to the conditional output (Ho and Salimans 2022, eq. 6).

    Args:
        output: shape (2, channels, height, width): the unconditional pass, then the conditional one.
        guidance_scale: 1 gives the conditional output.

    Returns:
        Shape (1, channels, height, width).
    """
    unconditional, conditional = output[:1], output[1:]
    return unconditional + np.float32(guidance_scale) * (conditional - unconditional)


def embedded_scale(generation: Generation, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Return the input of a UNet that embeds the guidance scale; nothing for others."""
    if not manifest.guidance_embedding:
        return {}
    return {"timestep_cond": guidance_embedding(generation.guidance_scale, manifest.guidance_embedding)}


def guidance_embedding(guidance_scale: float, width: int) -> NDArray[np.float32]:
    """Return the guidance scale as a sinusoidal embedding of shape (1, width), an input of guidance-distilled UNets.

    Source: Meng and others 2022, "On distillation of guided diffusion models". The formula is that of the timestep
    embedding in Google's `vdm` code, applied to `1000 * (guidance_scale - 1)`.
    """
    half = width // 2
    frequencies = np.exp(np.arange(half) * -(np.log(10_000.0) / (half - 1)))
    angles = (guidance_scale - 1) * 1000.0 * frequencies
    embedding = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    return embedding[None].astype(np.float32)
