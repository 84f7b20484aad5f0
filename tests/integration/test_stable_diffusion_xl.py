"""Stable Diffusion XL gives the images of diffusers' own pipeline with the same latents."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from lambdiff.bake.bake import bake
from lambdiff.engine import latents
from lambdiff.engine import manifest as manifests
from lambdiff.engine.diffusers import DiffusersEngine, make_scheduler, seeded_steps
from lambdiff.engine.manifest import Approximations
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.engine.pixels import to_pixels
from lambdiff.protocol.contract import SIGMA_SCHEDULED, GenerateRequest, Generation, SchedulerName
from support import tiny_pipeline, tiny_xl

pytestmark = pytest.mark.engine

PROMPT = "a cat in the top hat"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, because in networks this small additional threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdiff.engine.cpu.threads", lambda: 1)
        yield


@functools.cache
def baked(name: str = "sdxl", **options: Any) -> Path:
    """Return a model folder."""
    out = tiny_pipeline.scratch() / f"xl-{name}-{'-'.join(map(str, options.values()))}-baked"
    bake(tiny_xl.folder(name), out, **options)
    return out


@functools.cache
def engine(name: str = "sdxl", precision: str = "f32") -> OpenVinoEngine:
    """Return the OpenVINO engine with f32 arithmetic."""
    folder = baked(name, precision=precision)
    return OpenVinoEngine(folder, manifests.read(folder), precision="f32")


@functools.cache
def pipeline(name: str) -> Any:
    """Return diffusers' own pipeline."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl.folder(name))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def request_to(engine: OpenVinoEngine, **fields: Any) -> Generation:
    """Return a small request with some fields changed."""
    small = {"prompt": PROMPT, "seed": 7, "width": 64, "height": 64, "num_inference_steps": 3}
    return GenerateRequest(**small | fields).resolve(engine.manifest.defaults)


def expected(name: str, engine: OpenVinoEngine, generation: Generation) -> np.ndarray:
    """Return the pixels of diffusers' pipeline; None as the negative prompt stands for an empty one."""
    diffusion = engine.manifest.diffusion
    reference = pipeline(name)
    reference.scheduler = make_scheduler(generation.scheduler, diffusion, generation.sigma_schedule)
    with seeded_steps(reference.scheduler, latents.step_noise(generation.seed)):
        images = reference(
            generation.prompt,
            negative_prompt=generation.negative_prompt or None,
            num_inference_steps=generation.num_inference_steps,
            guidance_scale=generation.guidance_scale,
            width=generation.width,
            height=generation.height,
            latents=torch.from_numpy(latents.initial_latents(generation, engine.manifest)),
            output_type="pt",
        ).images
    return to_pixels(images.numpy() * 2 - 1)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite for equal images."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(np.inf if error == 0 else 10 * np.log10(255**2 / error))


@pytest.mark.parametrize(("name", "precision", "bound"), [("sdxl", "f32", 70), ("vega", "f16", 40)])
@pytest.mark.parametrize(
    "fields",
    [
        {"guidance_scale": 5.0, "width": 256, "height": 128},
        {"guidance_scale": 5.0, "negative_prompt": "dog"},
        {"guidance_scale": 1.0, "height": 512},
    ],
    ids=["empty-negative", "negative", "unguided"],
)
def test_images_equal_diffusers(name: str, precision: str, bound: float, fields: dict[str, Any]) -> None:
    """At several sizes, with and without words in the negative prompt: 70 dB stored in f32, and 40 dB in f16.

    One of the models has zeros in place of an empty negative prompt, and the other lacks layers at several places.
    """
    ours = engine(name, precision)
    request = request_to(ours, **fields)
    pixels = ours.generate(request).pixels
    assert pixels.shape == (request.height, request.width, 3)
    assert pixels.std() > 10
    assert psnr(pixels, expected(name, ours, request)) >= bound


def test_an_embedded_guidance_scale_equals_diffusers() -> None:
    """A model with a guidance embedding and a tiny decoder needs no unconditional pass: 40 dB stored in f16."""
    ours = engine("distilled", "f16")
    request = request_to(ours)
    assert request.guidance_scale > 1
    assert psnr(ours.generate(request).pixels, expected("distilled", ours, request)) >= 40


def test_one_step_of_trailing_timesteps_equals_diffusers() -> None:
    """SDXL-Turbo's scheduler, one step without guidance."""
    noise = msgspec.structs.replace(engine().manifest.diffusion, timestep_spacing="trailing")
    manifest = msgspec.structs.replace(engine().manifest, diffusion=noise)
    ours = OpenVinoEngine(engine().folder, manifest, precision="f32")
    request = request_to(ours, scheduler="euler_ancestral", num_inference_steps=1, guidance_scale=0.0)
    assert psnr(ours.generate(request).pixels, expected("sdxl", ours, request)) >= 70


def test_an_empty_negative_prompt_can_be_encoded() -> None:
    """With `force_zeros_for_empty_prompt: false`, the unconditional pass differs from that of zeros."""
    ours = engine("vega", "f16")
    assert not ours.manifest.text.zeros_for_empty_negative
    text = msgspec.structs.replace(ours.manifest.text, zeros_for_empty_negative=True)
    zeros = OpenVinoEngine(ours.folder, msgspec.structs.replace(ours.manifest, text=text), precision="f32")
    request = request_to(ours)
    assert psnr(ours.generate(request).pixels, zeros.generate(request).pixels) < 40


@pytest.mark.parametrize(
    ("scheduler", "sigma_schedule"),
    [(name, "normal") for name in get_args(SchedulerName)] + [(name, "karras") for name in SIGMA_SCHEDULED],
)
def test_all_samplers_equal_diffusers(scheduler: Any, sigma_schedule: Any) -> None:
    """Every sampler with each of its noise levels, guided: 60 dB."""
    ours = engine()
    request = request_to(ours, scheduler=scheduler, sigma_schedule=sigma_schedule, guidance_scale=4.0)
    assert psnr(ours.generate(request).pixels, expected("sdxl", ours, request)) >= 60


def test_deepcache_reuses_features() -> None:
    """DeepCache changes the image a little; its whole calls are those of the complete UNet."""
    ours = engine()
    manifest = msgspec.structs.replace(ours.manifest, approximations=Approximations(deepcache_interval=2))
    cached = OpenVinoEngine(ours.folder, manifest, precision="f32")
    one, several = request_to(ours, num_inference_steps=1), request_to(ours, num_inference_steps=4)
    assert psnr(cached.generate(one).pixels, ours.generate(one).pixels) >= 70
    assert 15 < psnr(cached.generate(several).pixels, ours.generate(several).pixels) < 60


def test_the_diffusers_engine_agrees() -> None:
    """Both engines generate the same image."""
    folder = baked(engine="diffusers")
    theirs = DiffusersEngine(folder, manifests.read(folder))
    for negative_prompt in ("", "dog"):
        request = request_to(engine(), negative_prompt=negative_prompt)
        assert psnr(engine().generate(request).pixels, theirs.generate(request).pixels) >= 70
