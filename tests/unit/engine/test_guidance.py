"""Classifier-free guidance and guidance embeddings (engine/guidance.py)."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from lambdiff.engine import guidance
from lambdiff.engine.manifest import Manifest
from lambdiff.protocol.contract import Defaults, GenerateRequest

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=1.0, width=64, height=64, scheduler="euler")
MANIFEST = Manifest(
    format=1, name="m", revision="1", license="MIT", engine="openvino", precision="f32", defaults=DEFAULTS, files=[]
)


@pytest.mark.parametrize(("scale", "embedding", "guided"), [(1.0, None, False), (4.0, None, True), (4.0, 256, False)])
def test_guidance_needs_an_unconditional_pass(scale, embedding, guided):
    """A scale above 1 needs an unconditional pass, unless the model takes the scale as an input."""
    generation = GenerateRequest(prompt="x", guidance_scale=scale).resolve(DEFAULTS)
    manifest = msgspec.structs.replace(MANIFEST, guidance_embedding=embedding)
    assert guidance.is_guided(generation, manifest) is guided


def test_combining_extrapolates_from_the_unconditional_output():
    """At scale 1 the result is the conditional output; above it, the difference is extrapolated."""
    output = np.random.default_rng(0).standard_normal((2, 4, 3, 3), np.float32)
    np.testing.assert_allclose(guidance.combine(output, 1.0), output[1:], atol=1e-6)
    expected = output[:1] + 7.5 * (output[1:] - output[:1])
    combined = guidance.combine(output, 7.5)
    np.testing.assert_allclose(combined, expected, rtol=1e-5)
    assert (combined.shape, combined.dtype) == ((1, 4, 3, 3), np.float32)


@pytest.mark.engine
@pytest.mark.parametrize("width", [32, 256, 257])
@pytest.mark.parametrize("scale", [1.0, 7.5, 8.0])
def test_the_guidance_embedding_equals_diffusers(width, scale):
    """Guidance embeddings equal those of diffusers' pipelines, including odd widths, which are padded with zero."""
    import torch
    from diffusers import StableDiffusionPipeline

    expected = StableDiffusionPipeline.get_guidance_scale_embedding(None, torch.tensor([scale - 1]), width)
    embedding = guidance.guidance_embedding(scale, width)
    assert embedding.shape == (1, width)
    np.testing.assert_allclose(embedding, expected.numpy(), atol=2e-3)
