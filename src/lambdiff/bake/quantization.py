"""Fully quantised UNets: weights and activations in eight bits, calibrated on pictures being drawn.

Activations are rounded to ranges that are seen while the model draws some prompts (post-training quantisation with
NNCF, with SmoothQuant: Xiao and others 2023). The picture changes, so the UNet is kept only if pictures of other
prompts with the same seeds stay close to those of the unquantised one.
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

from lambdiff.bake.sources import Progress
from lambdiff.engine.core import core
from lambdiff.engine.manifest import Approximations, Manifest
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import GenerateRequest

PROMPTS: Final = (
    "a cat in a top hat",
    "a photo of an astronaut riding a horse on the moon",
    "portrait of an old fisherman, oil painting",
    "a bowl of ramen with an egg, top view",
    "a red vintage car in front of a brick house",
    "snowy mountains at sunrise, long exposure",
    "a watercolour of a fox in the forest",
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
"""Drawn for calibration, but for every fourth, which are those compared."""

MOST_CALLS: Final = 96
"""Calls of the UNet, drawn by lot from all steps of all prompts, whose inputs are kept for calibration."""

LOWEST_PSNR: Final = 25.0
"""In dB, of the median held-out picture: about what arithmetic in bf16 instead of f32 does to a guided picture."""


def quantize_unet(folder: Path, manifest: Manifest, prompts: tuple[str, ...], progress: Progress) -> float:
    """Replace a folder's UNet by one whose weights and activations have eight bits.

    Args:
        folder: a baked folder, its UNet not compressed below f16.
        manifest: its manifest; calibration draws with its defaults, without its approximations.
        prompts: at least 8, all different; every fourth is held out for the comparison.
        progress: told in a few words what is being done.

    Returns:
        PSNR in dB of the median held-out picture, against the one before.

    Raises:
        ModelError: the UNet cannot be quantised, or then draws other pictures; the folder is as it was.
    """
    plain = msgspec.structs.replace(manifest, approximations=Approximations())
    held_out = prompts[3::4]
    before, calls = _watched(folder, plain, prompts, held_out, progress)
    progress("quantising unet")
    nncf.set_log_level(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            quantized = nncf.quantize(
                core().read_model(folder / "unet.xml"),
                nncf.Dataset(calls),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                # OpenVINO takes attention apart if what it reads has eight bits, and held to AVX2 then has all of its
                # scores in memory at once: 6.5 instead of 1.8 GB for a picture of 512x512.
                ignored_scope=nncf.IgnoredScope(types=["ScaledDotProductAttention"]),
                subset_size=len(calls),
            )
    except Exception as error:  # NNCF raises nothing narrower
        raise ModelError(
            f"The UNet cannot be quantised: {str(error).splitlines()[0][:200]}", fix="Bake with --precision int8."
        ) from error
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tried = Path(scratch, "model")
        shutil.copytree(folder, tried, ignore=shutil.ignore_patterns("unet.*"))
        openvino.save_model(quantized, tried / "unet.xml", compress_to_fp16=True)
        engine = OpenVinoEngine(tried, plain)
        after = [_draw(engine, prompt) for prompt in held_out]
        del engine
        quality = float(np.median([_psnr(*pair) for pair in zip(before, after, strict=True)]))
        progress(f"unet: {quality:.1f} dB")
        if quality < LOWEST_PSNR:
            raise ModelError(
                f"Quantised, the model draws other pictures: {quality:.1f} dB (allowed: {LOWEST_PSNR:.0f} dB or more).",
                fix="Bake with --precision int8, which leaves activations alone, or give prompts like yours "
                "with --calibration.",
            )
        for path in tried.glob("unet.*"):
            path.replace(folder / path.name)
    return quality


def _watched(
    folder: Path, manifest: Manifest, prompts: tuple[str, ...], held_out: tuple[str, ...], progress: Progress
) -> tuple[list[NDArray[np.uint8]], list[dict[str, Any]]]:
    """The pictures of the held-out prompts, and inputs of calls of the UNet for the others."""
    recorded: list[dict[str, Any]] = []

    def record(part: str, inputs: dict[str, Any]) -> None:
        if part == "unet":
            recorded.append({name: np.array(value) for name, value in inputs.items()})

    engine = OpenVinoEngine(folder, manifest, observe=record)
    shown = [prompt for prompt in prompts if prompt not in held_out]
    for number, prompt in enumerate(shown, start=1):
        progress(f"calibrating: prompt {number} of {len(shown)}")
        _draw(engine, prompt)
    # Drawn by lot: every n-th would be the same steps of each prompt.
    calls = random.Random(0).sample(recorded, min(len(recorded), MOST_CALLS))  # noqa: S311 -- no secret
    return [_draw(engine, prompt) for prompt in held_out], calls


def _draw(engine: OpenVinoEngine, prompt: str) -> NDArray[np.uint8]:
    return engine.generate(GenerateRequest(prompt=prompt, seed=0).resolve(engine.manifest.defaults)).pixels


def _psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-3)))
