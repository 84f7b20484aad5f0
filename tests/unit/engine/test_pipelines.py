"""The families' pipelines with a fake runtime: its calls and inputs, and the resulting latents (engine/pipelines)."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np
import pytest

from lambdiff.engine import latents
from lambdiff.engine.manifest import Approximations, Family, Manifest
from lambdiff.engine.pipelines import PIPELINES
from lambdiff.engine.pipelines.base import Conditioning
from lambdiff.engine.pipelines.unet import UNetDenoiser
from lambdiff.errors import Cancelled
from lambdiff.protocol.contract import Defaults, GenerateRequest

pytestmark = pytest.mark.engine

DEFAULTS = Defaults(num_inference_steps=4, guidance_scale=5.0, width=64, height=96, scheduler="ddim")
MANIFEST = Manifest(
    format=1, name="m", revision="1", license="MIT", engine="openvino", precision="f32", defaults=DEFAULTS, files=[]
)


class FakeRuntime:
    """Predicts a constant for each sample: 1 for the negative prompt, 3 for the prompt."""

    def __init__(self):
        self.served = []
        self.inputs = []

    def serve(self, part, shapes):
        self.served.append((part, list(shapes)))
        return self.run

    def run(self, inputs):
        self.inputs.append(inputs)
        return (np.ones_like(inputs["sample"]) * inputs["encoder_hidden_states"][:, :1, :1, None],)


def conditioning(*, guided):
    """Return embeddings of one value each."""
    values = [1.0, 3.0] if guided else [3.0]
    return Conditioning({"encoder_hidden_states": np.array(values, np.float32).reshape(-1, 1, 1)}, guided)


def denoise(manifest=MANIFEST, on_step=None, **fields):
    """Denoise a request; return the latents and the runtime that was called."""
    generation = GenerateRequest(prompt="x", seed=1, **fields).resolve(manifest.defaults)
    runtime = FakeRuntime()
    denoiser = UNetDenoiser(manifest, runtime)
    return denoiser.denoise(generation, conditioning(guided=generation.guided), on_step), runtime


def test_every_family_has_a_pipeline():
    """Each family that a manifest may name has a pipeline."""
    assert set(PIPELINES) == set(get_args(Family))


def test_a_guided_call_has_two_equal_samples():
    """A guided call has the same latents twice, with both prompts, and timesteps decrease from call to call."""
    _, runtime = denoise()
    assert len(runtime.inputs) == 4
    for inputs in runtime.inputs:
        assert inputs["sample"].shape == (2, 4, 12, 8)
        assert inputs["sample"].dtype == np.float32
        assert (inputs["sample"][0] == inputs["sample"][1]).all()
        assert inputs["encoder_hidden_states"].ravel().tolist() == [1.0, 3.0]
    timesteps = [float(inputs["timestep"][0]) for inputs in runtime.inputs]
    assert timesteps == sorted(timesteps, reverse=True)


def test_an_unguided_call_has_one_sample():
    """An unguided call has one sample and the prompt's embedding."""
    _, runtime = denoise(guidance_scale=1.0)
    assert [inputs["encoder_hidden_states"].ravel().tolist() for inputs in runtime.inputs] == [[3.0]] * 4
    assert runtime.inputs[0]["sample"].shape == (1, 4, 12, 8)


def test_guidance_extrapolates():
    """A guided request equals an unguided one whose model predicts the extrapolation, 1 + 5 * (3 - 1) = 11."""
    guided, _ = denoise()
    generation = GenerateRequest(prompt="x", seed=1, guidance_scale=1.0).resolve(DEFAULTS)
    extrapolated = Conditioning({"encoder_hidden_states": np.full((1, 1, 1), 11.0, np.float32)}, guided=False)
    plain = UNetDenoiser(MANIFEST, FakeRuntime()).denoise(generation, extrapolated, None)
    np.testing.assert_allclose(guided, plain, rtol=1e-6)
    assert guided.shape == latents.latents_shape(generation, MANIFEST)


@pytest.mark.parametrize(
    ("interval", "guidance_scale", "batches"),
    [((0.0, 1.0), 5.0, [2]), ((0.0, 1.0), 1.0, [1]), ((0.0, 0.5), 5.0, [2, 1]), ((0.0, 0.5), 1.0, [1])],
)
def test_graphs_are_chosen_for_the_whole_request(interval, guidance_scale, batches):
    """The runtime learns all shapes of a request before its first call."""
    manifest = msgspec.structs.replace(MANIFEST, approximations=Approximations(guidance_interval=interval))
    _, runtime = denoise(manifest, guidance_scale=guidance_scale)
    assert runtime.served == [("unet", [(batch, 12, 8, 1) for batch in batches])]
    assert {len(inputs["sample"]) for inputs in runtime.inputs} == set(batches)


def test_deepcache_adds_a_part():
    """With DeepCache, the UNet's outer layers are a separate part that is made from the UNet's file."""
    manifest = msgspec.structs.replace(MANIFEST, approximations=Approximations(deepcache_interval=2))
    parts = UNetDenoiser(manifest, FakeRuntime()).parts
    assert [(part.name, part.stem) for part in parts] == [("unet", "unet"), ("unet_outer", "unet")]
    assert [part.name for part in UNetDenoiser(MANIFEST, FakeRuntime()).parts] == ["unet"]


def test_steps_are_reported_and_can_be_cancelled():
    """The callback receives (steps done, steps in total), and returning True cancels before the next call."""
    seen = []
    with pytest.raises(Cancelled, match="after step 2 of 4"):
        denoise(on_step=lambda done, total: seen.append((done, total)) or done == 2)
    assert seen == [(1, 4), (2, 4)]
