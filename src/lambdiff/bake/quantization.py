"""Quantize the UNet to eight bits: weights and activations, calibrated while the model generates images.

Activations are rounded to the ranges observed while the model generates images for some prompts (post-training
quantization by NNCF, with SmoothQuant: Xiao and others 2023, https://arxiv.org/abs/2211.10438). This changes the
images, so the quantized UNet is kept only if its images for other prompts stay close to those of the original.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import nncf
import numpy as np
import openvino
from numpy.typing import NDArray

from lambdiff.bake import output_folder
from lambdiff.bake.parameters import Progress
from lambdiff.engine.core import core
from lambdiff.engine.manifest import Approximations, Manifest
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.errors import ModelError

PROMPTS: Final = (
    "a cat in a top hat",
    "a photo of an astronaut riding a horse on the moon",
    "portrait of an old fisherman, oil painting",
    "a bowl of ramen with an egg, top view",
    "a red vintage car in front of a brick house",
    "snowy mountains at sunrise, long exposure",
    "a watercolor of a fox in the forest",
    "city street at night in the rain, neon lights",
    "a wooden chair next to a window, interior design",
    "macro photograph of a dew drop on a leaf",
    "a golden retriever puppy playing in the grass",
    "a castle on a cliff above the sea, fantasy art",
    "pencil sketch of a sailing ship",
    "a plate of strawberries and cream",
    "a robot reading a book, 3d render",
    "a field of sunflowers under a blue sky",
)
"""The default prompts. Every fourth is held out for the comparison; the others calibrate."""

MAX_CALLS: Final = 96
"""Maximum number of UNet calls for calibration, sampled at random from all steps of all prompts."""

MIN_PSNR: Final = 25.0
"""In dB, for the median held-out image: about the effect of bf16 arithmetic instead of f32 on a guided image."""


def quantize_unet(folder: Path, manifest: Manifest, prompts: tuple[str, ...], progress: Progress) -> float:
    """Replace a folder's UNet with one that has eight-bit weights and activations.

    Args:
        folder: a baked folder whose UNet is stored in f32 or f16.
        manifest: its manifest. Calibration uses its defaults, but not its approximations.
        prompts: at least 8, all distinct; every fourth is held out for the comparison.
        progress: called before each step.

    Returns:
        PSNR in dB of the median held-out image, compared with the original UNet's image.

    Raises:
        ModelError: the UNet cannot be quantized, or its images differ too much; the folder is unchanged.
    """
    exact = msgspec.structs.replace(manifest, approximations=Approximations())
    held_out = prompts[3::4]
    before, calls = _calibrate(folder, exact, prompts, held_out, progress)
    progress("quantizing unet")
    nncf.set_log_level(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            quantized = nncf.quantize(
                core().read_model(folder / "unet.xml"),
                nncf.Dataset(calls),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                # With eight-bit inputs, OpenVINO decomposes attention, and on AVX2 it then holds all attention scores
                # in memory at once: 6.5 instead of 1.8 GB for an image of 512x512.
                ignored_scope=nncf.IgnoredScope(types=["ScaledDotProductAttention"]),
                subset_size=len(calls),
            )
    except Exception as error:  # NNCF raises no narrower class
        raise ModelError(
            f"The UNet cannot be quantized: {str(error).splitlines()[0][:200]}", fix='Pass `precision="int8"`.'
        ) from error
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        candidate = Path(scratch, "model")
        shutil.copytree(folder, candidate, ignore=shutil.ignore_patterns("unet.*"))
        with output_folder.library_writes("unet"):
            openvino.save_model(quantized, candidate / "unet.xml", compress_to_fp16=True)
        engine = OpenVinoEngine(candidate, exact)
        after = [_generate(engine, prompt) for prompt in held_out]
        del engine
        quality = float(np.median([_psnr(*pair) for pair in zip(before, after, strict=True)]))
        progress(f"unet: {quality:.1f} dB")
        if quality < MIN_PSNR:
            raise ModelError(
                f"The quantized model's images differ too much: {quality:.1f} dB (required: {MIN_PSNR:.0f} dB).",
                fix='Pass `precision="int8"`, which keeps activations exact, or your own prompts as `calibration=`.',
            )
        for path in candidate.glob("unet.*"):
            path.replace(folder / path.name)
    return quality


def _calibrate(
    folder: Path, manifest: Manifest, prompts: tuple[str, ...], held_out: tuple[str, ...], progress: Progress
) -> tuple[list[NDArray[np.uint8]], list[dict[str, Any]]]:
    """Return the images of the held-out prompts, and inputs of UNet calls for the others."""
    recorded: list[dict[str, Any]] = []

    def record(part: str, inputs: dict[str, Any]) -> None:
        if part == "unet":
            recorded.append({name: np.array(value) for name, value in inputs.items()})

    engine = OpenVinoEngine(folder, manifest, observe=record)
    calibrating = [prompt for prompt in prompts if prompt not in held_out]
    for number, prompt in enumerate(calibrating, start=1):
        progress(f"calibrating: prompt {number} of {len(calibrating)}")
        _generate(engine, prompt)
    # A random sample, because every n-th call would be the same steps of every prompt.
    calls = random.Random(0).sample(recorded, min(len(recorded), MAX_CALLS))  # noqa: S311 -- no secret
    return [_generate(engine, prompt) for prompt in held_out], calls


def _generate(engine: OpenVinoEngine, prompt: str) -> NDArray[np.uint8]:
    manifest = engine.manifest
    request = manifest.defaults.sample_request(prompt, manifest.limits)
    return engine.generate(request.resolve(manifest.defaults)).pixels


def _psnr(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two images in dB."""
    error = np.mean((image.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-3)))
