"""Noise and guidance embeddings, the inputs that both engines share."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from lambdiff.engine import latents
from lambdiff.engine.manifest import Latents, Manifest
from lambdiff.protocol.contract import Defaults, GenerateRequest

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=1.0, width=64, height=64, scheduler="euler")
MANIFEST = Manifest(
    format=1, name="m", revision="1", license="MIT", engine="openvino", precision="f32", defaults=DEFAULTS, files=[]
)


PINNED = {0: [0.059911, 0.0155596, -1.1644385, -0.1326471], 2**32 - 1: [2.0228631, -0.3747045, 0.3499499, 0.5658406]}


def first(manifest=MANIFEST, **fields):
    """The first noise of a request."""
    generation = GenerateRequest(prompt="x", **{"seed": 1} | fields).resolve(manifest.defaults)
    return latents.initial_latents(generation, manifest, latents.noise_generator(generation.seed))


def test_noise_is_pinned():
    """These numbers are part of what a seed means: a change of them changes every picture."""
    np.testing.assert_allclose(first(seed=0).ravel()[:4], PINNED[0], atol=1e-6)
    np.testing.assert_allclose(first(seed=2**32 - 1).ravel()[:4], PINNED[2**32 - 1], atol=1e-6)


def test_shape_follows_size_and_manifest():
    """Height comes before width, both divided by the decoder's factor."""
    manifest = msgspec.structs.replace(MANIFEST, latents=Latents(channels=12, factor=8))
    assert first(manifest, width=64, height=104).shape == (1, 12, 13, 8)
    assert first(manifest).dtype == np.float32


def test_sizes_are_rounded_up_to_what_the_model_can():
    """Sides of the latents are multiples of the manifest's."""
    manifest = msgspec.structs.replace(MANIFEST, latents=Latents(factor=8, multiple=4))
    assert first(manifest, width=64, height=72).shape == (1, 4, 12, 8)
    assert first(manifest, width=1024, height=200).shape == (1, 4, 28, 128)


def test_a_model_of_one_size_draws_that_size():
    """The requested size changes nothing about the noise, so the same seed is the same picture at any size."""
    manifest = msgspec.structs.replace(MANIFEST, native_size=(128, 96))
    assert first(manifest, width=512, height=512).shape == (1, 4, 12, 16)
    assert (first(manifest, width=64) == first(manifest, width=1024)).all()


def test_noise_is_standard_normal_and_seeds_differ():
    """Mean 0, deviation 1, and neighbouring seeds are not alike."""
    one, other = first(width=1024, height=1024), first(width=1024, height=1024, seed=2)
    assert abs(one.mean()) < 0.02
    assert abs(one.std() - 1) < 0.02
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.engine
@pytest.mark.parametrize("width", [32, 256, 257])
@pytest.mark.parametrize("scale", [1.0, 7.5, 8.0])
def test_guidance_embedding_is_that_of_diffusers(width, scale):
    """The same numbers as diffusers' pipelines feed, odd widths padded with zero."""
    import torch
    from diffusers import StableDiffusionPipeline

    expected = StableDiffusionPipeline.get_guidance_scale_embedding(None, torch.tensor([scale - 1]), width)
    found = latents.guidance_embedding(scale, width)
    assert found.shape == (1, width)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)
