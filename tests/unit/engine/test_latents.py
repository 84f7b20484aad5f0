"""The size and the noise of the initial latents (engine/latents.py)."""

from __future__ import annotations

import msgspec
import numpy as np

from lambdiff.engine import latents
from lambdiff.engine.manifest import Latents, Manifest
from lambdiff.protocol.contract import Defaults, GenerateRequest

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=1.0, width=64, height=64, scheduler="euler")
MANIFEST = Manifest(
    format=1, name="m", revision="1", license="MIT", engine="openvino", precision="f32", defaults=DEFAULTS, files=[]
)

PINNED = {0: [0.059911, 0.0155596, -1.1644385, -0.1326471], 2**32 - 1: [2.0228631, -0.3747045, 0.3499499, 0.5658406]}


def initial(manifest=MANIFEST, **fields):
    """Return a request's initial latents."""
    generation = GenerateRequest(prompt="x", **{"seed": 1} | fields).resolve(manifest.defaults)
    return latents.initial_latents(generation, manifest)


def test_noise_is_pinned():
    """The noise of a seed never changes, because a change would change every image."""
    np.testing.assert_allclose(initial(seed=0).ravel()[:4], PINNED[0], atol=1e-6)
    np.testing.assert_allclose(initial(seed=2**32 - 1).ravel()[:4], PINNED[2**32 - 1], atol=1e-6)


def test_the_shape_follows_from_size_and_manifest():
    """Latents have the manifest's channels, and height and width divided by the decoder's factor."""
    manifest = msgspec.structs.replace(MANIFEST, latents=Latents(channels=12, factor=8))
    assert initial(manifest, width=64, height=104).shape == (1, 12, 13, 8)
    assert initial(manifest).dtype == np.float32


def test_sizes_are_rounded_up_to_what_the_model_supports():
    """Height and width of the latents are rounded up to the manifest's `multiple`."""
    manifest = msgspec.structs.replace(MANIFEST, latents=Latents(factor=8, multiple=4))
    assert initial(manifest, width=64, height=72).shape == (1, 4, 12, 8)
    assert initial(manifest, width=1024, height=200).shape == (1, 4, 28, 128)


def test_a_native_size_is_always_generated():
    """With a native size, the requested size changes neither the shape of the latents nor the noise."""
    manifest = msgspec.structs.replace(MANIFEST, native_size=(128, 96))
    assert initial(manifest, width=512, height=512).shape == (1, 4, 12, 16)
    assert (initial(manifest, width=64) == initial(manifest, width=1024)).all()


def test_noise_is_standard_normal_and_seeds_differ():
    """The noise has mean 0 and deviation 1, and adjacent seeds are uncorrelated."""
    one, other = initial(width=1024, height=1024), initial(width=1024, height=1024, seed=2)
    assert abs(one.mean()) < 0.02
    assert abs(one.std() - 1) < 0.02
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


def test_the_noise_of_each_step_depends_on_seed_and_step() -> None:
    """A step's noise is the same whenever it is asked for, and independent of other steps and the initial latents."""
    noise, again = latents.step_noise(1), latents.step_noise(1)
    shape = (1, 4, 64, 64)
    second = again(1, shape)
    assert (noise(0, shape) != second).all()
    assert (noise(1, shape) == second).all()
    for other in (noise(0, shape), latents.step_noise(2)(1, shape), initial(width=512, height=512)):
        assert abs(np.corrcoef(second.ravel(), other.ravel())[0, 1]) < 0.05


def test_the_generated_size_is_rounded_up_or_native():
    """The generated size is the requested size rounded up, or else the model's native size."""
    generation = GenerateRequest(prompt="x", width=72, height=64).resolve(DEFAULTS)
    multiple = msgspec.structs.replace(MANIFEST, latents=Latents(factor=8, multiple=2))
    assert latents.generated_size(generation, MANIFEST) == (72, 64)
    assert latents.generated_size(generation, multiple) == (80, 64)
    assert latents.generated_size(generation, msgspec.structs.replace(MANIFEST, native_size=(128, 96))) == (128, 96)
