"""A checkpoint with a LoRA and embeddings gives the images of diffusers' own pipeline with the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lambdiff.bake.bake import bake
from lambdiff.engine import latents
from lambdiff.engine import manifest as manifests
from lambdiff.engine.diffusers import DiffusersEngine, make_scheduler
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.protocol.contract import GenerateRequest
from support import original_layout, tiny_checkpoint, tiny_lora

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, because in networks this small additional threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdiff.engine.cpu.threads", lambda: 1)
        yield


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite for equal images."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(np.inf if error == 0 else 10 * np.log10(255**2 / error))


def images(folder: Path, pipeline: Any, prompt: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the image of a baked folder, and that of diffusers' pipeline with the same latents and scheduler."""
    manifest = manifests.read(folder)
    is_openvino = manifest.engine == "openvino"
    engine = OpenVinoEngine(folder, manifest, precision="f32") if is_openvino else DiffusersEngine(folder, manifest)
    request = GenerateRequest(prompt=prompt, seed=3, width=64, height=64, num_inference_steps=3)
    generation = request.resolve(manifest.defaults)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(generation.scheduler, manifest.diffusion)
    reference = pipeline(
        prompt,
        num_inference_steps=3,
        guidance_scale=generation.guidance_scale,
        width=64,
        height=64,
        latents=torch.from_numpy(latents.initial_latents(generation, manifest)),
        output_type="np",
    ).images[0]
    return engine.generate(generation).pixels, (reference * 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("family", "engine", "names"),
    [
        ("sd1", "openvino", "kohya"),
        ("sd2", "openvino", "diffusers"),
        ("sdxl", "openvino", "kohya"),
        ("sdxl", "diffusers", "kohya-sgm"),
    ],
)
def test_a_checkpoint_with_a_lora_and_embeddings_agrees(family: Any, engine: Any, names: Any, tmp_path: Path) -> None:
    """The image agrees to 40 dB, and each file changes it: without them, diffusers gives another image."""
    prediction = "v" if family == "sd2" else "epsilon"
    pipeline = tiny_checkpoint.pipeline(family, prediction=prediction)
    checkpoint = original_layout.save(original_layout.checkpoint(pipeline), tmp_path / "model.safetensors")
    lora = tiny_lora.save(tiny_lora.make(pipeline, names, rank=lambda n: 2 + n % 3), tmp_path / "lora.safetensors")
    torch.manual_seed(5)
    widths = {"clip_l": 32, "clip_g": 64} if family == "sdxl" else {"emb_params": 64 if family == "sd2" else 32}
    vectors = {name: torch.randn(3, width) for name, width in widths.items()}
    save_file(vectors, tmp_path / "style.safetensors")

    bake(
        checkpoint,
        tmp_path / "out",
        engine=engine,
        precision="f32" if engine == "openvino" else "auto",
        prediction=prediction,
        loras=[(lora, 0.8)],
        embeddings=[("mystyle", tmp_path / "style.safetensors")],
    )
    prompt = "a cat in mystyle, with a hat"
    plain = images(tmp_path / "out", pipeline, prompt)
    parts = [("clip_l", ""), ("clip_g", "_2")] if family == "sdxl" else [("emb_params", "")]
    for name, part in parts:
        text_encoder, tokenizer = (getattr(pipeline, f"{kind}{part}") for kind in ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(vectors[name], token="mystyle", text_encoder=text_encoder, tokenizer=tokenizer)
    without_lora = images(tmp_path / "out", pipeline, prompt)
    pipeline.load_lora_weights(str(tmp_path), weight_name=lora.name)
    pipeline.set_adapters(pipeline.get_active_adapters(), [0.8])
    ours, theirs = images(tmp_path / "out", pipeline, prompt)
    assert ours.std() > 10
    assert psnr(*plain) < psnr(*without_lora) < 30
    assert psnr(ours, theirs) >= 40
