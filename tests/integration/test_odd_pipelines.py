"""Unusual pipelines give the images of diffusers' own pipeline for the same folder, in both engines.

Each kind is baked from its folder, and the same folder is loaded by diffusers, with its own scheduler. The initial
latents and the noise of each step are the same. `docs/bake.md` has the table of kinds.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from lambdiff.bake.bake import bake
from lambdiff.engine import latents
from lambdiff.engine import manifest as manifests
from lambdiff.engine.diffusers import DiffusersEngine, seeded_steps
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.protocol.contract import GenerateRequest, Generation
from support import tiny_pipeline

pytestmark = pytest.mark.engine

EngineName = Literal["openvino", "diffusers"]
UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
}
VAE: dict[str, Any] = {
    "block_out_channels": (16, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 4,
    "norm_num_groups": 8,
}
TINY: dict[str, Any] = {
    "encoder_block_out_channels": (16, 16, 16),
    "decoder_block_out_channels": (16, 16, 16),
    "num_encoder_blocks": (1, 1, 1),
    "num_decoder_blocks": (1, 1, 1),
}
NOISE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PROMPT = "a cat in the top hat with a dog on the red background two blue hat"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Use one thread, because in networks this small additional threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdiff.engine.cpu.threads", lambda: 1)
        yield


def save(
    folder: Path,
    *,
    unet: dict[str, Any] | None = None,
    vae: Any = None,
    text: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
) -> Path:
    """Save a pipeline with random weights and some settings changed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = tiny_pipeline.make_tokenizer()
    model = UNet2DConditionModel(**UNET | (unet or {}))
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text_encoder = CLIPTextModel(CLIPTextConfig(**config | (text or {})))
    with torch.no_grad():
        for parameter in text_encoder.parameters():
            parameter.mul_(3)
        model.conv_out.weight.mul_(4)
    StableDiffusionPipeline(
        vae=vae() if vae else AutoencoderKL(**VAE),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=model,
        scheduler=DDIMScheduler(**NOISE, steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    if scheduler:
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(NOISE | scheduler))
        tiny_pipeline.edit_json(folder / "model_index.json", scheduler=["diffusers", scheduler["_class_name"]])
    return folder


def unet(**changes: Any) -> Callable[[Path], Path]:
    """Change the UNet."""
    return lambda folder: save(folder, unet=changes)


def vae(**changes: Any) -> Callable[[Path], Path]:
    """Change the autoencoder."""
    return lambda folder: save(folder, vae=lambda: AutoencoderKL(**VAE | changes))


def text(**changes: Any) -> Callable[[Path], Path]:
    """Change the text encoder."""
    return lambda folder: save(folder, text=changes)


def scheduler(class_name: str, **changes: Any) -> Callable[[Path], Path]:
    """Change the scheduler."""
    return lambda folder: save(folder, scheduler={"_class_name": class_name, **changes})


def weights(change: Callable[[Path, dict[str, Any]], None]) -> Callable[[Path], Path]:
    """Store the weights in another way; `change` gets each file and its tensors."""

    def stored(folder: Path) -> Path:
        for path in list(save(folder).rglob("*.safetensors")):
            tensors = load_file(path)
            path.unlink()
            change(path, tensors)
        return folder

    return stored


def as_fp16(path: Path, tensors: dict[str, Any]) -> None:
    """Store only the variant `fp16`."""
    name = path.with_name(path.name.replace(".safetensors", ".fp16.safetensors"))
    save_file({key: value.half() for key, value in tensors.items()}, name, {"format": "pt"})


def as_type(dtype: torch.dtype) -> Callable[[Path, dict[str, Any]], None]:
    """Store the weights in another precision."""
    return lambda path, tensors: save_file({k: v.to(dtype) for k, v in tensors.items()}, path, {"format": "pt"})


def as_shards(path: Path, tensors: dict[str, Any]) -> None:
    """Store two shards and their index."""
    names = sorted(tensors)
    weight_map = {name: f"{path.stem}-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for file in set(weight_map.values()):
        own = {name: tensors[name] for name in names if weight_map[name] == file}
        save_file(own, path.with_name(file), {"format": "pt"})
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def as_links(folder: Path) -> Path:
    """Store the files elsewhere, as the hub's cache does, in a folder with an unusual name."""
    folder = save(folder.with_name("mödel of 猫 #1%20"))
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        path.rename(blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), path.parent))
    return folder


def unlimited(folder: Path) -> Path:
    """Let the tokenizer have no limit, as transformers saves it."""
    tiny_pipeline.edit_json(save(folder) / "tokenizer" / "tokenizer_config.json", model_max_length=10**30)
    return folder


def old_tokenizer(folder: Path) -> Path:
    """Store the vocabulary and the merges as older versions did."""
    tokenizer = save(folder) / "tokenizer"
    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tokenizer / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "UNet: two sample sizes": unet(sample_size=(16, 24)),
    "UNet: heads for each level": unet(attention_head_dim=(2, 4), use_linear_projection=True),
    "UNet: no middle block": unet(mid_block_type=None),
    "UNet: cross-attention only": unet(only_cross_attention=True),
    "UNet: simple cross-attention": unet(
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=8,
    ),
    "UNet: layers and depths for each level": unet(layers_per_block=(1, 2), transformer_layers_per_block=(2, 1)),
    "UNet: projected text": unet(encoder_hid_dim=32, cross_attention_dim=48),
    "UNet: random Fourier features": unet(time_embedding_type="fourier"),
    "UNet: another timestep embedding": unet(flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=96),
    "decoder: factor 16": vae(
        block_out_channels=(16,) * 5,
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
    ),
    "decoder: scale, no quantization layers": vae(scaling_factor=0.5, use_quant_conv=False, use_post_quant_conv=False),
    "decoder: AutoencoderTiny": lambda folder: save(folder, vae=lambda: AutoencoderTiny(**TINY, latent_shift=0.3)),
    "text: another activation": text(hidden_act="gelu"),
    "text: fewer positions than the tokenizer": text(max_position_embeddings=12),
    "tokenizer: no limit": unlimited,
    "tokenizer: vocab.json and merges.txt": old_tokenizer,
    "weights: fp16 only": weights(as_fp16),
    "weights: bf16": weights(as_type(torch.bfloat16)),
    "weights: f64": weights(as_type(torch.float64)),
    "weights: shards": weights(as_shards),
    "weights: links": as_links,
    "scheduler: v prediction, zero terminal SNR": scheduler(
        "DDIMScheduler",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    ),
    "scheduler: clean samples, linspace": scheduler(
        "EulerDiscreteScheduler", prediction_type="sample", timestep_spacing="linspace"
    ),
    "scheduler: third order, Karras": scheduler(
        "DPMSolverMultistepScheduler", solver_order=3, use_karras_sigmas=True, final_sigmas_type="sigma_min"
    ),
    "scheduler: trained betas": scheduler(
        "UniPCMultistepScheduler", trained_betas=np.linspace(1e-4, 0.02, 1000).tolist(), steps_offset=1
    ),
}
OPENVINO = (
    "UNet: no middle block",
    "UNet: cross-attention only",
    "UNet: simple cross-attention",
    "UNet: layers and depths for each level",
    "UNet: random Fourier features",
    "decoder: scale, no quantization layers",
    "decoder: AutoencoderTiny",
    "text: fewer positions than the tokenizer",
    "weights: fp16 only",
)
"""Those that are converted in another way; the others differ only in what both engines read in the same way."""


def reference(folder: Path, generation: Generation, manifest: Manifest) -> np.ndarray:
    """Return the image of diffusers' pipeline, cropped to the requested size."""
    variant = "fp16" if list(folder.rglob("*.fp16.safetensors")) else None
    with warnings.catch_warnings(action="ignore"):
        pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, variant=variant)
    pipeline.to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.tokenizer.model_max_length = manifest.text.max_length
    width, height = latents.generated_size(generation, manifest)
    assert "latents" in inspect.signature(pipeline.__call__).parameters
    with seeded_steps(pipeline.scheduler, latents.step_noise(generation.seed)):
        image = pipeline(
            generation.prompt,
            negative_prompt=generation.negative_prompt,
            num_inference_steps=generation.num_inference_steps,
            guidance_scale=generation.guidance_scale,
            width=width,
            height=height,
            latents=torch.from_numpy(latents.initial_latents(generation, manifest)),
            output_type="np",
        ).images[0]
    left, top = (width - generation.width) // 2, (height - generation.height) // 2
    pixels = (image * 255).round().astype(np.uint8)
    return pixels[top : top + generation.height, left : left + generation.width]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite for equal images."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(np.inf if error == 0 else 10 * np.log10(255**2 / error))


def check(folder: Path, out: Path, engine_name: EngineName) -> None:
    """Bake a folder, and compare one image that is not square, and that the UNet cannot halve evenly."""
    manifest = bake(folder, out, engine=engine_name, static_shapes=False if engine_name == "openvino" else None)
    assert manifest == manifests.verify(out)
    engine = OpenVinoEngine(out, manifest, precision="f32") if engine_name == "openvino" else DiffusersEngine(
        out, manifest
    )  # fmt: skip
    request = GenerateRequest(
        prompt=PROMPT, negative_prompt="dog", seed=3, width=104, height=72, num_inference_steps=3, guidance_scale=4.0,
        prompt_syntax="plain",
    )  # fmt: skip
    generation = request.resolve(manifest.defaults)
    ours = engine.generate(generation).pixels
    assert ours.std() > 3
    assert psnr(ours, reference(folder, generation, manifest)) >= 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_diffusers_engine_gives_diffusers_images(kind: str, tmp_path: Path) -> None:
    """40 dB from diffusers' own pipeline for the same folder."""
    check(KINDS[kind](tmp_path / "source"), tmp_path / "out", "diffusers")


@pytest.mark.parametrize("kind", OPENVINO)
def test_the_openvino_engine_gives_diffusers_images(kind: str, tmp_path: Path) -> None:
    """The same with weights stored in f16."""
    check(KINDS[kind](tmp_path / "source"), tmp_path / "out", "openvino")
